import type { Queryable } from '#platform/postgres'
import { adjustmentsOf } from '../invoices/adjust.ts'
import { draftInvoice } from '../invoices/draft.ts'
import type { Draft } from '../invoices/invoice.ts'
import { hourMs } from '../rating/periods.ts'
import type { Hours, Line } from '../rating/rate.ts'
import { loadGrants } from '../store/credits.ts'
import type { CustomerRow } from '../store/customers.ts'
import { finalisedOf, type InvoiceRow, loadBilled } from '../store/invoices.ts'
import { type PlannedPeriod, type PricedPeriod, planPeriod, pricePeriod } from '../store/pricing.ts'
import { expiredHourOf } from '../store/retention.ts'
import { FactsExpired, pricePeriodAsOf } from '../store/usage-as-of.ts'
import type { CloseContext } from './context.ts'

/** A period as it rates now, and every closed period of the customer as that rates now. */
export interface Prepared {
  customer: CustomerRow
  period: Hours
  planned: PlannedPeriod
  priced: PricedPeriod
  closed: { invoice: InvoiceRow; rated: readonly Line[] }[]
  /** As it was known then: facts, invoices and credits. Plans and settings are as they are now. */
  asOf?: Date
}

/** How long a closed period is rated again for what came late. Older facts are not taken in (`MAX_PAST`), and a release
 *  from quarantine that reaches further back needs a void. */
export const adjustableMs = 400 * 24 * hourMs

/** The long part: measuring and rating. Nothing is locked meanwhile; `draftOf` sees to what changed. */
export async function prepare(
  o: CloseContext,
  customer: CustomerRow,
  period: Hours,
  price: (planned: PlannedPeriod) => Promise<PricedPeriod> = () =>
    pricePeriod(o.reader, o.meters, o.rules, customer.id, period, null),
): Promise<Prepared> {
  const planned = await planPeriod(o.reader, customer.id, period, null)
  const priced = await price(planned)
  const closed: Prepared['closed'] = []
  for (const invoice of await adjustable(o.sql, customer.id, period)) {
    const { lines } = await pricePeriod(o.reader, o.meters, o.rules, customer.id, invoice.period, null)
    closed.push({ invoice, rated: lines })
  }
  return { customer, period, planned, priced, closed }
}

/** The same from what had come in by `asOf`. Of closed periods whose samples have expired there is what was kept of them,
 *  which nothing has changed since; of the period itself `FactsExpired` is thrown. */
export async function prepareAsOf(
  o: CloseContext,
  customer: CustomerRow,
  period: Hours,
  asOf: Date,
): Promise<Prepared> {
  const rate = (span: Hours) => pricePeriodAsOf(o.reader, o.meters, o.rules, customer.id, span, asOf)
  const closed: Prepared['closed'] = []
  for (const invoice of await adjustable(o.sql, customer.id, period, asOf)) {
    const { lines } = await rate(invoice.period).catch((error: unknown) => {
      if (error instanceof FactsExpired)
        return pricePeriod(o.reader, o.meters, o.rules, customer.id, invoice.period, null)
      throw error
    })
    closed.push({ invoice, rated: lines })
  }
  const planned = await planPeriod(o.reader, customer.id, period, null)
  return { customer, period, planned, priced: await rate(period), closed, asOf }
}

async function adjustable(sql: Queryable, customerId: string, period: Hours, asOf?: Date): Promise<InvoiceRow[]> {
  const finalised = await finalisedOf(sql, customerId, asOf)
  // What its usage was is not known any more: rated again, it would be paid back.
  const expiredHour = await expiredHourOf(sql, customerId)
  return finalised.filter(
    invoice =>
      invoice.period.from !== period.from &&
      invoice.period.from >= expiredHour &&
      invoice.period.to * hourMs > period.from * hourMs - adjustableMs,
  )
}

/** The invoice that the prepared period makes beside what is billed and credited now. In a transaction that holds the
 *  customer's row, that is what it makes for good. `changed`: an invoice was closed or voided since; prepare again. */
export async function draftOf(sql: Queryable, prepared: Prepared, revision: number): Promise<Draft | 'changed'> {
  const { customer, period, priced, closed, asOf } = prepared
  const ids = (rows: readonly InvoiceRow[]) => rows.map(({ id }) => id).join()
  if (ids(await adjustable(sql, customer.id, period, asOf)) !== ids(closed.map(({ invoice }) => invoice)))
    return 'changed'
  const adjustments = []
  for (const { invoice, rated } of closed) {
    const billed = await loadBilled(sql, invoice, asOf)
    adjustments.push(
      ...adjustmentsOf({
        customerId: customer.id,
        period: invoice.period,
        revision: invoice.revision,
        taxPpm: invoice.taxPpm ?? 0,
        billed,
        rated,
      }),
    )
  }
  return draftInvoice({
    customerId: customer.id,
    period,
    revision,
    currency: priced.currency,
    taxPpm: customer.taxPpm,
    taxName: customer.taxName,
    charges: priced.lines,
    adjustments,
    grants: await loadGrants(sql, customer.id, asOf),
  })
}
