import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { openSql } from '#platform/postgres'
import { exactJsonDecoder } from '#platform/rpc/exact-numbers'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { pollUntil } from '../../../test/kit/poll.ts'
import { digestEvent, parseEvent } from '../events/cloud-event.ts'
import { type Billing, midPeriod, startBilling, testSecret } from './kit.ts'

const minuteAgo = new Date(Date.now() - 60_000).toISOString()
let serial = 0

const event = (more: object = {}) => ({
  specversion: '1.0',
  id: `e${serial++}`,
  source: '/test',
  type: 'points',
  subject: 'acme',
  time: minuteAgo,
  data: { v: '1' },
  ...more,
})

async function send(billing: Billing, body: unknown, authorization?: string) {
  return billing.api('POST', '/api/v1/events', body, authorization)
}

async function startWithMeter(t: Parameters<typeof startBilling>[0], o: Parameters<typeof startBilling>[1] = {}) {
  const billing = await startBilling(t, o)
  for (const [slug, aggregation] of Object.entries({
    points: 'SUM',
    points_max: 'MAX',
    points_unique: 'UNIQUE_COUNT',
  })) {
    const meter = { slug, eventType: 'points', aggregation, valueProperty: '$.v' }
    assert.equal((await billing.api('POST', '/api/v1/meters', meter)).status, 201)
  }
  return billing
}

async function value(billing: Billing, meter: string, customer: string): Promise<string> {
  const { rows } = await billing.usage(customer)
  return rows.find(row => row.meter === meter)?.quantity ?? '0'
}

interface Listed {
  event: { id: string; data: unknown }
  customerId?: string
  validationError?: string
}
const listed = async (billing: Billing, query: string) =>
  (await billing.api('GET', `/api/v1/events?${query}`)).body as Listed[]

test('G26: one identity counts once, its least variant; in any order, through a restart, until it is voided', async t => {
  let billing = await startWithMeter(t)
  let round = 0
  const variant = fc.record({ v: fc.integer({ min: 0, max: 9 }), note: fc.constantFrom('a', 'b', 'c') })
  await fc.assert(
    fc.asyncProperty(
      fc.array(variant, { minLength: 1, maxLength: 4 }),
      fc.array(fc.nat(3), { minLength: 4, maxLength: 8 }),
      async (variants, order) => {
        const subject = `identity-${round++}`
        const id = `same-${subject}`
        const sent = [...variants.keys(), ...order.map(i => i % variants.length)].toReversed()
        for (const i of sent) assert.equal((await send(billing, event({ id, subject, data: variants[i] }))).status, 204)
        const least = Math.min(...variants.map(({ v }) => v))
        assert.equal(await value(billing, 'points', subject), `${least}`)
        // Every other content is kept and shown.
        const distinct = new Set(variants.map(data => JSON.stringify(data)))
        assert.equal((await listed(billing, `subject=${subject}`)).length, distinct.size)
      },
    ),
    { numRuns: 8 },
  )

  // Variants of equal value tie by the hash of their content: it decides in whose group the value is.
  await billing.api('POST', '/api/v1/meters', {
    slug: 'tied',
    eventType: 'points',
    aggregation: 'SUM',
    valueProperty: '$.v',
    groupBy: { note: '$.note' },
  })
  const tied = ['x', 'y', 'z'].map(note => event({ id: 'tie', subject: 'tie', data: { v: 3, note } }))
  for (const one of tied) await send(billing, one)
  const winner = tied.toSorted((a, b) =>
    Buffer.compare(digestEvent(parseEvent(a, '', 0n)), digestEvent(parseEvent(b, '', 0n))),
  )[0]
  await billing.usage('tie')
  const groups = (await billing.api('GET', '/api/v1/meters/tied/query?subject=tie&groupBy=note')).body as {
    data: { valueExact: string; groupBy: { note: string } }[]
  }
  assert.deepEqual(
    groups.data.map(row => [row.valueExact, row.groupBy.note]),
    [['3', JSON.parse(JSON.stringify(winner?.data)).note]],
  )

  // A time that we gave is no part of the content: sent again later it is the same event.
  const timeless = event({ subject: 'timeless', time: undefined })
  await send(billing, timeless)
  await billing.usage('timeless')
  await billing.close()
  billing = await startBilling(t, { databaseUrl: billing.databaseUrl, dataDir: billing.dataDir })
  await send(billing, timeless)
  await send(billing, event({ id: 'same-identity-0', subject: 'identity-0', data: { v: 100, note: 'after' } }))
  assert.equal(await value(billing, 'points', 'timeless'), '1')
  assert.equal((await listed(billing, 'subject=timeless')).length, 1)
  const kept = await value(billing, 'points', 'identity-0')
  assert.ok(Number(kept) < 10)

  // A void names the identity and ends it, whichever variants come still; naming it again changes nothing.
  const cancel = (id: string, reason: string) => billing.api('POST', '/v1/events/void', { source: '/test', id, reason })
  for (const reason of ['sent by mistake', 'another word'])
    assert.equal((await cancel('same-identity-0', reason)).status, 200)
  await send(billing, event({ id: 'same-identity-0', subject: 'identity-0', data: { v: 0, note: 'late' } }))
  assert.equal(await value(billing, 'points', 'identity-0'), '0')
  assert.ok(
    (await listed(billing, 'subject=identity-0')).every(one => one.validationError === 'voided: sent by mistake'),
  )
})

