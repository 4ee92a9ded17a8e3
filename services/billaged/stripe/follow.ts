import { sleep } from '#platform/time'
import { stopPatienceMs, waitAtMost } from '../patience.ts'
import { periodAt } from '../rating/periods.ts'
import { loadInvoice, loadLines } from '../store/invoices.ts'
import {
  dueInvoices,
  findStripeInvoice,
  holdCustomer,
  listStripeCustomers,
  noteStatus,
  type StripeInvoiceRow,
  stripeCustomerOf,
} from '../store/stripe.ts'
import { problemOf, type StripeAdapter } from './adapter.ts'
import { pushInvoice } from './invoice.ts'
import { idempotencyKey } from './items.ts'
import { postTotals } from './totals.ts'

// What follows a close: finalised and void invoices become so at Stripe too, and what Stripe says of them is mirrored. In
// mode `meters` the totals of running periods are posted. All of it is asked for again until both sides agree.

const dueMax = 100
/** An open invoice is asked about so often; a signed notice of Stripe's makes it at once. */
const askAgainMs = 15 * 60_000
const retryMs = [5_000, 30_000, 120_000, 600_000, 3_600_000]
const restPerWork = 4

/** Returns how to stop it. */
export function startFollowing(o: StripeAdapter, everyMs: number): () => Promise<void> {
  const { clock, log } = o.base
  const stopping = new AbortController()
  let timer: NodeJS.Timeout | undefined
  let pass = Promise.resolve()
  const follow = async () => {
    for (const row of await dueInvoices(o.sql, new Date(clock.now()), dueMax)) {
      if (stopping.signal.aborted) return
      await bringTogether(o, row)
    }
    if (o.mode === 'meters') await postAll(o, stopping.signal)
  }
  const schedule = () => {
    timer = setTimeout(() => {
      pass = follow()
        .catch((error: unknown) => log.warn({ err: error }, 'Stripe is not followed now; trying again'))
        .then(() => {
          if (!stopping.signal.aborted) schedule()
        })
    }, everyMs)
  }
  schedule()
  return async () => {
    stopping.abort()
    clearTimeout(timer)
    await waitAtMost(pass, stopPatienceMs)
  }
}

/** Never throws: one invoice that fails keeps none of the others. */
export async function bringTogether(o: StripeAdapter, row: StripeInvoiceRow): Promise<void> {
  const nowMs = o.base.clock.now()
  try {
    const status = await holdCustomer(o.sql, row.customerId, async tx => {
      if (row.state === 'finalised') return finaliseThere(o, tx, row)
      return voidThere(o, row)
    })
    await noteStatus(o.sql, row.invoiceId, { status }, new Date(nowMs + askAgainMs))
  } catch (error) {
    o.count('failed')
    o.base.log.warn(
      { err: error, invoiceId: row.invoiceId, stripeId: row.stripeId },
      'Stripe and we disagree; trying again',
    )
    const waitMs = retryMs[Math.min(row.attempts, retryMs.length - 1)] ?? 0
    await noteStatus(o.sql, row.invoiceId, { problem: problemOf(error) }, new Date(nowMs + waitMs))
  }
}

/** A notice names an invoice and is believed in nothing else: what Stripe has is asked, so their order does not matter. */
export async function mirror(o: StripeAdapter, stripeId: string): Promise<void> {
  const row = await findStripeInvoice(o.sql, stripeId)
  if (row !== null && row.state !== 'draft') await bringTogether(o, row)
}

async function finaliseThere(o: StripeAdapter, tx: Parameters<typeof pushInvoice>[1], row: StripeInvoiceRow) {
  const there = await o.stripe.invoices.retrieve(row.stripeId)
  if (there.status !== 'draft') return there.status ?? 'draft'
  // The draft there is of before our last word: credits may have been used up in between.
  const invoice = await loadInvoice(tx, row.invoiceId)
  const stripeCustomer = await stripeCustomerOf(tx, row.customerId)
  if (invoice === null || stripeCustomer === null || row.dueMinor === null) return there.status
  const lines = await loadLines(tx, row.invoiceId)
  await pushInvoice(o, tx, { ...invoice, id: row.invoiceId, stripeCustomer, lines, dueMinor: row.dueMinor })
  const finalised = await o.stripe.invoices.finalizeInvoice(
    row.stripeId,
    { auto_advance: true },
    { idempotencyKey: idempotencyKey('finalise', row.invoiceId, null) },
  )
  o.count('pushed')
  return finalised.status ?? 'open'
}

async function voidThere(o: StripeAdapter, row: StripeInvoiceRow): Promise<string> {
  const there = await o.stripe.invoices.retrieve(row.stripeId)
  switch (there.status) {
    case 'draft':
      await o.stripe.invoices.del(row.stripeId)
      return 'deleted'
    case 'open':
    case 'uncollectible':
      return (await o.stripe.invoices.voidInvoice(row.stripeId)).status ?? 'void'
    case 'paid':
      throw new Error(`invoice ${row.stripeId} is paid at Stripe and void here; refund it there`)
    default:
      return 'void'
  }
}

async function postAll(o: StripeAdapter, signal: AbortSignal) {
  const { clock, log } = o.base
  for (let after = ''; !signal.aborted; ) {
    const page = await listStripeCustomers(o.sql, after, 200)
    for (const customer of page) {
      if (signal.aborted) return
      const beganMs = clock.monotonicMs()
      const wanted = {
        customerId: customer.id,
        stripeCustomer: customer.stripeId,
        period: periodAt(customer, clock.now()),
        isFinal: false,
      }
      try {
        await holdCustomer(o.sql, customer.id, tx => postTotals(o, tx, wanted))
        o.count('pushed')
      } catch (error) {
        o.count('failed')
        log.warn({ err: error, customerId: customer.id }, 'totals could not be posted to Stripe; trying again')
      }
      await sleep(restPerWork * (clock.monotonicMs() - beganMs), signal).catch(() => {})
    }
    const last = page.at(-1)
    if (last === undefined || page.length < 200) return
    after = last.id
  }
}
