// What the console's pages ask for beyond the guide's reads.

import assert from 'node:assert/strict'
import test from 'node:test'
import { rfc3339 } from '#platform/time'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { Conflicts, CreditList, CreditView, CustomerLedger, Invoice, Spend, Usage } from '../api.ts'
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
  assert.deepEqual(vms, [{ customerId: 'acme', vmId: 'vm-1', conflicts: 1, at: [instant] }])

  // Of all customers, a page at a time: each event and each VM once.
  for (let n = 0; n < 101; n++)
    await billing.rpc('SendMetricsBatch', {
      vmId: `vm-${n}`,
      customerId: 'globex',
      metrics: n === 100 ? metrics : [metric(base, 1n)],
    })
  for (const id of ['three', 'four'])
    for (const ms of ['1', '2']) {
      const one = { ...event(id, ms), subject: 'globex', time }
      assert.equal((await billing.api('POST', '/api/v1/events', one)).status, 204)
    }
  const pages: Conflicts[] = []
  for (let cursor: string | null = ''; cursor !== null; cursor = pages.at(-1)?.nextCursor ?? null)
    pages.push((await billing.api('GET', `/v1/conflicts?limit=1&wait=20s&cursor=${cursor}`)).body as Conflicts)
  assert.ok(pages.length >= 4)
  assert.deepEqual(
    pages.flatMap(page => page.events.map(one => [one.customerId, one.id])),
    [
      ['globex', 'three'],
      ['globex', 'four'],
      ['acme', 'one'],
    ].toSorted((a, b) => ((a[1] ?? '') < (b[1] ?? '') ? 1 : -1)),
  )
  assert.deepEqual(
    pages.flatMap(page => page.vms.map(one => [one.customerId, one.vmId, one.conflicts])),
    [
      ['acme', 'vm-1', 1],
      ['globex', 'vm-100', 1],
    ],
  )
  assert.match(JSON.stringify((await billing.api('GET', '/v1/conflicts?cursor=x')).body), /cursor: is not one/)
})

test('the ledger of a customer says what was not seen, VM by VM a page at a time, and adds up to that of its usage', async t => {
  const billing = await startBilling(t)
  const base = minutesAgo(300)
  const from = Temporal.Instant.fromEpochNanoseconds(base).toString()
  for (const vmId of ['vm-a', 'vm-b', 'vm-c']) {
    // Half an hour of silence in the middle of vm-b; at the end of vm-c a counter that fell.
    const minutes = Array.from({ length: 120 }, (_, i) => i).filter(i => vmId !== 'vm-b' || i < 30 || i > 60)
    const metrics = minutes.map(i =>
      metric(base + BigInt(i) * minuteNs, vmId === 'vm-c' && i >= 100 ? BigInt(i - 99) : BigInt(i + 1) * 100n),
    )
    assert.equal((await billing.rpc('SendMetricsBatch', { vmId, customerId: 'acme', metrics })).status, 200)
  }
  const usage = await billing.usage('acme', `&from=${from}`)
  const read = async (query: string) =>
    (await billing.api('GET', `/v1/customers/acme/ledger?from=${from}&wait=20s${query}`)).body as CustomerLedger
  const [first, second] = [await read('&limit=2'), await read('&limit=2&cursor=vm-b')]
  assert.deepEqual([first.nextCursor, second.nextCursor], ['vm-b', null])
  assert.deepEqual(first.ledger, usage.ledger)
  const vms = [...first.vms, ...second.vms]
  for (const field of ['measuredNs', 'unmeasuredNs', 'estimatedNs', 'hostDownNs', 'disputedNs'] as const)
    assert.equal(
      vms.reduce((sum, vm) => sum + BigInt(vm[field]), 0n),
      BigInt(usage.ledger[field]),
      field,
    )
  assert.deepEqual(
    vms.map(vm => [vm.vmId, vm.gapCount, vm.falls, vm.conflicts]),
    [
      ['vm-a', 0, 0, 0],
      ['vm-b', 1, 0, 0],
      ['vm-c', 0, 1, 0],
    ],
  )
  assert.match(vms[1]?.gaps[0]?.rule ?? '', /60 s/)
  assert.equal((await billing.api('GET', '/v1/customers/acme/ledger?limit=101')).status, 400)
})

test('a customer has settings before its first reading; credits come a page at a time, and those behind a thousand spent ones are burned too', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const billing = await startBilling(t, { databaseUrl })
  const made = await billing.api('PUT', '/v1/customers/early', { name: 'Early', taxPpm: 190_000 })
  assert.deepEqual([made.status, Object(made.body).name, Object(made.body).vms], [200, 'Early', 0])
  const plan = { id: 'flat', name: 'Flat' }
  await billing.api('POST', '/v1/plans', plan)
  const price = { id: 'base', model: 'flat', amountNano: '5000000000' }
  await billing.api('POST', '/v1/plans/flat/versions', { effectiveFrom: '2020-01-01T00:00:00Z', prices: [price] })
  await billing.api('POST', '/v1/subscriptions', { customerId: 'early', planId: 'flat', from: '2026-01-01T00:00:00Z' })
  await sql`
    insert into billaged.credit_grant (id, customer_id, kind, currency, amount_nano, from_at, created_at)
    select 'spent-' || n, 'early', 'promotional', 'USD', 7, '2026-01-01', '2026-01-01'::timestamptz + n * interval '1 second'
    from generate_series(1, 1001) n`
  await sql`
    insert into billaged.credit_entry (grant_id, kind, amount_nano, at)
    select 'spent-' || n, kind, amount, now() from generate_series(1, 1001) n, (values ('grant', 7), ('burn', -7)) e (kind, amount)`
  const credit = { customerId: 'early', kind: 'promotional', amountNano: '2000000000' }
  const { id } = (await billing.api('POST', '/v1/credits', credit)).body as CreditView
  const running = Temporal.Now.zonedDateTimeISO('UTC').toPlainDate().toString().slice(0, 7)
  const draft = (await billing.api('GET', `/v1/invoices/draft?customer=early&period=${running}`)).body as Invoice
  assert.deepEqual(
    draft.lines.filter(({ kind }) => kind === 'credit').map(({ creditId, amountNano }) => [creditId, amountNano]),
    [[id, '-2000000000']],
  )
  const ids: string[] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const reply = await billing.api(
      'GET',
      `/v1/credits?customerId=early&limit=500&cursor=${encodeURIComponent(cursor)}`,
    )
    const page = reply.body as CreditList
    ids.push(...page.credits.map(one => one.id))
    cursor = page.nextCursor
  }
  assert.deepEqual([ids.length, new Set(ids).size, ids.at(-1)], [1002, 1002, id])
})
