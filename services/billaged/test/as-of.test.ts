import assert from 'node:assert/strict'
import test from 'node:test'
import { drivenClock } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { CloseReport, Invoice, InvoiceAsOf, InvoiceList, Usage } from '../api.ts'
import { metric, minuteNs, minutesAgo, quantityOf, startBilling } from './kit.ts'

test('?asOf= says what was known then, beside now: late readings, marks, listings, events, conflicts and voids are each from when they came', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const billing = await startBilling(t, { databaseUrl })
  const base = minutesAgo(240)
  const span = `&from=${Temporal.Instant.fromEpochNanoseconds(base)}&to=${Temporal.Instant.fromEpochNanoseconds(base + 200n * minuteNs)}`
  const send = (minutes: number[]) =>
    billing.rpc('SendMetricsBatch', {
      vmId: 'vm-1',
      customerId: 'acme',
      metrics: minutes.map(m => metric(base + BigInt(m) * minuteNs, BigInt(m + 1) * 1_000n)),
    })
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
  const event = (id: string, n: string) => ({
    specversion: '1.0',
    source: 'test',
    id,
    type: 'builderd.build_time',
    subject: 'acme',
    time: new Date(Number(base / 1_000_000n) + 600_000).toISOString(),
    data: { running_ms: n },
  })
  const post = (one: object) => billing.api('POST', '/api/v1/events', one)
  /** A time between what is folded and what comes next; usage as it is then. */
  const mark = async () => {
    const now = await billing.usage('acme', span)
    const at = new Date(Date.now() + 2)
    await pollUntil(
      async () => (await sql<{ isOver: boolean }[]>`select clock_timestamp() > ${at} as "isOver"`)[0]?.isOver,
      { what: 'the clock to go on', everyMs: 1 },
    )
    return { at, now }
  }

  await send(range(0, 60))
  await post(event('one', '500'))
  const first = await mark()
  // Half an hour late: the gap in between is filled, a conflict lowers the event, a start notice makes the head count.
  await send(range(60, 120))
  await send([150])
  await post(event('one', '300'))
  await post(event('two', '70'))
  const second = await mark()
  await send(range(120, 150))
  await billing.rpc('NotifyVmStarted', { vmId: 'vm-1', customerId: 'acme', startTime: `${base - minuteNs}` })
  await billing.rpc('NotifyVmStopped', { vmId: 'vm-1', stopTime: `${base + 155n * minuteNs}` })
  await billing.rpc('SendHeartbeat', { instanceId: 'h1', activeVms: ['vm-1'] })
  await billing.api('POST', '/v1/events/void', { source: 'test', id: 'two', reason: 'wrong' })
  const third = await mark()

  const values = (usage: Pick<Usage, 'rows' | 'ledger'>) => ({ rows: usage.rows, ledger: usage.ledger })
  const read = async (query: string) =>
    (await billing.api('GET', `/v1/customers/acme/usage?wait=20s${span}${query}`)).body as Usage
  for (const { at, now } of [first, second, third]) {
    const then = await read(`&asOf=${at.toISOString()}`)
    assert.deepEqual(values(then), values(now), at.toISOString())
    assert.equal(then.asOf, at.toISOString())
    assert.ok(then.now)
    assert.deepEqual(values(then.now), values(third.now))
  }
  assert.ok(quantityOf(first.now, 'vm_cpu') < quantityOf(second.now, 'vm_cpu'))
  assert.ok(quantityOf(second.now, 'vm_cpu') < quantityOf(third.now, 'vm_cpu'))
  assert.deepEqual(
    [first, second, third].map(({ now }) => quantityOf(now, 'build_ms')),
    [500n, 370n, 300n],
  )
  const hours = await read(`&by=hour&asOf=${second.at.toISOString()}`)
  assert.equal(quantityOf(hours, 'vm_cpu'), quantityOf(second.now, 'vm_cpu'))
  assert.equal((await billing.api('GET', `/v1/customers/acme/usage?asOf=2090-01-01T00:00:00Z`)).status, 400)
})

test('invoices as of a time are those that were written by then, in the state they were in', async t => {
  const clock = drivenClock(Date.UTC(2026, 2, 5))
  const billing = await startBilling(t, { clock, env: { BILLAGED_CLOSE_GRACE: '80000h' } })
  await billing.api('POST', '/v1/plans', { id: 'flat', name: 'Flat' })
  const price = { id: 'base', model: 'flat', amountNano: '5000000000' }
  await billing.api('POST', '/v1/plans/flat/versions', { effectiveFrom: '2020-01-01T00:00:00Z', prices: [price] })
  await billing.api('POST', '/v1/subscriptions', { customerId: 'acme', planId: 'flat', from: '2026-02-01T00:00:00Z' })
  const close = async () => {
    const { body } = await billing.api('POST', '/v1/close/2026-02', { customers: ['acme'] })
    return (body as { finalised: string[] }).finalised[0] ?? ''
  }
  const times = [clock.now()]
  clock.advance(60_000)
  const first = await close()
  times.push(clock.now())
  clock.advance(60_000)
  await billing.api('POST', `/v1/invoices/${first}/void`, { reason: 'test' })
  times.push(clock.now())
  clock.advance(60_000)
  const second = await close()
  times.push(clock.now())
  const at = async (ms: number | undefined, state = '') => {
    const query = `asOf=${new Date(ms ?? 0).toISOString()}${state}`
    const { invoices } = (await billing.api('GET', `/v1/invoices?${query}`)).body as InvoiceList
    return invoices.map(one => [one.id, one.state]).sort()
  }
  const sorted = (...rows: string[][]) => rows.sort()
  assert.deepEqual(await at(times[0]), [])
  assert.deepEqual(await at(times[1]), [[first, 'finalised']])
  assert.deepEqual(await at(times[2]), [[first, 'void']])
  assert.deepEqual(await at(times[3]), sorted([first, 'void'], [second, 'finalised']))
  assert.deepEqual(await at(times[1], '&state=finalised'), [[first, 'finalised']])
  assert.deepEqual(await at(times[1], '&state=void'), [])
})

