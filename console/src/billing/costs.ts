import type { CostSnapshot } from '../../../services/billaged/alerts/api.ts'
import type { Spend } from '../api/billaged.ts'

export type { CostSnapshot }

/** A spend as it was read, moved on by what the stream has told since: totals, quantities and amounts, line by line. Null
 *  when the lines are no longer the same ones, so that a total never stands over lines that do not sum to it. */
export function movedOn(spend: Spend, cost: CostSnapshot | null): Spend | null {
  if (cost === null || Date.parse(cost.asOf) <= Date.parse(spend.asOf)) return spend
  const isSame =
    cost.period.from === spend.from &&
    cost.planId === spend.planId &&
    cost.lines.length === spend.lines.length &&
    cost.lines.every(({ kind, priceId, meter }, i) => {
      const line = spend.lines[i]
      return line?.kind === kind && line.priceId === priceId && line.meter === meter
    })
  if (!isSame) return null
  return {
    ...spend,
    asOf: cost.asOf,
    totalNano: cost.totalNano,
    forecastNano: cost.forecastNano,
    lines: spend.lines.map((line, i) => {
      const moved = cost.lines[i]
      if (moved === undefined || moved.amountNano === line.amountNano) return line
      // The stream does not tell the division of a line; an old one beside a new amount would be wrong.
      return {
        ...line,
        quantity: moved.quantity,
        amountNano: moved.amountNano,
        dividend: '',
        divisor: '',
        remainder: '',
      }
    }),
  }
}
