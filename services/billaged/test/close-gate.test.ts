import assert from 'node:assert/strict'
import test from 'node:test'
import { openSql } from '#platform/postgres'
import { drivenClock } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { CloseReport, Invoice, InvoiceSummary } from '../api.ts'
import { type Billing, metric, minuteNs, startBilling } from './kit.ts'

const hourMs = 3_600_000
/** The middle of a month after the one that is closed. */
const closedMonth = '2026-03'
const endMs = Date.UTC(2026, 3, 1)

async function sendHour(billing: Billing, customerId: string, at: string) {
  const startNs = Temporal.Instant.from(at).epochNanoseconds
  const metrics = Array.from({ length: 61 }, (_, i) =>
    metric(startNs + BigInt(i) * minuteNs, BigInt(i) * minuteNs + 1n),
  )
  assert.equal((await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId, metrics })).status, 200)
  await billing.usage(customerId)
}

async function givePlan(billing: Billing, ...customers: string[]) {
  await billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' })
  await billing.api('POST', '/v1/plans/std/versions', {
    effectiveFrom: '2020-01-01T00:00:00Z',
    prices: [{ id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000000' }],
  })
  for (const customerId of customers)
    await billing.api('POST', '/v1/subscriptions', { customerId, planId: 'std', from: '2026-03-01T00:00:00Z' })
}

const close = async (billing: Billing, body: object = {}) =>
  (await billing.api('POST', `/v1/close/${closedMonth}`, body)).body as CloseReport
const codesOf = (report: CloseReport) =>
  Object.fromEntries(report.blocked.map(({ customerId, reasons }) => [customerId, reasons.map(({ code }) => code)]))

test('G41: a close waits for folding, quarantine, prices and replicas, and says what and how to mend it; force passes two of them, with a reason', async t => {
  const clock = drivenClock(endMs + 10 * hourMs)
  const billing = await startBilling(t, { clock, env: { BILLAGED_CLOSE_GRACE: '9000h' } })
  for (const id of ['acme', 'globex', 'initech']) await sendHour(billing, id, '2026-03-10T00:00:00Z')
  await givePlan(billing, 'acme', 'globex')
  // acme: nothing in the way. globex: a reading without a time. initech: no subscription.
  await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'globex', metrics: [{ cpuTimeNanos: '5' }] })
  await billing.usage('globex')
  const sql = openSql({ url: billing.databaseUrl, max: 1, applicationName: 'test', log: billing.base.log })
  t.after(() => sql.end({ timeout: 1 }))

  // The running month is nobody's to close, forced or not.
  const running = (await billing.api('POST', '/v1/close/2026-04', { force: { reason: 'now' } })).body as CloseReport
  assert.ok(running.blocked.length > 0 && running.finalised.length === 0)
  for (const { reasons } of running.blocked) assert.ok(reasons.some(({ code }) => code === 'period_not_over'))

  // A replica that is gone holds everybody up; no force helps, only a word that it is lost.
  const lost = '00000000-0000-4000-8000-000000000000'
  await sql`insert into billaged.replica (id) values (${lost})`
  const forcedOver = async () => {
    const closing = close(billing, { customers: ['acme'], force: { reason: 'now' } })
    // The gate asks until its patience, on the service's own clock, is over.
    const patience = setInterval(() => clock.advance(1_000), 50)
    return closing.finally(() => clearInterval(patience))
  }
  assert.deepEqual(codesOf(await forcedOver()), { acme: ['replica_behind'] })
  const draft = (await billing.api('GET', '/v1/invoices?customer=acme&period=2026-03')).body as {
    invoices: InvoiceSummary[]
  }
  assert.deepEqual(
    draft.invoices.map(({ state, number }) => [state, number]),
    [['draft', null]],
  )
  assert.match(draft.invoices[0]?.blockers[0]?.fix ?? '', /billaged replica retire 00000000-/)
  assert.equal((await billing.api('POST', `/v1/replicas/${lost}/retire`)).status, 200)

  const first = await close(billing)
  assert.equal(first.finalised.length, 1)
  assert.deepEqual(codesOf(first), { globex: ['open_quarantine'], initech: ['unrated_usage'] })
  for (const { invoiceId, reasons } of first.blocked) {
    const waiting = (await billing.api('GET', `/v1/invoices/${invoiceId}`)).body as Invoice
    assert.equal(waiting.state, 'draft')
    assert.deepEqual(waiting.blockers, reasons)
    for (const { fix } of reasons) assert.match(fix, /^billaged /)
  }
  assert.equal((await billing.api('POST', `/v1/close/${closedMonth}`, { force: { reason: '' } })).status, 400)
  const forced = await close(billing, { force: { reason: 'agreed with both' } })
  assert.deepEqual([forced.blocked, forced.finalised.length], [[], 3])
  for (const { invoiceId, reasons } of first.blocked) {
    const written = (await billing.api('GET', `/v1/invoices/${invoiceId}`)).body as Invoice
    assert.deepEqual(
      [written.state, written.forced?.reason, written.forced?.over],
      ['finalised', 'agreed with both', reasons],
    )
  }
  const [audit] = await sql<{ n: number }[]>`
    select count(*)::int4 as n from tenancy.audit a where a::text like '%invoice.finalise%agreed with both%'`
  assert.equal(audit?.n, 2)
})

test('G41: a period with nothing in its way closes by itself at its end + CLOSE_GRACE, and not before', async t => {
  const clock = drivenClock(endMs + 24 * hourMs - 60_000)
  const billing = await startBilling(t, { clock, env: { BILLAGED_AGGREGATION_INTERVAL: '1s' } })
  await sendHour(billing, 'acme', '2026-03-10T00:00:00Z')
  await givePlan(billing, 'acme')
  const finalised = async () => {
    const list = (await billing.api('GET', '/v1/invoices?state=finalised')).body as { invoices: InvoiceSummary[] }
    return list.invoices.map(({ customerId, period }) => [customerId, period.from.slice(0, 7)])
  }
  const sweeps = async () => {
    const text = await (await fetch(`${billing.url}/metrics`)).text()
    return text.includes('billaged_invoices{state="finalised"} 0')
  }
  // A whole pass has looked at it, one minute before its time.
  await pollUntil(sweeps, { what: 'a pass of the sweep' })
  assert.deepEqual(await finalised(), [])
  // Each customer is looked at every ten minutes.
  await pollUntil(
    async () => {
      clock.advance(10 * 60_000)
      return (await finalised()).length === 1
    },
    { what: 'the invoice', everyMs: 1_500 },
  )
  assert.deepEqual(await finalised(), [['acme', closedMonth]])
})
