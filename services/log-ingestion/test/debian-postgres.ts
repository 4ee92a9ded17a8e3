// Debian's PostgreSQL and PgBouncer, as an operator has them: servers of their own, on TCP, in a folder that goes with the test.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { openSql } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { pollUntil } from '../../../test/kit/poll.ts'
import { unusedPort } from '../../../test/kit/ports.ts'

const run = promisify(execFile)
/** Another folder of servers, one per version, as Debian lays them out: where TimescaleDB is not packaged, a copy with it. */
const home = process.env.PURSER_TEST_POSTGRES ?? '/usr/lib/postgresql'
const isRoot = process.getuid?.() === 0

export const whyNoPostgres = existsSync(home) ? false : 'Debian’s PostgreSQL is not installed'
export const whyNoPgBouncer = existsSync('/usr/sbin/pgbouncer') ? whyNoPostgres : 'PgBouncer is not installed'

export interface DebianPostgres {
  port: number
  /** Superuser, without password on loopback. */
  url(database: string): string
}

/** Whether the server could load it. */
export const hasTimescale =
  existsSync(home) && existsSync(join(home, readdirSync(home).sort().at(-1) ?? '', 'lib', 'timescaledb.so'))

export async function startDebianPostgres(
  t: TestContext,
  o: { tls?: true; timescale?: 'timescale' | 'apache' } = {},
): Promise<DebianPostgres> {
  const bin = join(home, readdirSync(home).sort().at(-1) ?? '', 'bin')
  const dir = await folder(t)
  const port = await unusedPort()
  await asPostgres(join(bin, 'initdb'), ['-D', join(dir, 'data'), '-U', 'postgres', '-A', 'trust', '-N'])
  const tls = ['-c', 'ssl=on', '-c', `ssl_cert_file=${dir}/server.crt`, '-c', `ssl_key_file=${dir}/server.key`]
  if (o.tls)
    await asPostgres('openssl', [
      ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost', '-days', '1'],
      ...['-keyout', `${dir}/server.key`, '-out', `${dir}/server.crt`],
    ])
  const timescale = [
    ...['-c', 'shared_preload_libraries=timescaledb', '-c', `timescaledb.license=${o.timescale}`],
    ...['-c', 'timescaledb.telemetry_level=off'],
  ]
  const server = startAsPostgres(t, join(bin, 'postgres'), [
    ...(o.tls ? tls : []),
    ...(o.timescale ? timescale : []),
    ...['-D', join(dir, 'data'), '-p', String(port), '-k', dir, '-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off'],
  ])
  const url = (database: string) => `postgres://postgres@127.0.0.1:${port}/${database}`
  await answers(url('postgres'), server)
  return { port, url }
}

/** A streaming replica of it, hot. */
export async function startStandby(t: TestContext, primary: DebianPostgres): Promise<DebianPostgres> {
  const bin = join(home, readdirSync(home).sort().at(-1) ?? '', 'bin')
  const dir = await folder(t)
  const port = await unusedPort()
  const from = ['-h', '127.0.0.1', '-p', String(primary.port), '-U', 'postgres']
  await asPostgres(join(bin, 'pg_basebackup'), [...from, '-D', join(dir, 'data'), '-R', '-X', 'stream', '-c', 'fast'])
  const server = startAsPostgres(t, join(bin, 'postgres'), [
    ...['-D', join(dir, 'data'), '-p', String(port), '-k', dir, '-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off'],
  ])
  const url = (database: string) => `postgres://postgres@127.0.0.1:${port}/${database}`
  await answers(url('postgres'), server)
  return { port, url }
}

/** In transaction mode, as strict as it comes: no startup parameter is waved through. */
export async function startPgBouncer(t: TestContext, server: DebianPostgres, database: string): Promise<string> {
  const dir = await folder(t)
  const port = await unusedPort()
  await writeFile(
    join(dir, 'pgbouncer.ini'),
    `[databases]
${database} = host=127.0.0.1 port=${server.port} dbname=${database} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
max_client_conn = 100
`,
  )
  await chmod(join(dir, 'pgbouncer.ini'), 0o644)
  const bouncer = startAsPostgres(t, '/usr/sbin/pgbouncer', [join(dir, 'pgbouncer.ini')])
  const url = `postgres://postgres@127.0.0.1:${port}/${database}?pgbouncer=true`
  await answers(url, bouncer)
  return url
}

async function answers(url: string, server: ChildProcess): Promise<void> {
  const log = createLog({ service: 'test', level: 'silent', format: 'json' })
  const sql = openSql({ url, max: 1, applicationName: 'test-kit', log })
  try {
    await pollUntil(async () => server.exitCode !== null || (await sql`select 1`).length === 1, {
      what: `${url} to answer`,
    })
  } finally {
    await sql.end({ timeout: 1 })
  }
}

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'purser-pg-'))
  if (isRoot) await chown(dir, ...(await postgresIds()))
  t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 5 }))
  return dir
}

/** Neither program runs as root. */
async function postgresIds(): Promise<[number, number]> {
  const id = async (flag: string) => Number((await run('id', [flag, 'postgres'])).stdout)
  return [await id('-u'), await id('-g')]
}

async function asPostgres(program: string, args: string[]): Promise<void> {
  await (isRoot ? run('runuser', ['-u', 'postgres', '--', program, ...args]) : run(program, args))
}

function startAsPostgres(t: TestContext, program: string, args: string[]): ChildProcess {
  const child = isRoot
    ? spawn('setpriv', ['--reuid=postgres', '--regid=postgres', '--clear-groups', '--', program, ...args], {
        stdio: 'ignore',
      })
    : spawn(program, args, { stdio: 'ignore' })
  // Before the folder is removed, and after the hooks of what is connected: those are registered later and run later.
  t.after(() => stop(child))
  return child
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  const exited = new Promise(resolve => server.once('close', resolve))
  server.kill('SIGQUIT')
  await exited
}
