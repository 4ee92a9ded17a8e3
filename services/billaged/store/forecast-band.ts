import { larger, smaller } from '../bigint.ts'
import type { Meter } from '../events/meter.ts'
import { quietestAndBusiest, usageByDay } from '../rating/forecast.ts'
import { hourMs } from '../rating/periods.ts'
import { type MeterUsage, ratePeriod } from '../rating/rate.ts'
import type { FoldRules } from '../usage/fold.ts'
import { meterUsage } from '../usage/rows.ts'
import { type Forecast, planRef, restatements } from './pricing.ts'
import type { PartReader } from './series.ts'
import { loadEventUsage, loadVmUsage } from './usage.ts'

/** The newest days looked at; a longer period is not read whole for a band. */
const daysMax = 31
/** Of one day there is no quietest and busiest. */
const daysMin = 2

/** Where a period will probably end: every day to come like the quietest, and like the busiest, that each meter had in
 *  it. Null while too little of it is over, or without a plan. Costs a second fold; asked for by name. */
export async function forecastBand(
  reader: PartReader,
  meters: readonly Meter[],
  rules: FoldRules,
  customerId: string,
  { planned, vms, events, forecastNano }: Forecast,
  nowMs: number,
): Promise<{ lowNano: bigint; highNano: bigint } | null> {
  const { period, segments } = planned
  const daysOver = Math.floor((Math.min(nowMs, period.to * hourMs) / hourMs - period.from) / 24)
  if (daysOver < daysMin || segments.every(({ version }) => version === null)) return null
  const first = period.from + Math.max(0, daysOver - daysMax) * 24
  const edges = Array.from(
    { length: Math.min(daysOver, daysMax) + 1 },
    (_, day) => BigInt(first + day * 24) * BigInt(hourMs) * 1_000_000n,
  )
  const vmsByDay = await loadVmUsage(reader, customerId, edges, rules)
  const eventsByDay = await loadEventUsage(reader.sql, meters, customerId, edges)
  const isOwn = ({ meter }: MeterUsage) => !restatements.has(meter)
  const rate = (which: 'low' | 'high') =>
    ratePeriod(
      period,
      segments.flatMap(({ segment, planId, version }, i) => {
        if (version === null) return []
        const days = edges
          .slice(1)
          .map((_, day) => meterUsage(vmsByDay, eventsByDay, day, version.gapPolicy).filter(isOwn))
        const measured = meterUsage(vms, events, i, version.gapPolicy).filter(isOwn)
        const usage = usageByDay(segment, measured, quietestAndBusiest(days)[which], nowMs)
        return [{ segment, plan: planRef(planId, version), version, usage }]
      }),
    ).totalNano
  // A price may fall with the quantity, and the running day may be out of the ordinary: the band holds the forecast.
  const ends = [rate('low'), rate('high'), forecastNano]
  return { lowNano: ends.reduce(smaller), highNano: ends.reduce(larger) }
}
