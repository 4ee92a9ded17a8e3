// The newest committed value of every series that is still being reported: what /metrics shows.

import type { ExposedSample } from './exposition.ts'
import type { Committed, Sample } from './store/frames.ts'

export function newestSamples(staleAfterMs: number) {
  const values = new Map<number, Sample & { stampMs: number; atMs: number }>()
  let tick: Committed | undefined
  return {
    take(committed: Committed): void {
      tick = committed
      const atMs = performance.now()
      for (const sample of committed.samples)
        values.set(sample.series.id, { ...sample, stampMs: committed.stampMs, atMs })
      for (const [id, value] of values) if (atMs - value.atMs > staleAfterMs) values.delete(id)
    },
    exposed: (): ExposedSample[] =>
      [...values.values()].map(({ series: { name, labels, kind }, value }) => ({ name, labels, kind, value })),
    tick: () => tick,
  }
}
