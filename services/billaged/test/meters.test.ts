import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { windowEdges } from '../events/windows.ts'
import { integrate } from '../store/meter-usage.ts'
import { type Billing, metric, minutesAgo, startBilling } from './kit.ts'

interface Row {
  valueExact: string
  windowStart: string
  subject: string | null
  groupBy: Record<string, string>
}

async function send(billing: Billing, events: object[]) {
  const reply = await fetch(`${billing.url}/api/v1/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/cloudevents-batch+json', authorization: `Bearer ${billing.key}` },
    body: JSON.stringify(events.map(event => ({ specversion: '1.0', source: '/test', ...event }))),
  })
  assert.equal(reply.status, 204, await reply.text())
}

async function query(billing: Billing, slug: string, more = ''): Promise<Row[]> {
  const { status, body } = await billing.api('GET', `/api/v1/meters/${slug}/query?${more}`)
  assert.equal(status, 200, JSON.stringify(body))
  return (body as { data: Row[] }).data
}

const folded = (billing: Billing, customer: string) => billing.usage(customer)
const at = (minutes: number) => new Date(Number(minutesAgo(minutes) / 1_000_000n)).toISOString()

test('meters are made, queried, changed and deleted as the OpenMeter API has it', async t => {
  const billing = await startBilling(t)
  await t.test('every aggregation equals a plain loop over the events', () => aggregations(billing))
  await t.test('a new meter counts what came before it, and takes nothing from the meters that were there', () =>
    lateMeter(billing),
  )
  await t.test('a voided event counts nothing, before and after it arrives', () => voids(billing))
  await t.test('windows, groups, filters, subjects, CSV', () => shapes(billing))
  await t.test('readings of VMs answer the same query', () => vmMeter(billing))
  await t.test('bad meters and questions name their field; what is not here says so', () => refusals(billing))
})

async function aggregations(billing: Billing) {
  const names = ['SUM', 'COUNT', 'UNIQUE_COUNT', 'MIN', 'MAX', 'LATEST', 'AVG'] as const
  for (const aggregation of names) {
    const meter = { slug: `t_${aggregation.toLowerCase()}`, eventType: 'test.value', aggregation }
    const made = await billing.api(
      'POST',
      '/api/v1/meters',
      aggregation === 'COUNT' ? meter : { ...meter, valueProperty: '$.usage.value' },
    )
    assert.equal(made.status, 201, JSON.stringify(made.body))
  }
  const values = fc.sample(fc.bigInt({ min: -5_000_000_000n, max: 10n ** 20n }), { numRuns: 60, seed: 7 })
  const text = (e9: bigint) => {
    const [sign, size] = e9 < 0n ? ['-', -e9] : ['', e9]
    return `${sign}${size / 1_000_000_000n}.${`${size % 1_000_000_000n}`.padStart(9, '0')}`
  }
  await send(
    billing,
    values.map((value, i) => ({
      id: `v${i}`,
      type: 'test.value',
      subject: 'agg',
      time: at(120 - i),
      data: { usage: { value: text(value) } },
    })),
  )
  await folded(billing, 'agg')
  const sum = values.reduce((a, b) => a + b, 0n)
  const count = BigInt(values.length)
  const sorted = values.toSorted((a, b) => (a < b ? -1 : 1))
  const floor = sum < 0n && sum % count !== 0n ? sum / count - 1n : sum / count
  const expected: Record<(typeof names)[number], bigint> = {
    SUM: sum,
    COUNT: count * 1_000_000_000n,
    UNIQUE_COUNT: BigInt(new Set(values).size) * 1_000_000_000n,
    MIN: sorted[0] ?? 0n,
    MAX: sorted.at(-1) ?? 0n,
    LATEST: values.at(-1) ?? 0n,
    AVG: floor,
  }
  for (const name of names) {
    const [row] = await query(billing, `t_${name.toLowerCase()}`, 'subject=agg')
    const [whole, fraction = ''] = (row?.valueExact ?? '').split('.')
    const exact = BigInt(`${whole}${fraction.padEnd(9, '0')}`)
    assert.equal(exact, expected[name], name)
  }
}

async function lateMeter(billing: Billing) {
  await send(billing, [
    { id: 'l1', type: 'late.type', subject: 'late', time: at(30), data: { a: 5, kind: 'x' } },
    { id: 'l2', type: 'late.type', subject: 'late', time: at(29), data: { b: '7.25', kind: 'y' } },
  ])
  await folded(billing, 'late')
  const errors = async () =>
    ((await billing.api('GET', '/api/v1/events?hasError=true&subject=late')).body as { event: { id: string } }[]).map(
      ({ event }) => event.id,
    )
  assert.deepEqual(await errors(), ['l2', 'l1'])
  const body = { eventType: 'late.type', aggregation: 'SUM' }
  assert.equal(
    (await billing.api('POST', '/api/v1/meters', { ...body, slug: 'late_a', valueProperty: '$.a' })).status,
    201,
  )
  assert.deepEqual(await errors(), ['l2'])
  assert.equal((await query(billing, 'late_a'))[0]?.valueExact, '5')
  assert.equal(
    (await billing.api('POST', '/api/v1/meters', { ...body, slug: 'late_b', valueProperty: '$.b' })).status,
    201,
  )
  assert.equal((await query(billing, 'late_a'))[0]?.valueExact, '5')
  assert.equal((await query(billing, 'late_b'))[0]?.valueExact, '7.25')
  const changed = await billing.api('PUT', '/api/v1/meters/late_a', { name: 'Late', groupBy: { kind: '$.kind' } })
  assert.equal((changed.body as { name: string }).name, 'Late')
  assert.deepEqual((await query(billing, 'late_a', 'groupBy=kind'))[0]?.groupBy, { kind: 'x' })
  assert.equal((await billing.api('DELETE', '/api/v1/meters/late_b')).status, 204)
  assert.equal((await billing.api('GET', '/api/v1/meters/late_b')).status, 404)
}

async function voids(billing: Billing) {
  const cancel = (id: string) =>
    billing.api('POST', '/v1/events/void', { source: '/test', id, reason: 'sent by a test system' })
  const early = await cancel('void-2')
  assert.deepEqual([early.status, (early.body as { isKnown: boolean }).isKnown], [200, false])
  await send(
    billing,
    [1, 2, 4].map((value, i) => ({
      id: `void-${i + 1}`,
      type: 'late.type',
      subject: 'voids',
      time: at(20),
      data: { a: value },
    })),
  )
  await folded(billing, 'voids')
  assert.equal((await query(billing, 'late_a', 'subject=voids'))[0]?.valueExact, '5')
  assert.equal((await cancel('void-3')).status, 200)
  assert.equal((await cancel('void-3')).status, 200)
  assert.equal((await query(billing, 'late_a', 'subject=voids'))[0]?.valueExact, '1')
}

async function shapes(billing: Billing) {
  const made = await billing.api('POST', '/api/v1/meters', {
    slug: 'tokens',
    eventType: 'prompt',
    aggregation: 'SUM',
    valueProperty: '$.tokens',
    groupBy: { model: '$.model' },
  })
  assert.equal(made.status, 201)
  const event = (id: string, subject: string, minutes: number, model: string, tokens: number) => ({
    id,
    type: 'prompt',
    subject,
    time: at(minutes),
    data: { model, tokens },
  })
  await send(billing, [
    event('p1', 'ann', 200, 'm1', 1),
    event('p2', 'ann', 100, 'm2', 2),
    event('p3', 'bob', 100, 'm1', 4),
    event('p4', 'bob', 5, '=cmd', 8),
  ])
  await folded(billing, 'bob')
  const sums = async (more: string) =>
    (await query(billing, 'tokens', more)).map(row => [row.subject, row.groupBy.model, row.valueExact])
  assert.deepEqual(await sums(''), [[null, undefined, '15']])
  assert.deepEqual(await sums('subject=ann&subject=bob'), [
    ['ann', undefined, '3'],
    ['bob', undefined, '12'],
  ])
  assert.deepEqual(await sums('groupBy=model&filterGroupBy[model]=m1'), [[null, 'm1', '5']])
  const hours = await query(billing, 'tokens', `windowSize=HOUR&from=${at(240)}`)
  assert.ok(hours.length >= 2 && hours.every(row => row.windowStart.endsWith(':00:00Z') || row === hours[0]))
  assert.equal(
    hours.reduce((sum, row) => sum + Number(row.valueExact), 0),
    15,
  )
  const csv = await fetch(`${billing.url}/api/v1/meters/tokens/query?groupBy=subject&groupBy=model`, {
    headers: { accept: 'text/csv', authorization: `Bearer ${billing.key}` },
  })
  const lines = (await csv.text()).split('\r\n')
  assert.equal(lines[0], 'window_start,window_end,subject,model,value')
  assert.match(lines.find(line => line.includes('cmd')) ?? '', /,bob,"'=cmd",8$/)
  assert.deepEqual((await billing.api('GET', '/api/v1/meters/tokens/subjects')).body, ['ann', 'bob'])
  assert.deepEqual((await billing.api('GET', '/api/v1/meters/tokens/group-by/model/values')).body, ['=cmd', 'm1', 'm2'])
  const keys = ((await billing.api('GET', '/api/v1/subjects')).body as { key: string }[]).map(({ key }) => key)
  assert.ok(keys.includes('ann'))
}

async function vmMeter(billing: Billing) {
  const metrics = [metric(minutesAgo(12), 0n, { memoryUsageBytes: '1' }), metric(minutesAgo(11), 90n)]
  await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'vms', metrics })
  await folded(billing, 'vms')
  assert.equal((await query(billing, 'vm_cpu', 'subject=vms'))[0]?.valueExact, '90')
}

async function refusals(billing: Billing) {
  const meter = { slug: 'x', eventType: 't', aggregation: 'SUM', valueProperty: '$.v' }
  for (const [body, field] of [
    [{ ...meter, slug: 'Not A Slug' }, 'slug'],
    [{ ...meter, valueProperty: 'v' }, 'valueProperty'],
    [{ ...meter, valueProperty: undefined }, 'valueProperty'],
    [{ ...meter, aggregation: 'COUNT' }, 'valueProperty'],
    [{ ...meter, aggregation: 'MEDIAN' }, 'aggregation'],
    [{ ...meter, groupBy: { a: 'b' } }, 'groupBy.a'],
  ] as const) {
    const reply = await billing.api('POST', '/api/v1/meters', body)
    assert.equal(reply.status, 400, field)
    assert.match((reply.body as { detail: string }).detail, new RegExp(`^${field}`))
  }
  assert.equal((await billing.api('POST', '/api/v1/meters', { ...meter, slug: 'tokens' })).status, 409)
  assert.equal((await billing.api('DELETE', '/api/v1/meters/ai_cost')).status, 409)
  assert.equal((await billing.api('GET', '/api/v1/meters/tokens/query?groupBy=nope')).status, 400)
  assert.equal(
    (await billing.api('GET', '/api/v1/meters/tokens/query?windowSize=MINUTE&from=2020-01-01T00:00:00Z')).status,
    400,
  )
  assert.equal((await billing.api('GET', '/api/v1/billing/profiles')).status, 501)
}

test('a level integrates over time: the parts of a span sum to the whole, and equal a count of its units', () => {
  const event = fc.record({ atNs: fc.bigInt({ min: 0n, max: 40n }), valueE9: fc.bigInt({ min: -5n, max: 9n }) })
  fc.assert(
    fc.property(fc.array(event, { maxLength: 8 }), fc.constantFrom('set', 'delta'), (given, mode) => {
      const events = given.toSorted((a, b) => Number(a.atNs - b.atNs))
      let area = 0n
      for (let t = 10n; t < 30n; t++) {
        const before = events.filter(one => one.atNs <= t)
        area += mode === 'set' ? (before.at(-1)?.valueE9 ?? 0n) : before.reduce((sum, one) => sum + one.valueE9, 0n)
      }
      const floor = area < 0n && area % 20n !== 0n ? area / 20n - 1n : area / 20n
      assert.deepEqual(integrate(events, [10n, 30n], mode), [floor])
    }),
  )
})

test('days follow the calendar of the zone: 23 and 25 hours when the clocks change', () => {
  const edges = windowEdges(Date.UTC(2026, 2, 28, 23), Date.UTC(2026, 2, 30, 22), 'DAY', 'Europe/Berlin') ?? []
  const hours = edges.slice(1).map((edge, i) => Number((edge - (edges[i] ?? 0n)) / 3_600_000_000_000n))
  assert.deepEqual(hours, [23, 24])
  assert.equal(windowEdges(0, Date.UTC(2026, 0, 1), 'MINUTE', 'UTC'), null)
})