test('one invoice as of a time: what its draft said then, or the invoice that was written, beside what it says now', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const billing = await startBilling(t, { databaseUrl, env: { BILLAGED_CLOSE_GRACE: '80000h' } })
  const running = Temporal.Now.zonedDateTimeISO('UTC').with({ day: 1 }).startOfDay()
  const month = running.subtract({ months: 1 })
  const nameOf = (first: Temporal.ZonedDateTime) => first.toPlainDate().toString().slice(0, 7)
  const base = month.add({ days: 14 }).epochNanoseconds
  const send = (from: number, to: number) =>
    billing.rpc('SendMetricsBatch', {
      vmId: 'vm-1',
      customerId: 'acme',
      metrics: Array.from({ length: to - from + 1 }, (_, i) =>
        metric(base + BigInt(from + i) * minuteNs, BigInt(from + i + 1)),
      ),
    })
  /** A time behind everything that is stored and before everything that comes. */
  const mark = async () => {
    await billing.usage('acme')
    const at = new Date(Date.now() + 2)
    await pollUntil(
      async () => (await sql<{ isOver: boolean }[]>`select clock_timestamp() > ${at} as "isOver"`)[0]?.isOver,
      { what: 'the clock to go on', everyMs: 1 },
    )
    return at.toISOString()
  }
  const read = async (id: string, asOf?: string) => {
    const reply = await billing.api('GET', `/v1/invoices/${id}${asOf === undefined ? '' : `?asOf=${asOf}`}`)
    assert.equal(reply.status, 200, JSON.stringify(reply.body))
    return reply.body as InvoiceAsOf
  }
  const close = async (first: Temporal.ZonedDateTime) => {
    const reply = await billing.api('POST', `/v1/close/${nameOf(first)}`, { customers: ['acme'] })
    return reply.body as CloseReport
  }
  await billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' })
  const prices = [{ id: 'cpu', meter: 'vm_cpu', model: 'per_unit', per: '1', amountNano: '1000000000' }]
  await billing.api('POST', '/v1/plans/std/versions', { effectiveFrom: '2020-01-01T00:00:00Z', prices })
  const from = month.toInstant().toString()
  await billing.api('POST', '/v1/subscriptions', { customerId: 'acme', planId: 'std', from })
  await send(0, 60)
  const early = await mark()
  await send(61, 120)
  const open = await mark()
  const { finalised } = await close(month)
  const id = finalised[0] ?? ''
  const written = await read(id)
  const closed = await mark()
  await send(121, 150)
  const late = await mark()

  const total = (invoice: Invoice) => BigInt(invoice.totalNano) / 1_000_000_000n
  assert.deepEqual([(await read(id, early)).state, total(await read(id, early))], ['draft', 60n])
  const atOpen = await read(id, open)
  assert.deepEqual([atOpen.lines, atOpen.totalNano], [written.lines, written.totalNano])
  assert.deepEqual([atOpen.state, atOpen.number, atOpen.asOf], ['draft', null, open])
  for (const at of [early, open, closed]) assert.deepEqual((await read(id, at)).now, written)
  assert.deepEqual(await read(id, closed), { ...written, asOf: closed, now: written })

  // The running month's draft corrects the closed one only once it was corrected.
  const draftId = (await close(running)).blocked[0]?.invoiceId ?? ''
  assert.deepEqual((await read(draftId, closed)).lines, [])
  const corrected = await read(draftId, late)
  assert.deepEqual(
    corrected.lines.filter(({ kind }) => kind === 'adjustment').map(({ amountNano }) => amountNano),
    ['30000000000'],
  )
  assert.deepEqual(corrected.lines, corrected.now.lines)
  // A credit of later was none then.
  await billing.api('POST', '/v1/credits', { customerId: 'acme', kind: 'promotional', amountNano: '5', from })
  assert.deepEqual((await read(draftId, late)).lines, corrected.lines)
  assert.ok((await read(draftId, await mark())).lines.some(({ kind }) => kind === 'credit'))

  await billing.api('POST', `/v1/invoices/${id}/void`, { reason: 'test' })
  const voided = await mark()
  assert.deepEqual([(await read(id, late)).state, (await read(id, voided)).state], ['finalised', 'void'])
  const [next] = ((await billing.api('GET', `/v1/invoices?period=${nameOf(month)}&state=draft`)).body as InvoiceList)
    .invoices
  // Less the credit.
  assert.equal((await read(next?.id ?? '', voided)).totalNano, '149999999995')
  assert.equal((await billing.api('GET', `/v1/invoices/${next?.id}?asOf=${late}`)).status, 404)
  assert.equal((await billing.api('GET', `/v1/invoices/${id}.pdf?asOf=${late}`)).status, 400)
  assert.equal((await billing.api('GET', `/v1/invoices/${id}?asOf=2090-01-01T00:00:00Z`)).status, 400)
})
