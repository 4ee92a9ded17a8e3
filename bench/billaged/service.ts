import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { openSql, type Sql, startEmbedded } from '#platform/postgres'
import { createLog } from '#platform/telemetry'

// billaged as a process of its own, over one PostgreSQL with fsync; each run has a database and a folder of its own.

export const key = 'bench-operator-key-of-32-characters'

export interface Service {
  url: string
  address: { host: string; port: number }
  child: ChildProcess
  env: NodeJS.ProcessEnv
  sql: Sql
}

const log = createLog({ service: 'bench', level: 'error', format: 'json' })
const dir = mkdtempSync(join(tmpdir(), 'purser-bench-billaged-'))
const database = await startEmbedded({ dir: join(dir, 'postgres'), log })
let runs = 0

export async function closeBench() {
  await database.close()
  rmSync(dir, { recursive: true, force: true })
}

/** A database of its own, for a peer. */
export async function openPeer(max: number): Promise<Sql> {
  return openSql({ url: await newDatabase(`peer_${runs++}`), max, applicationName: 'peer', log })
}

/** Nobody gets into the service's database, and whoever is in is thrown out; or all may come again. */
export async function letInto({ env }: Service, isOpen: boolean): Promise<void> {
  const url = env.BILLAGED_DATABASE_URL ?? ''
  const name = /\/(bench_\d+)(\?|$)/.exec(url)?.[1] ?? ''
  const admin = openSql({ url: database.url, max: 1, applicationName: 'bench', log })
  await admin.unsafe(`alter database ${name} allow_connections ${isOpen}`)
  if (!isOpen) await admin`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`
  await admin.end()
}

async function newDatabase(name: string): Promise<string> {
  const admin = openSql({ url: database.url, max: 1, applicationName: 'bench', log })
  await admin.unsafe(`create database ${name}`)
  await admin.end()
  return database.url.replace(/\/purser(\?|$)/, `/${name}$1`)
}

export async function startService(): Promise<Service> {
  const name = `bench_${runs++}`
  const url = await newDatabase(name)
  const sql = openSql({ url, max: 2, applicationName: 'bench', log })
  const env = {
    PATH: process.env.PATH,
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith('MALLOC_'))),
    LOG_FORMAT: 'json',
    LOG_LEVEL: 'info',
    BILLAGED_PORT: '0',
    BILLAGED_ADDRESS: '127.0.0.1',
    BILLAGED_OTEL_PROMETHEUS_PORT: '0',
    BILLAGED_OTEL_PROMETHEUS_INTERFACE: '127.0.0.1',
    BILLAGED_DATABASE_URL: url,
    BILLAGED_API_KEY: key,
    BILLAGED_DATA_DIR: join(dir, name),
    PURSER_DATA_DIR: join(dir, name),
  }
  return { ...(await launch(env)), env, sql }
}

/** As an operator starts it, with the launcher's flags. */
export async function launch(env: NodeJS.ProcessEnv, port = '0'): Promise<Pick<Service, 'child' | 'url' | 'address'>> {
  const launcher = fileURLToPath(new URL('../../bin/billaged', import.meta.url))
  // BENCH_PROFILE=dir keeps a CPU profile of the service.
  const profile = process.env.BENCH_PROFILE
  const options = [
    process.env.BENCH_NODE_OPTIONS ?? '',
    profile === undefined ? '' : `--cpu-prof --cpu-prof-dir=${profile}`,
  ].join(' ')
  const flags = options === ' ' ? {} : { NODE_OPTIONS: options }
  const child = spawn(launcher, {
    env: { ...env, ...flags, BILLAGED_PORT: port },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines: string[] = []
  const url = await new Promise<string>((resolve, reject) => {
    child.once('exit', () => reject(new Error(`the service did not start:\n${lines.slice(-5).join('\n')}`)))
    // Listened to for as long as it runs: a full pipe would hold it up.
    createInterface({ input: child.stdout }).on('line', line => {
      if (lines.length < 1_000) lines.push(line)
      const entry: { msg?: string; url?: string } = line.startsWith('{') ? JSON.parse(line) : {}
      if (entry.msg === 'listening' && entry.url !== undefined) resolve(entry.url)
    })
  })
  const { hostname: host, port: listening } = new URL(url)
  return { child, url, address: { host, port: Number(listening) } }
}

export async function stopService({ child, sql }: Service) {
  await sql.end()
  const exited = new Promise(resolve => child.once('exit', resolve))
  child.kill('SIGTERM')
  await exited
}

export async function usage(service: Service, customer: string, query = ''): Promise<Record<string, bigint> | null> {
  const answer = await fetch(`${service.url}/v1/customers/${customer}/usage${query}`, {
    headers: { authorization: `Bearer ${key}` },
  })
  if (answer.status !== 200) return null
  const { rows } = (await answer.json()) as { rows: { meter: string; quantity: string }[] }
  return Object.fromEntries(rows.map(row => [row.meter, BigInt(row.quantity)]))
}

export async function untilFolded(service: Service) {
  for (;;) {
    const stats = (await (await fetch(`${service.url}/stats`)).json()) as { journal_bytes: number }
    if (stats.journal_bytes === 0) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

export function memoryMib({ child }: Service): number {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024
}

export function cpuSeconds({ child }: Service): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / 100
}
