import type { Meter } from '../events/meter.ts'
import type { PlanVersion } from '../rating/plan.ts'
import { type Hours, type MeterUsage, type Rating, ratePeriod, type SegmentUsage } from '../rating/rate.ts'
import { hourMs, type PlannedSegment, segmentsOf } from '../rating/segments.ts'
import type { FoldRules } from '../usage/fold.ts'
import { meterUsage, unitOf } from '../usage/rows.ts'
import { listSubscriptions, loadPlan, type Plan } from './plans.ts'
import type { PartReader } from './series.ts'
import { loadEventUsage, loadVmUsage } from './usage.ts'

export interface PricedPeriod extends Rating {
  planId: string | null
  currency: string
  unrated: (MeterUsage & { unit: string })[]
}

/** Rates a customer's period up to now: under its own subscriptions, or all of it under `plan`. */
export async function pricePeriod(
  reader: PartReader,
  meters: readonly Meter[],
  rules: FoldRules,
  customerId: string,
  period: Hours,
  plan: Plan | null,
): Promise<PricedPeriod> {
  const { segments, currency } = await plannedSegments(reader, customerId, period, plan)
  const edges = [...segments.map(({ segment }) => hourNs(segment.from)), hourNs(period.to)]
  const vms = await loadVmUsage(reader, customerId, edges, rules)
  const events = await loadEventUsage(reader.sql, meters, customerId, edges)
  const rated: SegmentUsage[] = []
  const unplanned: MeterUsage[] = []
  for (const [i, { segment, version }] of segments.entries()) {
    const usage = meterUsage(vms, events, i, version?.gapPolicy ?? 'zero')
    if (version === null)
      unplanned.push(...usage.filter(item => item.quantityE9 > 0n && item.meter !== 'vm_memory_peak'))
    else rated.push({ segment, version, usage })
  }
  const rating = ratePeriod(period, rated)
  const unrated = [...rating.unrated, ...unplanned].map(item => ({ ...item, unit: unitOf(item.meter, events) }))
  return { ...rating, unrated, currency, planId: segments.findLast(({ planId }) => planId !== null)?.planId ?? null }
}

async function plannedSegments(
  reader: PartReader,
  customerId: string,
  period: Hours,
  plan: Plan | null,
): Promise<{ segments: PlannedSegment[]; currency: string }> {
  if (plan !== null) {
    const always = [{ planId: plan.id, fromMs: 0, toMs: null }]
    return { segments: segmentsOf(period, always, () => plan.versions), currency: plan.currency }
  }
  const subscriptions = await listSubscriptions(reader.sql, customerId)
  const touching = subscriptions.filter(
    ({ fromMs, toMs }) => fromMs < period.to * hourMs && (toMs === null || toMs > period.from * hourMs),
  )
  const plans = new Map<string, Plan>()
  for (const id of new Set(touching.map(({ planId }) => planId))) {
    const found = await loadPlan(reader.sql, id)
    if (found !== null) plans.set(id, found)
  }
  const versionsOf = (id: string): readonly PlanVersion[] => plans.get(id)?.versions ?? []
  const segments = segmentsOf(period, touching, versionsOf)
  const currency = plans.get(touching.at(-1)?.planId ?? '')?.currency ?? 'USD'
  return { segments, currency }
}

/** The gap policy in force at an instant, for showing usage as the customer's plan would bill it. */
export async function loadPolicies(reader: PartReader, customerId: string, edgesMs: readonly number[]) {
  const [first = 0, last = 0] = [edgesMs[0], edgesMs.at(-1)]
  const period = {
    from: Math.floor(first / hourMs),
    to: Math.max(Math.ceil(last / hourMs), Math.floor(first / hourMs) + 1),
  }
  return (await plannedSegments(reader, customerId, period, null)).segments
}

function hourNs(hour: number): bigint {
  return BigInt(hour) * 3_600_000_000_000n
}
