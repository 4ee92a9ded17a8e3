import { Counter, type Registry } from 'prom-client'
import type Stripe from 'stripe'
import type { Base } from '#platform/lifecycle'
import type { Sql } from '#platform/postgres'
import type { Meter } from '../events/meter.ts'
import type { Draft } from '../invoices/invoice.ts'
import type { PartReader } from '../store/series.ts'
import { holdCustomer, stripeCustomerOf } from '../store/stripe.ts'
import type { FoldRules } from '../usage/fold.ts'
import { pushInvoice } from './invoice.ts'
import { postTotals } from './totals.ts'

// Stripe as a second home of what we bill. We stay the book: an invoice is worked out here, brought there as it is, and
// finalised here only when it has arrived. Mode `invoices` brings invoices; mode `meters` posts the period's totals to
// Stripe's own meters, which then make Stripe's own invoices.

export interface StripeContext {
  sql: Sql
  base: Base
  stripe: Stripe
  mode: 'invoices' | 'meters'
  reader: PartReader
  meters: readonly Meter[]
  rules: FoldRules
}

export interface StripeAdapter extends StripeContext {
  /** Brings a draft there. Null when it has arrived or Stripe does not know the customer; otherwise why it has not. */
  push(draft: Draft): Promise<string | null>
  count(outcome: PushOutcome): void
}

export type PushOutcome = 'pushed' | 'skipped' | 'failed'

const timeoutMs = 10_000
/** So long after a call that could not be made none is tried: a month's close must not wait for each customer. */
const restAfterAwayMs = 15_000

/** Loaded only where it is used: the SDK is large. */
export async function openStripe(o: { apiKey: string; apiBase: string | undefined }): Promise<Stripe> {
  const { default: Client } = await import('stripe')
  const base = new URL(o.apiBase ?? 'https://api.stripe.com')
  return new Client(o.apiKey, {
    host: base.hostname,
    port: base.port === '' ? (base.protocol === 'https:' ? 443 : 80) : Number(base.port),
    protocol: base.protocol === 'http:' ? 'http' : 'https',
    timeout: timeoutMs,
    maxNetworkRetries: 2,
    telemetry: false,
  })
}

/** Made whether or not Stripe is configured: a family that comes and goes breaks alert rules. */
export function createPushCounter(registry: Registry): Counter<'outcome'> {
  const pushes = new Counter({
    name: 'billaged_stripe_pushes_total',
    help: 'Invoices or totals brought to Stripe, left out because it does not know the customer, or failed.',
    labelNames: ['outcome'],
    registers: [registry],
  })
  for (const outcome of ['pushed', 'skipped', 'failed']) pushes.inc({ outcome }, 0)
  return pushes
}

export function createStripeAdapter(o: StripeContext & { pushes: Counter<'outcome'> }): StripeAdapter {
  const { pushes } = o
  const { clock, log } = o.base
  let awayUntilMs = Number.NEGATIVE_INFINITY
  const count = (outcome: PushOutcome) => pushes.inc({ outcome })

  return {
    ...o,
    count,
    async push(draft) {
      const { customerId } = draft
      const stripeCustomer = await stripeCustomerOf(o.sql, customerId)
      if (stripeCustomer === null) {
        count('skipped')
        return null
      }
      if (clock.monotonicMs() < awayUntilMs) return 'Stripe could not be reached a moment ago'
      try {
        await holdCustomer(o.sql, customerId, async tx => {
          if (o.mode === 'invoices') await pushInvoice(o, tx, { ...draft, stripeCustomer })
          else await postTotals(o, tx, { customerId, stripeCustomer, period: draft.period, isFinal: true })
        })
        count('pushed')
        return null
      } catch (error) {
        if (isAway(error)) awayUntilMs = clock.monotonicMs() + restAfterAwayMs
        count('failed')
        log.warn({ err: error, customerId, invoiceId: draft.id }, 'Stripe does not have the invoice; it stays a draft')
        return problemOf(error)
      }
    },
  }
}

export function isAway(error: unknown): boolean {
  return error instanceof Error && 'type' in error && error.type === 'StripeConnectionError'
}

/** Stripe's own words name objects and amounts, no key. */
export function problemOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 500)
}
