import type { Meter } from '../events/meter.ts'
import { forecastUsage } from '../rating/forecast.ts'
import { hourMs } from '../rating/periods.ts'
import type { PlanVersion } from '../rating/plan.ts'
import {
  type Hours,
  type MeterUsage,
  type PlanRef,
  type Rating,
  ratePeriod,
  type SegmentUsage,
} from '../rating/rate.ts'
import { type PlannedSegment, segmentsOf } from '../rating/segments.ts'
import type { FoldRules } from '../usage/fold.ts'
import { type EventUsage, meterUsage, unitOf, type VmUsage } from '../usage/rows.ts'
import { listSubscriptions, loadPlan, type Plan } from './plans.ts'
import type { PartReader } from './series.ts'
import { loadEventUsage, loadVmUsage } from './usage.ts'

/** A period cut at every change of plan, before anything is measured. */
export interface PlannedPeriod {
  period: Hours
  segments: PlannedSegment<NumberedVersion>[]
  currency: string
  /** More than one when a subscription changed to a plan of another currency: no invoice can be written over both. */
  currencies: string[]
}

type NumberedVersion = PlanVersion & { version: number }

export interface PricedPeriod extends Rating {
  planId: string | null
  currency: string
  currencies: string[]
  unrated: (MeterUsage & { unit: string; segment: Hours; planId: string | null })[]
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
  const planned = await planPeriod(reader, customerId, period, plan)
  const edges = edgesOf(planned)
  const [vms, events] = await Promise.all([
    loadVmUsage(reader, customerId, edges, rules),
    loadEventUsage(reader.sql, meters, customerId, edges),
  ])
  return rateUsage(planned, vms, events)
}

export interface Forecast {
  priced: PricedPeriod
  forecastNano: bigint
  /** What it was made of; `vms` and `events` by segment. */
  planned: PlannedPeriod
  vms: VmUsage[]
  events: EventUsage[]
}

/** What the whole period will come to, if the rest of it runs as the part that is over did. */
export async function forecastPeriod(
  reader: PartReader,
  meters: readonly Meter[],
  rules: FoldRules,
  customerId: string,
  period: Hours,
  nowMs: number,
): Promise<Forecast> {
  const planned = await planPeriod(reader, customerId, period, null)
  const edges = edgesOf(planned)
  const [vms, events] = await Promise.all([
    loadVmUsage(reader, customerId, edges, rules),
    loadEventUsage(reader.sql, meters, customerId, edges),
  ])
  const usageOf = (i: number, policy: PlanVersion['gapPolicy']) =>
    // Of a peak there is no more to come.
    meterUsage(vms, events, i, policy).filter(({ meter }) => meter !== 'vm_memory_peak')
  const rated: SegmentUsage[] = []
  for (const [i, { segment, planId, version }] of planned.segments.entries()) {
    if (version === null) continue
    const soFar = planned.segments.flatMap((_, at) => usageOf(at, version.gapPolicy))
    const usage = forecastUsage(segment, usageOf(i, version.gapPolicy), soFar, period, nowMs)
    rated.push({ segment, plan: planRef(planId, version), version, usage })
  }
  const forecastNano = rated.length === 0 ? 0n : ratePeriod(period, rated).totalNano
  return { priced: rateUsage(planned, vms, events), forecastNano, planned, vms, events }
}

/** `vms` and `events` are by segment of the planned period. */
export function rateUsage(
  planned: PlannedPeriod,
  vms: readonly VmUsage[],
  events: readonly EventUsage[],
): PricedPeriod {
  const rated: SegmentUsage[] = []
  const unrated: PricedPeriod['unrated'] = []
  const isNothing = { lines: [], unrated: [], totalNano: 0n }
  const segmentOf = new Map<MeterUsage, { segment: Hours; planId: string | null }>()
  for (const [i, { segment, planId, version }] of planned.segments.entries()) {
    const usage = meterUsage(vms, events, i, version?.gapPolicy ?? 'zero')
    for (const item of usage) segmentOf.set(item, { segment, planId })
    if (version !== null) rated.push({ segment, plan: planRef(planId, version), version, usage })
    else
      for (const item of usage)
        if (item.quantityE9 > 0n && !restatements.has(item.meter))
          unrated.push({ ...item, unit: unitOf(item.meter, events), segment, planId })
  }
  const rating = rated.length === 0 ? isNothing : ratePeriod(planned.period, rated)
  for (const item of rating.unrated) {
    const where = segmentOf.get(item)
    if (where === undefined) throw new Error('BUG: unrated usage is some of the usage that was rated')
    unrated.push({ ...item, unit: unitOf(item.meter, events), ...where })
  }
  const { currency, currencies } = planned
  const planId = planned.segments.findLast(segment => segment.planId !== null)?.planId ?? null
  return { ...rating, unrated, currency, currencies, planId }
}

/** Said twice: a peak is no sum, and time alive is in the ledger. */
export const restatements: ReadonlySet<string> = new Set(['vm_memory_peak', 'vm_alive'])

export function planRef(planId: string | null, version: NumberedVersion): PlanRef {
  if (planId === null) throw new Error('BUG: a version without its plan')
  return { id: planId, version: version.version }
}

export async function planPeriod(
  reader: PartReader,
  customerId: string,
  period: Hours,
  plan: Plan | null,
): Promise<PlannedPeriod> {
  if (plan !== null) {
    const always = [{ planId: plan.id, fromMs: 0, toMs: null }]
    const segments = segmentsOf(period, always, () => plan.versions)
    return { period, segments, currency: plan.currency, currencies: [plan.currency] }
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
  const segments = segmentsOf(period, touching, id => plans.get(id)?.versions ?? [])
  const currency = plans.get(touching.at(-1)?.planId ?? '')?.currency ?? 'USD'
  return { period, segments, currency, currencies: [...new Set([...plans.values()].map(found => found.currency))] }
}

/** Where the segments of a planned period begin and the last one ends, Unix ns. */
export function edgesOf({ period, segments }: PlannedPeriod): bigint[] {
  return [...segments.map(({ segment }) => hourNs(segment.from)), hourNs(period.to)]
}

/** The gap policy in force at an instant, for showing usage as the customer's plan would bill it. */
export async function loadPolicies(reader: PartReader, customerId: string, edgesMs: readonly number[]) {
  const [first = 0, last = 0] = [edgesMs[0], edgesMs.at(-1)]
  const period = {
    from: Math.floor(first / hourMs),
    to: Math.max(Math.ceil(last / hourMs), Math.floor(first / hourMs) + 1),
  }
  return (await planPeriod(reader, customerId, period, null)).segments
}

export function hourNs(hour: number): bigint {
  return BigInt(hour) * 3_600_000_000_000n
}
