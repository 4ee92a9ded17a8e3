import assert from 'node:assert/strict'
import test from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { CloseReport, Invoice, InvoiceSummary } from '../api.ts'
import type { Verification } from '../close/verify.ts'
import { type Billing, metric, minuteNs, startBilling } from './kit.ts'

const thisMonth = Temporal.Instant.fromEpochMilliseconds(Date.now())
  .toZonedDateTimeISO('UTC')
  .with({ day: 1 })
  .startOfDay()
const lastMonth = thisMonth.subtract({ months: 1 })
const name = lastMonth.toPlainDate().toString().slice(0, 7)
const startNs = lastMonth.toInstant().epochNanoseconds

const readings = (from: number, count: number) =>
  Array.from({ length: count }, (_, i) => {
    const minute = BigInt(from + i * 2)
    return metric(startNs + minute * minuteNs, minute * minuteNs + 1n, { memoryUsageBytes: '1000' })
  })

async function usageOf(billing: Billing) {
  const span = `&from=${lastMonth.toInstant()}&to=${thisMonth.toInstant()}`
  const [by, hours] = [
    await billing.usage('acme', span),
    await billing.usage(
      'acme',
      `${span.replace(String(thisMonth.toInstant()), String(lastMonth.add({ days: 2 }).toInstant()))}&by=hour`,
    ),
  ]
  return { rows: by.rows, ledger: by.ledger, hours: hours.rows }
}

