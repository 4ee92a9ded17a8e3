/** The percents of a budget that were reached, ascending. Exact: a nano-unit below is not reached. */
export function reachedPercents(spentNano: bigint, budgetNano: bigint, percents: readonly number[]): number[] {
  return percents.filter(percent => spentNano * 100n >= budgetNano * BigInt(percent)).toSorted((a, b) => a - b)
}

export const alertPercentsMax = 10
/** A threshold is a label of a metric: their number has a bound. */
export const alertPercentMax = 1_000
