import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openSql } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { Invoice } from '../api.ts'
import type { Verification } from '../close/verify.ts'
import { startChild } from './child.ts'
import { metric, minuteNs, quantityOf, temporaryFolder } from './kit.ts'

const run = promisify(execFile)
const script = fileURLToPath(new URL('../../../deploy/backup/billaged-backup.sh', import.meta.url))
const home = '/usr/lib/postgresql'
const isRoot = process.getuid?.() === 0
const month = Temporal.Now.zonedDateTimeISO('UTC').with({ day: 1 }).startOfDay().subtract({ months: 1 })
const monthName = month.toPlainDate().toString().slice(0, 7)
const startNs = month.toInstant().epochNanoseconds

/** Debian's server, as an operator has it, whose pg_dump is of the same version. */
async function startServer(t: TestContext): Promise<number> {
  const bin = join(home, readdirSync(home).sort().at(-1) ?? '', 'bin')
  const dir = temporaryFolder(t)
  const id = async (flag: string) => Number((await run('id', [flag, 'postgres'])).stdout)
  const [uid, gid] = isRoot ? [await id('-u'), await id('-g')] : [undefined, undefined]
  if (uid !== undefined && gid !== undefined) chownSync(dir, uid, gid)
  const as = uid === undefined || gid === undefined ? {} : { uid, gid, env: { PATH: process.env.PATH } }
  await run(join(bin, 'initdb'), ['-D', join(dir, 'data'), '-U', 'postgres', '-A', 'trust', '-N'], { ...as, cwd: dir })
  const port = await new Promise<number>(resolve => {
    const probe = net.createServer().listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
  const options = ['-p', `${port}`, '-k', dir, '-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off']
  const server = spawn(join(bin, 'postgres'), ['-D', join(dir, 'data'), ...options], {
    ...as,
    cwd: dir,
    stdio: 'ignore',
  })
  t.after(async () => {
    if (server.exitCode !== null) return
    const ended = new Promise(resolve => server.once('close', resolve))
    server.kill('SIGQUIT')
    await ended
  })
  return port
}

test('a backup taken while readings come in restores to a service that bills all that was acknowledged before it, verifies clean, and takes what is sent again as known', {
  skip: !existsSync(home) && 'Debian’s PostgreSQL is not installed',
  timeout: 120_000,
}, async t => {
  const port = await startServer(t)
  const url = (database: string) => `postgres://postgres@127.0.0.1:${port}/${database}`
  const admin = openSql({
    url: url('postgres'),
    max: 1,
    applicationName: 'test',
    log: createLog({ service: 'test', level: 'silent', format: 'json' }),
  })
  t.after(() => admin.end({ timeout: 1 }))
  await pollUntil(async () => (await admin`select 1`.catch(() => [])).length === 1, { what: 'PostgreSQL' })
  for (const name of ['billaged', 'empty']) await admin.unsafe(`create database ${name}`)

  const [from, to] = [temporaryFolder(t), temporaryFolder(t)]
  const first = await startChild(t, { databaseUrl: url('billaged'), dataDir: from })
  const send = async (billing: typeof first, minute: number) => {
    const metrics = [metric(startNs + BigInt(minute) * minuteNs, BigInt(minute + 1) * 1_000n)]
    assert.equal((await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'acme', metrics })).status, 200)
  }
  await first.api('POST', '/v1/subscriptions', {
    customerId: 'acme',
    planId: 'example',
    from: month.toInstant().toString(),
  })
  for (let i = 0; i < 20; i++) await send(first, i)
  await first.usage('acme')
  const closed = await first.api('POST', `/v1/close/${monthName}`, { customers: ['acme'] })
  const [invoice = ''] = (closed.body as { finalised: string[] }).finalised
  const pdf = (await first.api('GET', `/v1/invoices/${invoice}.pdf`)).body
  for (let i = 20; i < 200; i++) await send(first, i)

  // Readings go on coming in while it is taken.
  let next = 200
  let isTaking = true
  const sending = (async () => {
    while (isTaking) await send(first, next++)
  })()
  const backups = join(from, 'backups')
  mkdirSync(backups)
  const env = { PATH: `${process.env.PATH}`, PGHOST: '127.0.0.1', PGPORT: `${port}`, PGUSER: 'postgres' }
  const backup = (words: string[], more: Record<string, string>) =>
    run(script, words, { env: { ...env, BACKUP_DIR: backups, ...more } })
  const { stdout } = await backup([], { DATA_DIR: join(from, 'billaged'), DATABASE: 'billaged' })
  isTaking = false
  await sending
  const folder = stdout.trim()
  assert.deepEqual(readdirSync(folder).sort(), ['data.tar', 'database.sql.gz'])
  await first.stop('SIGTERM')

  const refused = (more: Record<string, string>) => assert.rejects(backup(['restore', folder], more))
  await refused({ DATA_DIR: join(from, 'billaged'), DATABASE: 'empty' })
  await refused({ DATA_DIR: join(to, 'billaged'), DATABASE: 'billaged' })
  await backup(['restore', folder], { DATA_DIR: join(to, 'billaged'), DATABASE: 'empty' })
  const second = await startChild(t, { databaseUrl: url('empty'), dataDir: to })
  const span = `&from=${month.toInstant()}&to=${month.add({ days: 2 }).toInstant()}`
  const restored = quantityOf(await second.usage('acme', span), 'vm_cpu')
  assert.ok(restored >= 199_000n && restored <= BigInt(next - 1) * 1_000n, `${restored}`)
  const { problems } = (await second.api('POST', '/v1/verify')).body as Verification
  assert.deepEqual(problems, [])
  assert.equal(((await second.api('GET', `/v1/invoices/${invoice}`)).body as Invoice).state, 'finalised')
  assert.deepEqual((await second.api('GET', `/v1/invoices/${invoice}.pdf`)).body, pdf)
  for (let i = 0; i < next; i++) await send(second, i)
  assert.equal(quantityOf(await second.usage('acme', span), 'vm_cpu'), BigInt(next - 1) * 1_000n)
})
