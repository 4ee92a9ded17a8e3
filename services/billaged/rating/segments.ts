import { hourMs } from './periods.ts'
import type { PlanVersion } from './plan.ts'
import type { Hours } from './rate.ts'

/** A stretch of a period under one plan version; null where the customer had no plan, or the plan no version yet. */
export interface PlannedSegment<V extends PlanVersion = PlanVersion> {
  segment: Hours
  planId: string | null
  version: V | null
}

/** Cuts a period at every change of subscription and plan version; the segments cover it without hole or overlap. */
export function segmentsOf<V extends PlanVersion>(
  period: Hours,
  subscriptions: readonly { planId: string; fromMs: number; toMs: number | null }[],
  versionsOf: (planId: string) => readonly V[],
): PlannedSegment<V>[] {
  const edges = new Set([period.from, period.to])
  for (const { planId, fromMs, toMs } of subscriptions) {
    edges.add(hourOf(fromMs))
    if (toMs !== null) edges.add(hourOf(toMs))
    for (const { effectiveFrom } of versionsOf(planId)) edges.add(hourOf(effectiveFrom))
  }
  const cuts = [...edges].filter(hour => hour >= period.from && hour <= period.to).sort((a, b) => a - b)
  const segments: PlannedSegment<V>[] = []
  for (const [i, to] of cuts.slice(1).entries()) {
    const from = cuts[i] ?? to
    const subscription = subscriptions.find(
      ({ fromMs, toMs }) => hourOf(fromMs) <= from && (toMs === null || from < hourOf(toMs)),
    )
    const planId = subscription?.planId ?? null
    const version = planId === null ? undefined : versionsOf(planId).findLast(v => hourOf(v.effectiveFrom) <= from)
    const before = segments.at(-1)
    if (before !== undefined && before.planId === planId && before.version === (version ?? null)) before.segment.to = to
    else segments.push({ segment: { from, to }, planId, version: version ?? null })
  }
  return segments
}

export function hourOf(ms: number): number {
  return Math.floor(ms / hourMs)
}
