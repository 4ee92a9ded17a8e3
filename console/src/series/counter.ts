// Counters to rates, in the browser, for the samples that arrive live. A counter that goes down was reset; it counts
// from zero again, so the new value is what was added since (the same reading as Prometheus' rate).

export interface CounterRates {
  /** Per second since this series' previous sample; null for the first one, a repeated one, or after too long a hole. */
  rate(series: string, timeMs: number, value: number): number | null
}

/** Above this distance the two samples say nothing about "now". Milliseconds. */
const holeMsMax = 10 * 60_000
/** Series remembered; a host has some hundreds. Beyond it the oldest are forgotten and start anew. */
const seriesMax = 5_000

export function counterRates(): CounterRates {
  const last = new Map<string, { timeMs: number; value: number }>()
  return {
    rate(series, timeMs, value) {
      const before = last.get(series)
      if (before && timeMs <= before.timeMs) return null
      last.delete(series)
      last.set(series, { timeMs, value })
      if (last.size > seriesMax) {
        const oldest = last.keys().next()
        if (!oldest.done) last.delete(oldest.value)
      }
      if (!before || timeMs - before.timeMs > holeMsMax) return null
      const added = value >= before.value ? value - before.value : value
      return added / ((timeMs - before.timeMs) / 1000)
    },
  }
}
