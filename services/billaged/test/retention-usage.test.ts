import assert from 'node:assert/strict'
import test from 'node:test'
import { drivenClock } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { CloseReport, Explanation, Invoice, Usage } from '../api.ts'
import type { Verification } from '../close/verify.ts'
import { checkReceipt, type Receipt } from '../invoices/receipt.ts'
import { type Billing, metric, minuteNs, startBilling } from './kit.ts'

const january = Date.UTC(2024, 0, 1)
const dayMs = 86_400_000
const iso = (ms: number) => new Date(ms).toISOString()

async function ok<T>(reply: ReturnType<Billing['api']>): Promise<T> {
  const { status, body } = await reply
  assert.ok(status >= 200 && status < 300, `${status} ${JSON.stringify(body)}`)
  return body as T
}

/** An hour of readings, a minute apart. */
const readings = (fromMs: number) =>
  Array.from({ length: 61 }, (_, i) =>
    metric(BigInt(fromMs) * 1_000_000n + BigInt(i) * minuteNs, BigInt(i) * minuteNs + 1n),
  )

const event = (id: string, type: string, atMs: number, data: object, subject: string | null = 'acme') => ({
  specversion: '1.0',
  source: 'test',
  id,
  type,
  time: iso(atMs),
  data,
  ...(subject === null ? {} : { subject }),
})

