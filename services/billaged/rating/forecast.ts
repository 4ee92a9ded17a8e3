import { mulDiv } from '#platform/money'
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