test('samples go RETENTION_SAMPLES after the close of what they touch and not before; usage, invoices and what comes late stay what they are', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const env = { BILLAGED_RETENTION_SAMPLES: '1h', BILLAGED_AGGREGATION_INTERVAL: '50ms', BILLAGED_CLOSE_GRACE: '9600h' }
  const billing = await startBilling(t, { databaseUrl, env: { ...env, BILLAGED_MAX_PAST: '9600h' } })
  const send = (vmId: string, metrics: object[], customerId = 'acme') =>
    billing.rpc('SendMetricsBatch', { vmId, customerId, metrics })
  await billing.rpc('NotifyVmStarted', { vmId: 'vm-1', customerId: 'acme', startTime: `${startNs + 30n * minuteNs}` })
  await send('vm-1', readings(31, 600))
  await send('vm-1', readings(31 + 1_500, 40))
  await send('vm-2', readings(500, 200))
  // Looked at behind acme: when its samples are gone, acme's have been looked at.
  await send('vm-9', readings(31, 60), 'globex')
  await billing.usage('globex')
  await billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' })
  await billing.api('POST', '/v1/plans/std/versions', {
    effectiveFrom: '2020-01-01T00:00:00Z',
    unbilled: ['vm_disk_read', 'vm_disk_write', 'vm_net_rx', 'vm_net_tx', 'vm_memory'],
    prices: [{ id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000000' }],
  })
  for (const customerId of ['acme', 'globex'])
    await billing.api('POST', '/v1/subscriptions', {
      customerId,
      planId: 'std',
      from: lastMonth.toInstant().toString(),
    })
  const before = await usageOf(billing)
  const counts = async (customerId = 'acme') => {
    const [row] = await sql<{ parts: number; sealed: number }[]>`
      select (select count(*)::int4 from billaged.sample_part join billaged.series using (series_id)
          where customer_id = ${customerId}) as parts,
        (select count(*)::int4 from billaged.series where sealed_hour > 0 and customer_id = ${customerId}) as sealed`
    return { ...row }
  }
  const { parts = 0 } = await counts()

  // Not closed: kept, however old. Closed just now: kept for an hour.
  const report = (await billing.api('POST', `/v1/close/${name}`, { customers: ['acme', 'globex'] })).body as CloseReport
  assert.deepEqual(report.blocked, [])
  const [id = ''] = report.finalised
  const invoice = (await billing.api('GET', `/v1/invoices/${id}`)).body as Invoice
  const [queue] = await sql<{ n: number }[]>`
    select count(*)::int4 as n from billaged.fold_queue where hour < ${thisMonth.epochMilliseconds / 3_600_000}`
  assert.equal(queue?.n, 0, 'a close leaves nothing of its period in the fold queue')
  const evidence = (await billing.api('GET', `/v1/invoices/${id}/evidence`)).body
  assert.deepEqual(await counts(), { parts, sealed: 0 })
  // An hour later, by the invoices' own clock. Without its receipt nothing of acme's goes.
  await sql`create table billaged.receipt_kept as select * from billaged.receipt where customer_id = 'acme'`
  await sql`alter table billaged.receipt disable trigger user`
  await sql`delete from billaged.receipt where customer_id = 'acme'`
  await sql`update billaged.invoice set issued_at = issued_at - interval '61 minutes' where state = 'finalised'`
  await pollUntil(async () => (await counts('globex')).sealed === 1, { what: 'globex to be sealed' })
  assert.deepEqual(await counts(), { parts, sealed: 0 })
  await sql`insert into billaged.receipt select * from billaged.receipt_kept`
  await sql`drop table billaged.receipt_kept`
  await pollUntil(async () => (await counts()).sealed === 2, { what: 'both series to be sealed' })
  const left = await counts()
  assert.ok((left.parts ?? parts) < parts / 2, `${left.parts} of ${parts} parts left`)

  // What is known of the month is the same to the nano, and so is its invoice when it is written again.
  assert.deepEqual(await usageOf(billing), before)
  const verified = (await billing.api('POST', '/v1/verify')).body as Verification
  assert.deepEqual([verified.problems, verified.pending], [[], []])
  await billing.api('POST', `/v1/invoices/${id}/void`, { reason: 'written again' })
  const again = (await billing.api('POST', `/v1/close/${name}`, { customers: ['acme'] })).body as CloseReport
  const rewritten = (await billing.api('GET', `/v1/invoices/${again.finalised[0]}`)).body as Invoice
  assert.deepEqual(
    [rewritten.totalNano, rewritten.lines.map(line => line.quantity)],
    [invoice.totalNano, invoice.lines.map(line => line.quantity)],
  )
  assert.deepEqual((await billing.api('GET', `/v1/invoices/${again.finalised[0]}/evidence`)).body, evidence)

  // Sent again to the byte it is no news; another reading of an expired hour waits for a person, who can only discard it.
  const late = await send('vm-1', [metric(startNs + 40n * minuteNs + 7n, 5n)])
  assert.equal(late.status, 200)
  await billing.usage('acme')
  const { items } = (await billing.api('GET', '/v1/quarantine?customer=acme')).body as {
    items: { id: string; reason: string }[]
  }
  assert.deepEqual(
    items.map(({ reason }) => reason),
    ['expired'],
  )
  assert.deepEqual(await usageOf(billing), before)
  assert.match(await billing.base.registry.metrics(), /^billaged_samples_set_aside_total\{reason="expired"\} 1$/m)
  assert.equal((await billing.api('POST', `/v1/quarantine/${items[0]?.id}/release`, {})).status, 409)
  // The VM runs on: this month is folded with what was kept beside the edge. It may be a minute old.
  const last = thisMonth.toInstant().epochNanoseconds + minuteNs
  await send('vm-1', [metric(last, 9_000_000n * minuteNs), metric(last + minuteNs, 9_000_000n * minuteNs + 77n)])
  const span = `&from=${thisMonth.toInstant()}&to=${thisMonth.add({ hours: 1 }).toInstant()}`
  const running = await billing.usage('acme', span)
  assert.equal(running.rows.find(row => row.meter === 'vm_cpu')?.quantity, '77')
  const list = (await billing.api('GET', '/v1/invoices')).body as { invoices: InvoiceSummary[] }
  assert.equal(list.invoices.filter(({ state }) => state === 'finalised').length, 2)
})
