import type { Queryable } from '#platform/postgres'
import { e9 } from '../decimal.ts'
import type { Hours } from '../rating/rate.ts'
import { edgesOf, planPeriod } from '../store/pricing.ts'
import { loadPosted, notePosted } from '../store/stripe.ts'
import { loadEventUsage, loadVmUsage } from '../store/usage.ts'
import { meterUsage } from '../usage/rows.ts'
import type { StripeContext } from './adapter.ts'

// A period's totals, posted to Stripe's meters of the same name. A meter must take the last value: we post what the period
// comes to so far, so that a post that is repeated or late changes nothing, and a lost one is made good by the next.

/** Totals of a running period are posted up to so long before its end; what is later is for the final ones. */
const finalRoomS = 300
/** Stripe takes nothing older. */
const oldestMs = 35 * 86_400_000

interface StripeMeter {
  formula: string
  customerKey: string
  valueKey: string
}

export async function postTotals(
  o: StripeContext,
  tx: Queryable,
  wanted: { customerId: string; stripeCustomer: string; period: Hours; isFinal: boolean },
): Promise<void> {
  const { customerId, stripeCustomer, period, isFinal } = wanted
  const known = await loadMeters(o)
  const totals = await totalsOf(o, customerId, period)
  const posted = await loadPosted(tx, customerId, period)
  const problems: string[] = []
  for (const [slug, meter] of known) {
    const value = totals.get(slug) ?? 0n
    const before = posted.get(slug)
    if (before === undefined ? value === 0n : before.value === value && (before.isFinal || !isFinal)) continue
    // One meter that fails keeps none of the others from being right.
    try {
      if (meter.formula !== 'last')
        throw new Error(`it adds up (${meter.formula}); make it with default_aggregation.formula last`)
      const atS = timestampFor(period, before?.postedAt ?? null, o.base.clock.now(), isFinal)
      await o.stripe.billing.meterEvents.create({
        event_name: slug,
        timestamp: atS,
        payload: { [meter.customerKey]: stripeCustomer, [meter.valueKey]: `${value}` },
      })
      await notePosted(tx, { customerId, period, meter: slug, value, postedAt: new Date(atS * 1_000), isFinal })
    } catch (error) {
      problems.push(`${slug}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  if (problems.length > 0) throw new Error(`Stripe meters: ${problems.join('; ')}`)
}

/** Later than what was posted before, and inside the period: Stripe keeps the total with the latest time. */
function timestampFor(period: Hours, before: Date | null, nowMs: number, isFinal: boolean): number {
  const [fromS, toS] = [period.from * 3_600, period.to * 3_600]
  const afterS = before === null ? fromS : Math.floor(before.getTime() / 1_000) + 1
  const lastS = isFinal ? toS - 1 : toS - finalRoomS
  const atS = Math.min(lastS, Math.max(afterS, isFinal ? toS - finalRoomS + 1 : Math.floor(nowMs / 1_000)))
  if (atS < afterS) throw new Error('no later time is left in the period; its totals were posted too often')
  if (nowMs - atS * 1_000 > oldestMs)
    throw new Error('the period ended more than 35 days ago, and Stripe takes nothing older')
  return atS
}

async function loadMeters(o: StripeContext): Promise<Map<string, StripeMeter>> {
  const meters = new Map<string, StripeMeter>()
  for await (const meter of o.stripe.billing.meters.list({ status: 'active', limit: 100 }))
    meters.set(meter.event_name, {
      formula: meter.default_aggregation.formula,
      customerKey: meter.customer_mapping.event_payload_key,
      valueKey: meter.value_settings.event_payload_key,
    })
  return meters
}

/** Whole base units of each meter in the period, as the customer's plan bills gaps. */
async function totalsOf(o: StripeContext, customerId: string, period: Hours): Promise<Map<string, bigint>> {
  const planned = await planPeriod(o.reader, customerId, period, null)
  const edges = edgesOf(planned)
  const vms = await loadVmUsage(o.reader, customerId, edges, o.rules)
  const events = await loadEventUsage(o.sql, o.meters, customerId, edges)
  const sums = new Map<string, bigint>()
  for (const [i, { version }] of planned.segments.entries())
    for (const { meter, quantityE9 } of meterUsage(vms, events, i, version?.gapPolicy ?? 'zero')) {
      const before = sums.get(meter) ?? 0n
      // A peak is not added up.
      sums.set(meter, meter === 'vm_memory_peak' ? (quantityE9 > before ? quantityE9 : before) : before + quantityE9)
    }
  return new Map([...sums].map(([meter, valueE9]) => [meter, valueE9 / e9]))
}
