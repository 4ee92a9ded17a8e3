/** What was said about a VM beside its readings. Times are Unix nanoseconds, ascending. */
export interface Marks {
  starts: readonly bigint[]
  stops: readonly bigint[]
  /** Gaps that a sender declared, [from, until). */
  gaps: readonly { fromNs: bigint; untilNs: bigint }[]
}

export const noMarks: Marks = { starts: [], stops: [], gaps: [] }

/** How many of the ascending times are at or before `t`. */
export function countUpTo(times: readonly bigint[], t: bigint): number {
  let low = 0
  let high = times.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((times[middle] ?? t) <= t) low = middle + 1
    else high = middle
  }
  return low
}
