import { sleep } from '#platform/time'
import { hourMs, periodAt } from '../rating/periods.ts'
import { type CustomerRow, listCustomers } from '../store/customers.ts'
import { finalisedOf, hasReceipts, type InvoiceRow } from '../store/invoices.ts'
import { expireUnclaimed, expireUsage, forgetEnded, sealBefore } from '../store/retention.ts'
import type { CloseContext } from './context.ts'
import { openPeriodsBefore } from './gate.ts'
import { adjustableMs } from './prepare.ts'

// Samples go RETENTION_SAMPLES after the close of the last period that they touch, usage by the hour and events
// RETENTION_USAGE after they were used; both only where every period up to there is finalised and has its receipt, and
// usage never as long as an invoice to come could still correct it.

export interface Retention {
  samplesMs: number
  usageMs: number
}

/** Looks at every customer once in a while, for as long as the process lives. */
export function startRetention(o: CloseContext, retention: Retention & { everyMs: number }): () => Promise<void> {
  const stopping = new AbortController()
  const run = async () => {
    while (!stopping.signal.aborted) {
      await sleep(retention.everyMs, stopping.signal)
      await expire(o, retention, stopping.signal).catch((error: unknown) => {
        o.log.warn({ err: error }, 'nothing expires now; trying again later')
      })
    }
  }
  const running = run().catch(() => {})
  return async () => {
    stopping.abort()
    await running
  }
}

async function expire(o: CloseContext, retention: Retention, signal: AbortSignal): Promise<void> {
  await expireUnclaimed(o.sql, BigInt(o.clock.now() - retention.usageMs) * 1_000_000n)
  for (let after = ''; ; ) {
    const page = await listCustomers(o.sql, { after, limit: 200, only: null, now: new Date(o.clock.now()) })
    for (const customer of page) {
      if (signal.aborted) return
      // One that fails does not keep the others' samples.
      await expireCustomer(o, customer, retention, signal).catch((error: unknown) => {
        o.log.warn({ err: error, customerId: customer.id }, 'nothing of this customer expires now; trying again later')
      })
    }
    const last = page.at(-1)
    if (last === undefined || page.length < 200) return
    after = last.id
  }
}

async function expireCustomer(o: CloseContext, customer: CustomerRow, retention: Retention, signal: AbortSignal) {
  const nowMs = o.clock.now()
  const closed = await closedBefore(o, customer, nowMs - retention.samplesMs)
  if (closed === null) return
  const parts = await sealBefore(o.reader, o.rules, customer.id, closed, signal)
  const usageMs = Math.min(nowMs - retention.usageMs, (await nextInvoice(o, customer)) - adjustableMs)
  const levels = o.meters.filter(({ aggregation }) => aggregation === 'WEIGHTED_SUM').map(({ eventType }) => eventType)
  // Whole periods: one that is gone in part could not be rated again.
  const until = Math.min(closed, periodAt(customer, usageMs).from)
  const rows = await expireUsage(o.sql, customer.id, until, levels)
  const vms = await forgetEnded(o.sql, customer.id, until, signal)
  if (parts + rows + vms > 0) o.log.info({ customerId: customer.id, parts, rows, vms }, 'samples and usage expired')
}

/** Where the earliest period begins that an invoice is still to be written for: it may correct what lies before it. */
async function nextInvoice(o: CloseContext, customer: CustomerRow): Promise<number> {
  const running = periodAt(customer, o.clock.now())
  const [first] = await openPeriodsBefore(o, customer, running)
  return (first ?? running).from * hourMs
}

/** The end of the last period that, with all before it, was closed by then; null when there is none. */
async function closedBefore(o: CloseContext, customer: CustomerRow, byMs: number): Promise<number | null> {
  const isOld = (invoice: InvoiceRow) => invoice.issuedAt !== null && invoice.issuedAt.getTime() <= byMs
  const finalised = await finalisedOf(o.sql, customer.id)
  const firstYoung = finalised.findIndex(invoice => !isOld(invoice))
  const old = firstYoung < 0 ? finalised : finalised.slice(0, firstYoung)
  const until = old.at(-1)?.period.to
  if (until === undefined) return null
  const open = await openPeriodsBefore(o, customer, { from: until, to: until })
  if (
    open.length > 0 ||
    !(await hasReceipts(
      o.sql,
      old.map(({ id }) => id),
    ))
  )
    return null
  return until
}
