import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { openSql } from '#platform/postgres'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { startGate } from './gate.ts'
import { metric, minuteNs, minutesAgo, quantityOf, startBilling } from './kit.ts'

const baseNs = minutesAgo(120)
const batch = (minute: number) => ({
  vmId: 'vm-1',
  customerId: 'acme',
  metrics: [metric(baseNs + BigInt(minute) * minuteNs, BigInt(minute + 1) * 1000n)],
})

test('while the database is away intake goes on, up to the journal’s bound; then 503; it recovers by itself', async t => {
  const { url } = await testDatabase(t)
  const gate = await startGate(t, url)
  const billing = await startBilling(t, { databaseUrl: gate.url, env: { BILLAGED_JOURNAL_MAX_BYTES: '12KiB' } })
  assert.equal((await billing.rpc('SendMetricsBatch', batch(0))).status, 200)
  await billing.usage('acme')

  await gate.goAway()
  let minute = 1
  let refused = null
  for (; minute < 1000 && refused === null; minute++) {
    const reply = await billing.rpc('SendMetricsBatch', batch(minute))
    if (reply.status !== 200) refused = reply
  }
  const acknowledged = minute - 2
  assert.ok(acknowledged > 20, `only ${acknowledged} batches fitted`)
  assert.equal(refused?.status, 503)
  assert.ok(Number(refused?.headers.get('retry-after')) > 0)
  assert.match(JSON.stringify(refused?.body), /"unavailable"/)
  const health = await fetch(`${billing.url}/health`)
  assert.equal(health.status, 503)
  const report = (await health.json()) as { status: string; checks: Record<string, { status: string }> }
  assert.equal(report.status, 'unhealthy')
  assert.equal(report.checks.journal?.status, 'down')
  assert.equal((await fetch(`${billing.url}/health/ready`)).status, 503)
  // Known keys keep working; reading needs the database.
  assert.equal((await billing.api('GET', '/v1/customers/acme/usage')).status, 503)

  await gate.comeBack()
  const usage = await billing.usage('acme')
  assert.equal(quantityOf(usage, 'vm_cpu'), BigInt(acknowledged) * 1000n)
  assert.equal(usage.complete, true)
  // Nobody sends, and still the health check turns green: the service tries the journal itself.
  const deadline = Date.now() + 60_000
  while ((await fetch(`${billing.url}/health`)).status !== 200) assert.ok(Date.now() < deadline, 'health stayed red')
  assert.equal((await billing.rpc('SendMetricsBatch', batch(minute - 1))).status, 200)
})

test('G1: with ACK=database a reply waits for the commit, and there is none while the database is away', async t => {
  const { url, sql } = await testDatabase(t)
  const gate = await startGate(t, url)
  const billing = await startBilling(t, { databaseUrl: gate.url, env: { BILLAGED_ACK: 'database' } })
  assert.equal((await billing.rpc('SendMetricsBatch', batch(0))).status, 200)
  assert.equal((await sql`select 1 from billaged.sample_part`).count, 1)
  await gate.goAway()
  const pending = billing.rpc('SendMetricsBatch', batch(1))
  assert.equal((await billing.api('GET', '/v1/customers')).status, 503)
  await gate.comeBack()
  assert.equal((await pending).status, 200)
  assert.equal((await sql`select coalesce(sum(n), 0)::int4 as n from billaged.sample_part`)[0]?.n, 2)
})

test('G5: with the database away the journal takes what comes, memory does not grow with it, beyond JOURNAL_MAX_BYTES there is 503 with Retry-After, and all of it is there by itself afterwards', async t => {
  const { url } = await testDatabase(t)
  const gate = await startGate(t, url)
  const bytesMax = 18 * 1024 * 1024
  const env = { BILLAGED_JOURNAL_MAX_BYTES: `${bytesMax}` }
  const billing = await startBilling(t, { databaseUrl: gate.url, env })
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const held = () => {
    gc()
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  }
  // Values that no codec makes small.
  const noisy = (n: number) => {
    const metrics = Array.from({ length: 600 }, (_, i) => {
      const bytes = randomBytes(48)
      const value = (at: number) => `${bytes.readBigUInt64BE(at) >> 1n}`
      const rest = { memoryUsageBytes: value(8), diskReadBytes: value(16), diskWriteBytes: value(24) }
      return metric(baseNs + BigInt(n * 600 + i), 1n, { ...rest, networkRxBytes: value(32), networkTxBytes: value(40) })
    })
    return { vmId: `vm-${n}`, customerId: 'globex', metrics }
  }
  for (let n = 0; n < 20; n++) assert.equal((await billing.rpc('SendMetricsBatch', noisy(n))).status, 200)
  await billing.usage('globex')
  await gate.goAway()
  const journalBytes = async () =>
    Number(/^billaged_journal_bytes (\S+)/m.exec(await billing.base.registry.metrics())?.[1])
  // What is tried again and again is one bounded piece of the backlog; from there on nothing may grow.
  let pieceHeld: { inMemory: number; inJournal: number } | undefined
  let acknowledged = 20
  for (;;) {
    const reply = await billing.rpc('SendMetricsBatch', noisy(acknowledged))
    if (reply.status !== 200) {
      assert.equal(reply.status, 503)
      assert.ok(Number(reply.headers.get('retry-after')) > 0)
      break
    }
    acknowledged++
    if (pieceHeld === undefined && (await journalBytes()) > bytesMax / 2)
      pieceHeld = { inMemory: held(), inJournal: await journalBytes() }
  }
  const full = await journalBytes()
  assert.ok(full > 0.9 * bytesMax && full <= bytesMax, `${full} bytes in the journal`)
  if (pieceHeld === undefined) throw new Error('BUG: a full journal was half full once')
  const { inMemory, inJournal } = pieceHeld
  // While a piece is being tried it is held; between two tries it is not.
  await pollUntil(() => held() - inMemory < (full - inJournal) / 2, {
    what: `less than half of ${full - inJournal} bytes more in memory`,
  })
  await gate.comeBack()
  const { complete } = await billing.usage('globex')
  assert.equal(complete, true)
  const sql = openSql({ url, max: 1, applicationName: 'test', log: billing.base.log })
  t.after(() => sql.end({ timeout: 1 }))
  const [row] = await sql<{ vms: number; samples: bigint }[]>`
    select count(distinct series_id)::int4 as vms, sum(n)::int8 as samples from billaged.sample_part`
  assert.deepEqual({ ...row }, { vms: acknowledged, samples: BigInt(acknowledged * 600) })
})