test('G27: a batch is all or nothing and names its fault; what cannot be metered is kept and rings the unrated alarm; what is out of time is set aside', async t => {
  const first = await startWithMeter(t)
  const bad: [object, RegExp][] = [
    [{ id: undefined }, /^\[2\]\.id is required/],
    [{ source: '' }, /^\[2\]\.source is not a text/],
    [{ type: 5 }, /^\[2\]\.type is not a text/],
    [{ specversion: '0.3' }, /^\[2\]\.specversion is 0\.3/],
    [{ time: '2026-02-30T00:00:00Z' }, /^\[2\]\.time is 2026-02-30/],
    [{ subject: 'a\u0001' }, /^\[2\]\.subject holds a control character/],
    [{ data: { a: '\u0000' } }, /^\[2\]\.data\.a holds a NUL/],
  ]
  for (const [fault, message] of bad) {
    const reply = await send(first, [event({ subject: 'whole' }), event({ subject: 'whole' }), event(fault)])
    assert.equal(reply.status, 400)
    assert.match((reply.body as { detail: string }).detail, message)
  }
  assert.equal((await first.api('GET', '/v1/customers/whole')).status, 404)

  const day = 86_400_000
  await midPeriod(first, 'mixed')
  const mixed = await send(first, [
    event({ subject: 'mixed' }),
    event({ subject: 'mixed', id: 'no-meter', type: 'nobody.asked' }),
    event({ subject: 'mixed', id: 'no-value', data: {} }),
    event({ subject: 'mixed', id: 'no-number', data: { v: 'many' } }),
    event({ subject: 'mixed', time: new Date(Date.now() + day).toISOString() }),
    event({ subject: 'mixed', time: new Date(Date.now() - 101 * day).toISOString() }),
    event({ subject: 'mixed', time: '1999-01-01T00:00:00Z' }),
  ])
  assert.deepEqual(
    [mixed.status, mixed.headers.get('billaged-accepted'), mixed.headers.get('billaged-set-aside')],
    [204, '4', '1; reason=too_far_ahead, 1; reason=too_old, 1; reason=before_2000'],
  )
  assert.equal(await value(first, 'points', 'mixed'), '1')
  const faulty = await listed(first, 'subject=mixed&hasError=true')
  assert.deepEqual(faulty.map(one => [one.event.id, one.validationError?.replace(/; .*/, '')]).toSorted(), [
    ['no-meter', 'no meter takes events of type nobody.asked'],
    ['no-number', 'meter points: data.v is not a number with up to 9 fractional digits below 10^27'],
    ['no-value', 'meter points: data.v missing'],
  ])
  const { items } = (await first.api('GET', '/v1/quarantine?customer=mixed')).body as { items: { reason: string }[] }
  assert.deepEqual(items.map(item => item.reason).toSorted(), ['before_2000', 'too_far_ahead', 'too_old'])
  await first.close()

  // The alarm is a sweep's: the next life begins with one.
  const billing = await startBilling(t, {
    databaseUrl: first.databaseUrl,
    dataDir: first.dataDir,
    env: { BILLAGED_AGGREGATION_INTERVAL: '100ms' },
  })
  await pollUntil(
    async () => {
      const gauge = await billing.base.registry.getSingleMetric('billaged_unrated_usage')?.get()
      return gauge?.values.find(({ labels }) => labels.meter === 'unmeterable_events')?.value === 3
    },
    { what: 'the unrated alarm of three events' },
  )
})

