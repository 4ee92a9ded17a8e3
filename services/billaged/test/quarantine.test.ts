import assert from 'node:assert/strict'
import test from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { openQuarantine } from '../store/gate.ts'
import { type Billing, metric, minuteNs, minutesAgo, quantityOf, startBilling, temporaryFolder } from './kit.ts'

const iso = (ns: bigint) => Temporal.Instant.fromEpochNanoseconds(ns).toString()

interface Item {
  id: string
  reason: string
  state: string
}

test('G8: doubtful samples are answered as success, kept with their reason, billed only when an operator releases them, and each decision is audited; six zeros are no reading', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const billing = await startBilling(t, { databaseUrl })
  const at = minutesAgo(200)
  const old = minutesAgo(2_400 * 60 + 60)
  const send = (metrics: object[]) => billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'acme', metrics })
  const zero = { timestamp: iso(at + minuteNs) }
  const reply = await send([
    metric(at, 10n),
    zero,
    metric(at + 2n * minuteNs, 40n),
    { cpuTimeNanos: '7' },
    metric(915_148_800_000_000_000n, 7n),
    metric(minutesAgo(-6), 7n),
    metric(old, 100n),
    metric(old + minuteNs, 130n),
  ])
  assert.deepEqual([reply.status, reply.body], [200, { success: true, message: 'processed 8 metrics' }])
  assert.equal(reply.headers.get('billaged-accepted'), '3')
  assert.equal(
    reply.headers.get('billaged-set-aside'),
    '1; reason=no_timestamp, 1; reason=before_2000, 1; reason=too_far_ahead, 2; reason=too_old',
  )
  const usage = async (from: bigint) =>
    quantityOf(await billing.usage('acme', `&from=${iso(from - minuteNs)}`), 'vm_cpu')
  assert.equal(await usage(old), 30n)
  const [stored] = await sql<{ n: bigint }[]>`select sum(n)::int8 as n from billaged.sample_part`
  assert.equal(stored?.n, 3n, 'the zeros are an element like others')

  // The hour's samples expire; what comes for it then waits, too.
  await sql`update billaged.series set sealed_hour = ${Number(at / (60n * minuteNs)) + 3}`
  assert.equal((await send([metric(at + 3n * minuteNs, 90n)])).status, 200)
  await billing.usage('acme')
  await sql`update billaged.series set sealed_hour = 0`
  const items = async (state: string) =>
    ((await billing.api('GET', `/v1/quarantine?customer=acme&state=${state}`)).body as { items: Item[] }).items
  const open = await items('open')
  assert.deepEqual(
    open.map(({ reason }) => reason),
    ['no_timestamp', 'before_2000', 'too_far_ahead', 'too_old', 'too_old', 'expired'],
  )
  // Sent again it is the same element: listed once.
  await send([metric(old, 100n)])
  await billing.usage('acme')
  assert.equal((await items('open')).length, 6)

  const decide = async (item: Item | undefined, what: 'release' | 'discard') =>
    (await billing.api('POST', `/v1/quarantine/${item?.id}/${what}`, { reason: 'looked at' })).status
  assert.equal(await decide(open[0], 'release'), 409, 'no time, nothing to measure')
  assert.equal(await decide(open[5], 'release'), 409, 'its hour cannot be folded again')
  for (const i of [0, 1, 2, 5]) assert.equal(await decide(open[i], 'discard'), 200)
  assert.equal(await usage(old), 30n)
  for (const i of [3, 4]) assert.equal(await decide(open[i], 'release'), 200)
  // The two old readings are a pair of their own; up to the ones of today is a gap.
  assert.equal(await usage(old), 60n)
  assert.deepEqual([(await items('released')).length, (await items('discarded')).length], [2, 4])
  const audit = await sql<{ action: string; count: number }[]>`
    select body::jsonb ->> 'action' as action, count(*)::int4 as count from tenancy.audit
    where body::jsonb ->> 'action' like 'quarantine.%' group by 1 order by 1`
  assert.deepEqual(
    audit.map(row => ({ ...row })),
    [
      { action: 'quarantine.discarded', count: 4 },
      { action: 'quarantine.released', count: 2 },
    ],
  )
})

