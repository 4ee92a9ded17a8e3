// What the console's pages ask for beyond the guide's reads.

import assert from 'node:assert/strict'
import test from 'node:test'
import { rfc3339 } from '#platform/time'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { Conflicts, Spend, Usage } from '../api.ts'
import { metric, minuteNs, minutesAgo, startBilling } from './kit.ts'

test('the hours of one VM add up to its share of the customer, and nobody else is in them', async t => {
  const billing = await startBilling(t)
  const base = minutesAgo(180)
  const iso = (minute: number) => Temporal.Instant.fromEpochNanoseconds(base + BigInt(minute) * minuteNs).toString()
  for (const [vmId, slope] of [
    ['vm-1', 100n],
    ['vm-2', 7n],
  ] as const) {
    const metrics = Array.from({ length: 120 }, (_, i) => metric(base + BigInt(i) * minuteNs, BigInt(i + 1) * slope))
    assert.equal((await billing.rpc('SendMetricsBatch', { vmId, customerId: 'acme', metrics })).status, 200)
  }
  const span = `from=${iso(0)}&to=${iso(120)}&wait=30s`
  const read = async (query: string) =>
    (await billing.api('GET', `/v1/customers/acme/usage?${span}&${query}`)).body as Usage
  const sum = ({ rows }: Usage) =>
    rows.filter(({ meter }) => meter === 'vm_cpu').reduce((total, { quantity }) => total + BigInt(quantity), 0n)
  const hours = await read('by=hour&vm=vm-1')
  assert.equal(sum(hours), 119n * 100n)
  assert.ok(hours.rows.every(({ from, to }) => from !== undefined && to !== undefined))
  assert.equal(sum(await read('by=vm')), 119n * 107n)
  assert.equal(hours.ledger.measuredNs, `${119n * minuteNs}`)
  assert.deepEqual((await read('by=day&vm=nobody')).rows, [])
})

test('a quarantined item is discarded with a reason that the audit keeps, and a wrong body is named', async t => {
  const billing = await startBilling(t)
  const metrics = [metric(BigInt(Date.now()) * 1_000_000n + 3_600_000_000_000n, 1n)]
  await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'acme', metrics })
  const item = await pollUntil(
    async () => ((await billing.api('GET', '/v1/quarantine')).body as { items: { id: string }[] }).items[0],
    { what: 'the sample from the future, set aside' },
  )
  const wrong = await billing.api('POST', `/v1/quarantine/${item.id}/discard`, { reason: '' })
  assert.equal(wrong.status, 400)
  assert.match(JSON.stringify(wrong.body), /reason/)
  const done = await billing.api('POST', `/v1/quarantine/${item.id}/discard`, { reason: 'clock of the host was wrong' })
  assert.equal(done.status, 200)
  assert.equal((await billing.api('POST', `/v1/quarantine/${item.id}/release`, {})).status, 409)
})

test('a forecast has a band once two days are over, and spend and forecast lie where they should', async t => {
  const startMs = Date.UTC(2026, 9, 1)
  const clock = { now: () => startMs + 3.5 * 86_400_000, monotonicMs: () => performance.now() }
  const billing = await startBilling(t, { clock })
  // An hour's reading each: days of 24, 48 and 24 core-hours, and half a day of 24.
  let cpuNs = 1n
  const metrics = Array.from({ length: 85 }, (_, hour) => {
    if (hour > 0) cpuNs += (hour > 24 && hour <= 48 ? 2n : 1n) * 3_600_000_000_000n
    return metric(BigInt(startMs + hour * 3_600_000) * 1_000_000n, cpuNs)
  })
  await billing.rpc('NotifyVmStarted', { vmId: 'vm-1', customerId: 'acme', startTime: `${startMs}000000` })
  assert.equal((await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'acme', metrics })).status, 200)
  await billing.usage('acme')
  const read = async (query: string) => (await billing.api('GET', `/v1/customers/acme/spend?${query}`)).body as Spend
  assert.equal((await read('band=true')).forecastLowNano, null, 'without a plan')
  const subscription = { customerId: 'acme', planId: 'example', from: '2026-10-01T00:00:00Z', to: null }
  assert.equal((await billing.api('POST', '/v1/subscriptions', subscription)).status, 201)
  const spend = await read('band=true')
  // 108 core-hours at 0.10, and 27.5 days to come of 24 or 48.
  assert.equal(spend.totalNano, '10800000000')
  assert.equal(spend.forecastLowNano, `${10_800_000_000n + 275n * 240_000_000n}`)
  assert.equal(spend.forecastHighNano, `${10_800_000_000n + 275n * 480_000_000n}`)
  assert.ok(BigInt(spend.forecastNano) > BigInt(spend.forecastLowNano ?? '0'))
  assert.equal((await read('')).forecastLowNano, undefined)
})

test('conflicts of a customer name the event and the instant, and nothing that was only said twice', async t => {
  const billing = await startBilling(t)
  const base = minutesAgo(60)
  const metrics = [
    metric(base, 1n),
    metric(base + minuteNs, 5n),
    metric(base + minuteNs, 7n),
    metric(base + 2n * minuteNs, 9n),
    metric(base + 2n * minuteNs, 9n),
  ]
  await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'acme', metrics })
  const event = (id: string, runningMs: string) => ({
    specversion: '1.0',
    id,
    source: 'test',
    type: 'builderd.build_time',
    subject: 'acme',
    time: rfc3339(Date.now() - 60_000),
    data: { running_ms: runningMs },
  })
  const time = rfc3339(Date.now() - 60_000)
  const events = [event('one', '1'), event('one', '2'), event('two', '3'), event('two', '3')]
  for (const one of events) assert.equal((await billing.api('POST', '/api/v1/events', { ...one, time })).status, 204)
  const from = Temporal.Instant.fromEpochNanoseconds(base).toString()
  const reply = await billing.api('GET', `/v1/conflicts?customer=acme&from=${from}&wait=30s`)
  const { events: conflicting, vms } = reply.body as Conflicts
  assert.deepEqual(
    conflicting.map(({ source, id, variants, voided }) => [source, id, variants, voided]),
    [['test', 'one', 2, false]],
  )
  const instant = Temporal.Instant.fromEpochNanoseconds(base + minuteNs).toString()
  assert.deepEqual(vms, [{ vmId: 'vm-1', conflicts: 1, at: [instant] }])
  assert.match(JSON.stringify((await billing.api('GET', '/v1/conflicts')).body), /customer: is required/)
})