test('G28: values are exact decimals to the ninth digit below 10^27, and every aggregation is exact', async t => {
  const billing = await startBilling(t)
  const aggregations = ['SUM', 'COUNT', 'UNIQUE_COUNT', 'MIN', 'MAX', 'LATEST', 'AVG', 'WEIGHTED_SUM'] as const
  for (const aggregation of aggregations)
    for (const valueMode of aggregation === 'WEIGHTED_SUM' ? (['set', 'delta'] as const) : (['set'] as const)) {
      // Unique texts: a number and its spelling in quotes are two of them.
      const path = aggregation === 'UNIQUE_COUNT' ? '$.u' : '$.v'
      const slug = `x_${aggregation.toLowerCase()}${valueMode === 'delta' ? '_delta' : ''}`
      const meter = {
        slug,
        eventType: 'x',
        aggregation,
        ...(aggregation === 'COUNT' ? {} : { valueProperty: path }),
        valueMode,
      }
      assert.equal((await billing.api('POST', '/api/v1/meters', meter)).status, 201)
    }
  const e9 = 1_000_000_000n
  const limit = 10n ** 36n - 1n
  const text = (valueE9: bigint) => {
    const size = valueE9 < 0n ? -valueE9 : valueE9
    return `${valueE9 < 0n ? '-' : ''}${size / e9}.${`${size % e9}`.padStart(9, '0')}`
  }
  const floorDiv = (a: bigint, b: bigint) => (a < 0n && a % b !== 0n ? a / b - 1n : a / b)
  const startMs = Math.floor(Date.now() / 3_600_000) * 3_600_000 - 7_200_000
  const spanMs = 600_000
  let round = 0
  const number = fc.oneof(
    fc.bigInt({ min: -limit, max: limit }),
    fc.bigInt({ min: -50n, max: 50n }),
    fc.constantFrom(limit, -limit, 1n, 0n),
  )
  const sent = fc.array(fc.record({ valueE9: number, atMs: fc.nat(spanMs - 1), isNumber: fc.boolean() }), {
    minLength: 1,
    maxLength: 8,
  })
  // Small numbers at one instant, with and without quotes.
  const tied = [5n, 7n, 11n, 13n].map(n =>
    [n, n + 1n, n + 2n].map((valueE9, i) => ({ valueE9, atMs: 1, isNumber: i !== 1 })),
  )
  await fc.assert(
    fc.asyncProperty(sent, async list => {
      const subject = `exact-${round++}`
      const events = list.map(({ valueE9, atMs }, i) =>
        event({
          id: `${subject}-${i}`,
          subject,
          type: 'x',
          time: new Date(startMs + atMs).toISOString(),
          data: { v: text(valueE9), u: text(valueE9) },
        }),
      )
      // As a JSON number it is as exact as in quotes.
      const texts = events.map((one, i) =>
        list[i]?.isNumber ? JSON.stringify(one).replace(/"v":"(.*?)"/, '"v":$1') : JSON.stringify(one),
      )
      const reply = await fetch(`${billing.url}/api/v1/events`, {
        method: 'POST',
        headers: { authorization: `Bearer ${billing.key}`, 'content-type': 'application/json' },
        body: `[${texts.join()}]`,
      })
      assert.equal(reply.status, 204, await reply.text())
      await billing.usage(subject)
      // Of what was sent: a number and its spelling in quotes are two contents, and a tie is theirs to decide.
      const digests = texts.map(one =>
        digestEvent(parseEvent(JSON.parse(exactJsonDecoder.decode(Buffer.from(one))), '', 0n)),
      )
      const none = Buffer.alloc(0)
      const inTime = [...list.keys()].toSorted(
        (a, b) => (list[a]?.atMs ?? 0) - (list[b]?.atMs ?? 0) || Buffer.compare(digests[a] ?? none, digests[b] ?? none),
      )
      const values = list.map(({ valueE9 }) => valueE9)
      const sum = values.reduce((a, b) => a + b, 0n)
      const sorted = values.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))
      const area = (mode: 'set' | 'delta') => {
        let [level, total, beforeMs] = [0n, 0n, 0]
        for (const i of inTime) {
          const { atMs = 0, valueE9 = 0n } = list[i] ?? {}
          total += level * BigInt(atMs - beforeMs)
          level = mode === 'set' ? valueE9 : level + valueE9
          beforeMs = atMs
        }
        return floorDiv(total + level * BigInt(spanMs - beforeMs), BigInt(spanMs))
      }
      const unique = new Set(values)
      const expected: Record<string, bigint> = {
        x_sum: sum,
        x_count: BigInt(list.length) * e9,
        x_unique_count: BigInt(unique.size) * e9,
        x_min: sorted[0] ?? 0n,
        x_max: sorted.at(-1) ?? 0n,
        x_latest: values[inTime.at(-1) ?? 0] ?? 0n,
        x_avg: floorDiv(sum, BigInt(list.length)),
        x_weighted_sum: area('set'),
        x_weighted_sum_delta: area('delta'),
      }
      for (const [slug, want] of Object.entries(expected)) {
        const span = `from=${new Date(startMs).toISOString()}&to=${new Date(startMs + spanMs).toISOString()}`
        const answer = (await billing.api('GET', `/api/v1/meters/${slug}/query?subject=${subject}&${span}`)).body as {
          data: { valueExact: string }[]
        }
        const [whole = '', fraction = ''] = (answer.data[0]?.valueExact ?? '0').replace('-', '').split('.')
        const size = BigInt(whole) * e9 + BigInt(fraction.padEnd(9, '0'))
        assert.equal(answer.data[0]?.valueExact.startsWith('-') ? -size : size, want, slug)
      }
    }),
    { numRuns: 8, endOnFailure: true, examples: tied.map(list => [list]) },
  )
  // One digit more, or one power of ten, is refused as a value: kept, and metered by nobody but those that count.
  for (const v of ['0.1234567891', `1${'0'.repeat(27)}`, '1e27', `-1${'0'.repeat(27)}`, '0x10', ' 1', 'NaN'])
    await send(billing, event({ subject: 'refused', type: 'x', data: { v } }))
  assert.equal(await value(billing, 'x_sum', 'refused'), '0')
  assert.equal((await listed(billing, 'subject=refused&hasError=true')).length, 7)
})

