import assert from 'node:assert/strict'
import test from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
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
  const deadline = Date.now() + 10_000
  while ((await fetch(`${billing.url}/health`)).status !== 200) assert.ok(Date.now() < deadline, 'health stayed red')
  assert.equal((await billing.rpc('SendMetricsBatch', batch(minute - 1))).status, 200)
})

test('with ACK=database a reply waits for the commit, and there is none while the database is away', async t => {
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