test('usage and events go RETENTION_USAGE after they were used, in whole periods, never while an invoice could still correct them; invoices, receipts, levels and what was said twice outlive them', async t => {
  const clock = drivenClock(january + 40 * dayMs)
  const { url: databaseUrl, sql } = await testDatabase(t)
  const env = { BILLAGED_AGGREGATION_INTERVAL: '20ms', BILLAGED_CLOSE_GRACE: '80000h' }
  const billing = await startBilling(t, { clock, databaseUrl, env })
  const post = (path: string, body: object) => ok<Record<string, unknown>>(billing.api('POST', path, body))
  const sendEvents = (...events: object[]) => post('/api/v1/events', events)
  await post('/api/v1/meters', {
    slug: 'seats',
    aggregation: 'WEIGHTED_SUM',
    valueMode: 'delta',
    eventType: 'seats.changed',
    valueProperty: '$.by',
  })
  await post('/api/v1/meters', { slug: 'calls', aggregation: 'SUM', eventType: 'call', valueProperty: '$.n' })
  await post('/v1/plans', { id: 'std', name: 'Standard' })
  const price = { model: 'per_unit', per: '1', amountNano: '10' }
  await post('/v1/plans/std/versions', {
    effectiveFrom: '2020-01-01T00:00:00Z',
    unbilled: ['vm_disk_read', 'vm_disk_write', 'vm_net_rx', 'vm_net_tx', 'vm_memory'],
    prices: [
      { id: 'cpu', meter: 'vm_cpu', ...price },
      { id: 'calls', meter: 'calls', ...price },
      { id: 'seats', meter: 'seats', ...price },
    ],
  })
  for (const customerId of ['acme', 'globex'])
    await post('/v1/subscriptions', { customerId, planId: 'std', from: iso(january), to: '2024-03-01T00:00:00Z' })
  for (const [customerId, vmId] of [
    ['acme', 'vm-1'],
    ['globex', 'vm-9'],
  ] as const)
    for (const day of [3, 33]) {
      const metrics = readings(january + day * dayMs)
      assert.equal((await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics })).status, 200)
    }
  await sendEvents(
    event('calls-1', 'call', january + 5 * dayMs, { n: '7' }),
    event('calls-2', 'call', january + 35 * dayMs, { n: '11' }),
    event('seats-1', 'seats.changed', january + 5 * dayMs, { by: '10' }),
    // Said twice, the lesser in January, the greater in February: the greater must never be billed.
    event('twice', 'call', january + 6 * dayMs, { n: '1' }),
  )
  await sendEvents(event('twice', 'call', january + 36 * dayMs, { n: '1000' }))
  await billing.usage('acme')
  await billing.usage('globex')
  const nobodys = (id: string) => sql`
    insert into billaged.usage_event (source, id, digest, type, at_ns, data, received_at)
    values ('test', ${id}, '\\x00', 'call', ${BigInt(january) * 1_000_000n}, '{}', now())`
  /** Retention has looked at every customer since this was called. */
  const passes = async () => {
    for (const id of ['pass-1', 'pass-2']) {
      await nobodys(id)
      await pollUntil(
        async () => (await sql`select 1 from billaged.usage_event where id = ${id} and source = 'test'`).count === 0,
        { what: 'a pass of retention' },
      )
    }
  }
  const counts = async (customerId: string) => {
    const [row] = await sql<{ hours: number; events: string[] | null }[]>`
      select (select count(*)::int4 from billaged.usage_hour join billaged.series using (series_id)
          where customer_id = ${customerId} and hour < ${Date.UTC(2024, 1, 1) / 3_600_000}) as hours,
        (select array_agg(id || ' ' || (at_ns / 86400000000000 - 19723) order by id, at_ns) from billaged.usage_event
          where customer_id = ${customerId}) as events`
    return { hours: row?.hours ?? -1, events: row?.events ?? [] }
  }

  // globex has closed January alone: its February stays open, and may correct January for as long.
  const close = (month: string, customers: string[]) =>
    post(`/v1/close/${month}`, { customers }) as unknown as Promise<CloseReport>
  const closed = await close('2024-01', ['acme', 'globex'])
  assert.deepEqual(closed.blocked, [])
  const [acme = ''] = closed.finalised
  clock.advance(25 * dayMs)
  const february = await close('2024-02', ['acme'])
  assert.deepEqual(february.blocked, [])
  const documents = async () =>
    Promise.all(
      ['.json', '.csv', '.html', '.pdf', '/receipt', '/evidence'].map(
        async end => (await billing.api('GET', `/v1/invoices/${acme}${end}`)).body,
      ),
    )
  const before = await documents()
  const usageOfJanuary = async (customerId: string): Promise<Usage> =>
    billing.usage(customerId, `&from=${iso(january)}&to=2024-02-01T00:00:00Z`)
  const janBefore = await usageOfJanuary('acme')
  assert.equal(janBefore.complete, true)
  assert.equal(janBefore.rows.find(({ meter }) => meter === 'calls')?.quantity, '8')

  // The last day on which it must be there: the period that runs began less than 400 days after January's end.
  clock.step(Date.UTC(2025, 2, 31, 23) - clock.now())
  await passes()
  const kept = await counts('acme')
  assert.ok(kept.hours > 0)
  assert.deepEqual(kept.events, ['calls-1 5', 'calls-2 35', 'seats-1 5', 'twice 6', 'twice 36'])
  assert.deepEqual(await usageOfJanuary('acme'), { ...janBefore, asOf: iso(clock.now()) })

  // An hour and a second later it goes, and nothing else does.
  clock.advance(3_601_000)
  await pollUntil(async () => (await counts('acme')).hours === 0, { what: 'the hours of January to go' })
  await passes()
  assert.deepEqual((await counts('acme')).events, ['calls-2 35', 'seats-1 5', 'twice 6', 'twice 36'])
  assert.ok((await counts('globex')).hours > 0)
  const gone = await usageOfJanuary('acme')
  assert.deepEqual([gone.complete, gone.expiredUntil], [false, iso(Date.UTC(2024, 1, 1))])
  assert.equal(gone.rows.find(({ meter }) => meter === 'vm_cpu')?.quantity ?? '0', '0')
  const span = { from: '2024-02-01T00:00:00Z', to: '2024-03-01T00:00:00Z' }
  const feb = await billing.usage('acme', `&from=${span.from}&to=${span.to}`)
  assert.deepEqual([feb.complete, feb.expiredUntil], [true, undefined])
  assert.equal(feb.rows.find(({ meter }) => meter === 'calls')?.quantity, '11')
  assert.equal(feb.rows.find(({ meter }) => meter === 'seats')?.quantity, '10')
  assert.equal((await billing.preview({ customerId: 'acme', from: iso(january), to: span.to })).complete, false)

  // What was written stays, to the byte, and holds without what it was made of.
  assert.deepEqual(await documents(), before)
  const receipt = (await billing.api('GET', `/v1/invoices/${acme}/receipt`)).body as Receipt
  const evidence = ((await billing.api('GET', `/v1/invoices/${acme}/evidence`)).body as string).trim().split('\n')
  assert.deepEqual(checkReceipt(receipt, { evidence }), [])
  const invoice = (await billing.api('GET', `/v1/invoices/${acme}`)).body as Invoice
  const line = invoice.lines.find(({ meter }) => meter === 'vm_cpu')
  const explained = await ok<Explanation>(billing.api('GET', `/v1/lines/${line?.id}/explain?vm=vm-1`))
  assert.equal(explained.vms?.[0]?.quantity, line?.quantity)
  const refused = await billing.api('POST', `/v1/invoices/${acme}/void`, { reason: 'too late' })
  assert.deepEqual([refused.status, Object(refused.body).reason], [409, 'USAGE_EXPIRED'])

  // Sent again, what is forgotten is too old to count; and nothing that is gone is paid back.
  await sendEvents(event('calls-1', 'call', january + 5 * dayMs, { n: '7' }))
  const late = await close('2024-02', ['globex'])
  assert.deepEqual(late.blocked, [])
  const correcting = (await billing.api('GET', `/v1/invoices/${late.finalised[0]}`)).body as Invoice
  assert.deepEqual(
    correcting.lines.filter(({ kind }) => kind === 'adjustment'),
    [],
  )
  await pollUntil(async () => (await counts('globex')).hours === 0, { what: 'globex to have nothing to correct' })
  const verified = await ok<Verification>(billing.api('POST', '/v1/verify'))
  assert.deepEqual([verified.problems, verified.pending], [[], []])
  assert.deepEqual((await billing.usage('acme', `&from=${iso(january)}&to=${span.from}`)).rows, gone.rows)
})