test('G29: an event is for its subject, or whom the subject is mapped to, or whom its data names; else for a new, unclaimed customer', async t => {
  const billing = await startWithMeter(t)
  const none = { subject: undefined }
  await send(billing, [
    event({ subject: 'acme', data: { v: 1, customer_id: 'nobody', tenant_id: 'nobody' } }),
    event({ ...none, data: { v: 2, customer_id: 'by-customer-id', tenant_id: 'nobody', tenant: 'nobody' } }),
    event({ ...none, data: { v: 3, tenant_id: 'by-tenant-id', tenant: 'nobody' } }),
    event({ ...none, data: { v: 4, tenant: 'by-tenant' } }),
    event({ subject: 'device-1', data: { v: 5 } }),
    event({ ...none, id: 'for-nobody', data: { v: 6 } }),
  ])
  const expected = { acme: '1', 'by-customer-id': '2', 'by-tenant-id': '3', 'by-tenant': '4', 'device-1': '5' }
  for (const [customer, points] of Object.entries(expected))
    assert.equal(await value(billing, 'points', customer), points)
  assert.equal((await billing.api('GET', '/v1/customers/nobody')).status, 404)
  assert.match(
    (await listed(billing, 'id=for-nobody'))[0]?.validationError ?? '',
    /^no subject and no customer in data/,
  )

  // Unclaimed: measured, on no plan, unrated.
  const hourMs = 3_600_000
  const from = new Date((Math.floor(Date.now() / hourMs) - 48) * hourMs).toISOString()
  const preview = await billing.preview({ customerId: 'device-1', from })
  assert.deepEqual([preview.planId, preview.totalNano, preview.unrated[0]?.meter], [null, '0', 'points'])

  // Claimed: what came before and what comes after are the customer's; the unclaimed one is gone.
  const map = (key: string, customerId: string) =>
    billing.api('POST', '/api/v1/subjects', [{ key, customerId, displayName: 'Device' }])
  assert.equal((await map('device-1', 'acme')).status, 200)
  assert.equal(await value(billing, 'points', 'acme'), '6')
  assert.equal((await billing.api('GET', '/v1/customers/device-1')).status, 404)
  await send(billing, event({ subject: 'device-1', data: { v: 10 } }))
  assert.equal(await value(billing, 'points', 'acme'), '16')
  const asked = async (query: string) =>
    ((await billing.api('GET', `/api/v1/meters/points/query?${query}`)).body as { data: { valueExact: string }[] })
      .data[0]?.valueExact
  assert.deepEqual([await asked('subject=device-1'), await asked('filterCustomerId=acme')], ['15', '16'])
  // A tenant's key may send under the names that are mapped to it, and no others.
  const key = `Bearer ${mintToken(Buffer.from(testSecret), { audience: 'billaged', role: 'operator', subject: 'usage', tenant: 'acme', clock: systemClock })}`
  assert.equal((await send(billing, event({ subject: 'device-1', data: { v: 100 } }), key)).status, 204)
  assert.equal((await send(billing, event({ subject: 'device-2' }), key)).status, 403)
  assert.equal(await value(billing, 'points', 'acme'), '116')

  // Mapped to another customer its usage follows; unmapped it is unclaimed again.
  assert.equal((await map('device-1', 'by-tenant')).status, 200)
  assert.deepEqual([await value(billing, 'points', 'acme'), await value(billing, 'points', 'by-tenant')], ['1', '119'])
  assert.equal((await billing.api('DELETE', '/api/v1/subjects/device-1')).status, 204)
  assert.deepEqual(
    [await value(billing, 'points', 'by-tenant'), await value(billing, 'points', 'device-1')],
    ['4', '115'],
  )

  // Nothing that is a customer by its own right is swallowed, and no chain is made.
  await billing.api('POST', '/v1/subscriptions', {
    customerId: 'by-tenant',
    planId: 'example',
    from: '2020-01-01T00:00:00Z',
  })
  assert.equal((await map('by-tenant', 'acme')).status, 409)
  assert.equal((await map('device-1', 'nobody')).status, 404)
  assert.equal((await map('device-1', 'acme')).status, 200)
  assert.equal((await map('acme', 'by-tenant')).status, 409)
  assert.equal((await map('device-3', 'device-1')).status, 404)

  // A mapping while events of the subject come in: none is left behind, whichever is first.
  await send(billing, event({ subject: 'race' }))
  await billing.usage('race')
  const sql = openSql({ url: billing.databaseUrl, max: 1, applicationName: 'test', log: billing.base.log })
  t.after(() => sql.end({ timeout: 1 }))
  const sending = Array.from({ length: 20 }, () => send(billing, event({ subject: 'race' })))
  const mapping = map('race', 'acme')
  await Promise.all([...sending, mapping])
  assert.equal(await value(billing, 'points', 'acme'), `${1 + 115 + 21}`)
  assert.equal((await sql`select 1 from billaged.usage_event where customer_id = 'race'`).length, 0)
})
