import { mulDiv } from '#platform/money'
import { larger, smaller } from '../bigint.ts'
import type { Hours, MeterUsage } from './rate.ts'

const hourMs = 3_600_000

/** Usage of a segment as it will be at its end, if the rest of the period runs as the part that is over did. What is over
 *  stays as it was measured; each hour to come gets the average of the hours so far. */
export function forecastUsage(
  segment: Hours,
  measured: readonly MeterUsage[],
  soFar: readonly MeterUsage[],
  period: Hours,
  nowMs: number,
): MeterUsage[] {
  const elapsedMs = Math.max(0, Math.min(nowMs, period.to * hourMs) - period.from * hourMs)
  const comingMs = Math.max(0, segment.to * hourMs - Math.max(nowMs, segment.from * hourMs))
  if (elapsedMs === 0 || comingMs === 0) return [...measured]
  const coming = soFar.map(item => ({
    ...item,
    quantityE9: mulDiv(item.quantityE9, BigInt(comingMs), BigInt(elapsedMs), 'floor'),
  }))
  return [...measured, ...coming]
}

/** Usage of a segment at its end, if every day to come is like `day`. */
export function usageByDay(
  segment: Hours,
  measured: readonly MeterUsage[],
  day: readonly MeterUsage[],
  nowMs: number,
): MeterUsage[] {
  const comingMs = Math.max(0, segment.to * hourMs - Math.max(nowMs, segment.from * hourMs))
  const coming = day.map(item => ({
    ...item,
    quantityE9: mulDiv(item.quantityE9, BigInt(comingMs), BigInt(24 * hourMs), 'floor'),
  }))
  return [...measured, ...coming]
}

/** Of days that are over, the quietest and the busiest that each meter had, group by group: two days that may never have
 *  been, between which those to come will probably lie. */
export function quietestAndBusiest(days: readonly (readonly MeterUsage[])[]): {
  low: MeterUsage[]
  high: MeterUsage[]
} {
  const seen = new Map<string, { item: MeterUsage; low: bigint; high: bigint; days: number }>()
  for (const day of days) {
    const ofDay = new Map<string, MeterUsage>()
    for (const item of day) {
      const key = JSON.stringify([item.meter, Object.entries(item.group).sort()])
      const before = ofDay.get(key)
      ofDay.set(key, before ? { ...item, quantityE9: before.quantityE9 + item.quantityE9 } : item)
    }
    for (const [key, item] of ofDay) {
      const before = seen.get(key)
      seen.set(key, {
        item,
        low: before ? smaller(before.low, item.quantityE9) : item.quantityE9,
        high: before ? larger(before.high, item.quantityE9) : item.quantityE9,
        days: (before?.days ?? 0) + 1,
      })
    }
  }
  const all = [...seen.values()]
  return {
    // A day without any of it was the quietest.
    low: all.map(({ item, low, days: count }) => ({ ...item, quantityE9: count < days.length ? 0n : low })),
    high: all.map(({ item, high }) => ({ ...item, quantityE9: high })),
  }
}
