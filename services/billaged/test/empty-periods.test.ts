import assert from 'node:assert/strict'
import test from 'node:test'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { CloseReport, InvoiceSummary } from '../api.ts'
import { metric, minuteNs, startBilling } from './kit.ts'

const thisMonth = Temporal.Instant.fromEpochMilliseconds(Date.now())
  .toZonedDateTimeISO('UTC')
  .with({ day: 1 })
  .startOfDay()
const month = (back: number) => thisMonth.subtract({ months: back })
const name = (back: number) => month(back).toPlainDate().toString().slice(0, 7)

test('a period without subscription and without usage has no invoice and takes no number, whatever was read at its edges', async t => {
  const env = { BILLAGED_CLOSE_GRACE: '0s', BILLAGED_AGGREGATION_INTERVAL: '50ms', BILLAGED_MAX_PAST: '9600h' }
  const billing = await startBilling(t, { env })
  const edge = month(1).toInstant().epochNanoseconds
  const send = (vmId: string, from: number, count: number, cpu: (minute: bigint) => bigint) => {
    const metrics = Array.from({ length: count }, (_, i) => {
      const minute = BigInt(from + i)
      return metric(edge + minute * minuteNs, cpu(minute))
    })
    return billing.rpc('SendMetricsBatch', { vmId, customerId: 'acme', metrics })
  }
  const list = async () => ((await billing.api('GET', '/v1/invoices')).body as { invoices: InvoiceSummary[] }).invoices
  await billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' })
  await billing.api('POST', '/v1/plans/std/versions', {
    effectiveFrom: '2020-01-01T00:00:00Z',
    prices: [{ id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '1', amountNano: '1' }],
  })
  // Three months back a VM was read once; two minutes before last month began another one was, and again at its edge, idle.
  await send('vm-old', -60 * 24 * 40, 1, () => 5n)
  await send('vm-1', -2, 3, () => 100n)
  await send('vm-1', 1, 600, minute => 100n + minute)
  await billing.usage('acme')
  await billing.api('POST', '/v1/subscriptions', {
    customerId: 'acme',
    planId: 'std',
    from: month(1).toInstant().toString(),
  })
  for (const back of [3, 2]) {
    const report = (await billing.api('POST', `/v1/close/${name(back)}`, { customers: ['acme'] })).body as CloseReport
    assert.deepEqual([report.finalised, report.blocked], [[], []], name(back))
  }
  // Last month closes: nothing before it is in its way, and its number is the first.
  await billing.api('POST', `/v1/close/${name(1)}`, { customers: ['acme'] })
  const closed = await pollUntil(async () => (await list()).find(invoice => invoice.state === 'finalised'), {
    what: 'the invoice of last month',
  })
  assert.match(closed.number ?? '', /-000001$/)
  assert.equal((await list()).length, 1)
  assert.equal(closed.period.from.slice(0, 7), name(1))
  // What was used in a month that nobody subscribed is a draft with its reason, and has no number either.
  await send('vm-old', -60 * 24 * 40 + 1, 3, minute => 5n + (minute + 60n * 24n * 40n))
  await billing.usage('acme')
  const found = (await billing.api('POST', `/v1/close/${closedMonthOf(edge)}`, { customers: ['acme'] }))
    .body as CloseReport
  assert.deepEqual(found.finalised, [])
  assert.deepEqual(
    found.blocked.flatMap(({ reasons }) => reasons.map(({ code }) => code)),
    ['unrated_usage'],
  )
  const draft = (await list()).find(invoice => invoice.state === 'draft')
  assert.equal(draft?.number, null)
})

function closedMonthOf(edgeNs: bigint): string {
  return Temporal.Instant.fromEpochNanoseconds(edgeNs - 60n * 24n * 40n * minuteNs)
    .toString()
    .slice(0, 7)
}