test('a notice of a time outside the window is success and waits, as samples do: it moves no life until an operator releases it', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const billing = await startBilling(t, { databaseUrl })
  const at = minutesAgo(200)
  const [vmId, customerId] = ['vm-1', 'acme']
  const [old, ahead] = [minutesAgo(2_400 * 60 + 60), minutesAgo(-60)]
  await billing.rpc('SendMetricsBatch', {
    vmId,
    customerId,
    metrics: [1n, 2n, 3n].map(n => metric(at + n * minuteNs, n + 5n)),
  })
  const aside = async (method: string, message: object) => {
    const reply = await billing.rpc(method, { vmId, ...message })
    assert.deepEqual([reply.status, reply.body], [200, { success: true }], method)
    return reply.headers.get('billaged-set-aside')
  }
  assert.equal(await aside('NotifyVmStarted', { customerId, startTime: '5' }), '1; reason=before_2000')
  assert.equal(await aside('NotifyVmStarted', { customerId, startTime: `${old}` }), '1; reason=too_old')
  assert.equal(await aside('NotifyVmStarted', { customerId, startTime: `${old}` }), '1; reason=too_old')
  assert.equal(await aside('NotifyVmStopped', { stopTime: '9223372036854775807' }), '1; reason=too_far_ahead')
  assert.equal(
    await aside('NotifyPossibleGap', { lastSent: `${at}`, resumeTime: `${ahead}` }),
    '1; reason=too_far_ahead',
  )
  assert.equal(await aside('NotifyPossibleGap', { lastSent: '7', resumeTime: `${at}` }), '1; reason=before_2000')
  assert.equal(await aside('NotifyVmStarted', { customerId, startTime: `${at}` }), null)
  const usage = await billing.usage(customerId, `&from=${iso(at - minuteNs)}`)
  assert.equal(quantityOf(usage, 'vm_cpu'), 8n)
  const [series] = await sql<{ firstNs: bigint }[]>`select first_ns as "firstNs" from billaged.series`
  assert.equal(series?.firstNs, at)
  const list = (await billing.api('GET', '/v1/quarantine')).body as {
    items: (Item & { what: string; payload: string })[]
  }
  assert.deepEqual(
    list.items.map(({ what, reason }) => [what, reason]),
    ['before_2000', 'too_old', 'too_far_ahead', 'too_far_ahead', 'before_2000'].map(reason => ['mark', reason]),
  )
  assert.deepEqual(JSON.parse(list.items[4]?.payload ?? ''), { mark: 'gap', atNs: '7000000000', untilNs: `${at}` })
  const release = async (i: number) => (await billing.api('POST', `/v1/quarantine/${list.items[i]?.id}/release`)).status
  assert.equal(await release(0), 409, 'no clock that was set can have said it')
  assert.equal(await release(2), 200, 'even the end of time is an instant')
  assert.equal(await release(1), 200)
  await billing.usage(customerId)
  const [released] = await sql<{ firstNs: bigint }[]>`select first_ns as "firstNs" from billaged.series`
  assert.equal(released?.firstNs, old)
})

test('what is stored already is no news when it is sent again too late: samples, notices and events do not wait, and keep no period open', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const dataDir = temporaryFolder(t)
  const at = minutesAgo(3 * 60)
  const metrics = Array.from({ length: 50 }, (_, i) => metric(at + BigInt(i) * minuteNs, BigInt(i + 1)))
  const [vmId, customerId] = ['vm-1', 'acme']
  const event = (id: string, n: string) => ({
    specversion: '1.0',
    source: 'test',
    id,
    type: 'builderd.build_time',
    subject: customerId,
    time: iso(at),
    data: { running_ms: n },
  })
  const sendAll = async (billing: Billing) => {
    const reply = await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics })
    await billing.rpc('NotifyVmStarted', { vmId, customerId, startTime: `${at}` })
    await billing.rpc('NotifyPossibleGap', { vmId, lastSent: `${at}`, resumeTime: `${at + minuteNs}` })
    await billing.api('POST', '/api/v1/events', [event('one', '5')])
    await billing.usage(customerId)
    return reply.headers.get('billaged-set-aside')
  }
  const first = await startBilling(t, { databaseUrl, dataDir })
  assert.equal(await sendAll(first), null)
  await first.close()
  // An hour is the past now.
  const billing = await startBilling(t, { databaseUrl, dataDir, env: { BILLAGED_MAX_PAST: '1h' } })
  const items = async () =>
    ((await billing.api('GET', '/v1/quarantine')).body as { items: (Item & { what: string })[] }).items
  assert.equal(await sendAll(billing), '50; reason=too_old')
  assert.deepEqual(await items(), [])
  // What says something else is news; so is what nobody has seen.
  const other = [metric(at, 7n), metric(at + minuteNs / 2n, 1n)]
  await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics: other })
  await billing.api('POST', '/api/v1/events', [event('one', '6')])
  // Times that no clock has are kept like others, and cannot be released.
  for (const timestamp of ['1969-12-31T23:59:55Z', '9999-12-31T23:59:59Z'])
    await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics: [{ ...metric(at, 1n), timestamp }] })
  await billing.usage(customerId)
  assert.deepEqual((await items()).map(({ what, reason }) => [what, reason]).sort(), [
    ['event', 'too_old'],
    ['sample', 'before_2000'],
    ['sample', 'too_far_ahead'],
    ['sample', 'too_old'],
    ['sample', 'too_old'],
  ])
  for (const { id, reason } of await items())
    if (reason === 'before_2000' || reason === 'too_far_ahead')
      assert.equal((await billing.api('POST', `/v1/quarantine/${id}/release`)).status, 409)

  // Of an hour whose samples have expired nobody can tell; it waits, and only its own period waits for it.
  await sql`update billaged.series set sealed_hour = ${Number(at / (60n * minuteNs)) + 3}`
  await sql`delete from billaged.sample_part`
  await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics: metrics.slice(9, 10) })
  await billing.usage(customerId)
  assert.equal((await items()).filter(({ reason }) => reason === 'expired').length, 1)
  const hour = Number(at / (60n * minuteNs))
  const open = async (from: number, to: number) => (await openQuarantine(sql, customerId, { from, to })).count
  assert.deepEqual([await open(hour, hour + 1), await open(hour - 9, hour)], [6, 5])
})
