import type Stripe from 'stripe'
import type { Queryable } from '#platform/postgres'
import type { InvoiceLine } from '../invoices/invoice.ts'
import type { Hours } from '../rating/rate.ts'
import { noteInvoice } from '../store/stripe.ts'
import type { StripeContext } from './adapter.ts'
import { type Item, idempotencyKey, isPushable, itemsOf } from './items.ts'

// One invoice of ours as one draft invoice of Stripe's. Whatever happened to earlier tries, this makes it so: it looks for
// what is there by our ids in the metadata, and creates, changes or removes what differs. Amounts are whole, never added.

export interface InvoiceToPush {
  id: string
  customerId: string
  stripeCustomer: string
  period: Hours
  currency: string
  lines: readonly Pick<InvoiceLine, 'id' | 'kind' | 'description' | 'amountNano'>[]
  dueMinor: bigint
}

/** Invoices of one customer that are looked through for ours, newest first. */
const lookedThroughMax = 500

export async function pushInvoice(
  o: Pick<StripeContext, 'stripe' | 'base'>,
  tx: Queryable,
  invoice: InvoiceToPush,
): Promise<void> {
  // Nothing to collect: a credit that is left stays with us.
  if (invoice.dueMinor <= 0n) return removeDraft(o, tx, invoice)
  if (!isPushable(invoice.currency))
    throw new Error(`Stripe counts ${invoice.currency} in other units than we do; take the customer off Stripe`)
  const there = (await findInvoice(o.stripe, invoice)) ?? (await createInvoice(o.stripe, invoice))
  if (there.id === undefined) throw new Error('BUG: an invoice that was made has an id')
  const note = (status: string) =>
    noteInvoice(tx, {
      customerId: invoice.customerId,
      period: invoice.period,
      invoiceId: invoice.id,
      stripeId: there.id ?? '',
      status,
      now: new Date(o.base.clock.now()),
    })
  if (there.status === 'draft')
    await matchItems(o.stripe, there.id, invoice, itemsOf(invoice.id, invoice.currency, invoice.lines))
  const { total, status } = await o.stripe.invoices.retrieve(there.id)
  if (BigInt(total) !== invoice.dueMinor)
    throw new Error(`Stripe has ${total} due on ${there.id} (${status}), our invoice ${invoice.id} ${invoice.dueMinor}`)
  await note(status ?? 'draft')
}

/** An earlier try may have found something to collect. */
async function removeDraft(o: Pick<StripeContext, 'stripe' | 'base'>, tx: Queryable, invoice: InvoiceToPush) {
  const there = await findInvoice(o.stripe, invoice)
  if (there?.id === undefined || there.status !== 'draft') return
  await o.stripe.invoices.del(there.id)
  const { customerId, period, id: invoiceId } = invoice
  const now = new Date(o.base.clock.now())
  await noteInvoice(tx, { customerId, period, invoiceId, stripeId: there.id, status: 'deleted', now })
}

async function findInvoice(stripe: Stripe, { id, stripeCustomer }: InvoiceToPush): Promise<Stripe.Invoice | null> {
  let seen = 0
  for await (const invoice of stripe.invoices.list({ customer: stripeCustomer, limit: 100 })) {
    if (invoice.metadata?.purser_invoice === id && invoice.status !== 'void') return invoice
    if (++seen >= lookedThroughMax) return null
  }
  return null
}

function createInvoice(stripe: Stripe, invoice: InvoiceToPush): Promise<Stripe.Invoice> {
  const parameters = {
    customer: invoice.stripeCustomer,
    currency: invoice.currency.toLowerCase(),
    // Ours is finalised first; and only what we put there is on it.
    auto_advance: false,
    pending_invoice_items_behavior: 'exclude',
    metadata: { purser_invoice: invoice.id, purser_customer: invoice.customerId },
  } as const
  return stripe.invoices.create(parameters, { idempotencyKey: idempotencyKey('invoice', invoice.id, parameters) })
}

async function matchItems(stripe: Stripe, stripeInvoice: string, invoice: InvoiceToPush, wanted: readonly Item[]) {
  const missing = new Map(wanted.map(item => [item.lineId, item]))
  for await (const item of stripe.invoiceItems.list({ invoice: stripeInvoice, limit: 100 })) {
    const want = missing.get(item.metadata?.purser_line ?? '')
    // A line of an earlier draft, or there twice.
    if (want === undefined) await stripe.invoiceItems.del(item.id)
    else {
      missing.delete(want.lineId)
      if (item.amount !== want.amountMinor || item.description !== want.description)
        await stripe.invoiceItems.update(item.id, { amount: want.amountMinor, description: want.description })
    }
  }
  for (const { lineId, description, amountMinor } of missing.values()) {
    const parameters = {
      customer: invoice.stripeCustomer,
      invoice: stripeInvoice,
      currency: invoice.currency.toLowerCase(),
      amount: amountMinor,
      description,
      metadata: { purser_line: lineId },
    }
    await stripe.invoiceItems.create(parameters, { idempotencyKey: idempotencyKey('item', lineId, parameters) })
  }
}
