import { larger } from '../bigint.ts'
import { type Cell, createCells } from '../usage/cells.ts'
import { type FoldRules, startFold } from '../usage/fold.ts'
import type { SampleReader } from './parts.ts'
import type { Series } from './series.ts'
import { openWindow, type SeriesWindow } from './window.ts'

/** Folds a series from its samples: a cell per span between neighbouring edges. */
export async function foldSpans(
  reader: SampleReader,
  series: Series & { customerId: string },
  edges: readonly bigint[],
  rules: FoldRules,
): Promise<{ cells: readonly Cell[]; peaks: bigint[]; reads: SeriesWindow['reads'] }> {
  const [fromNs, toNs] = [edges[0], edges.at(-1)]
  if (fromNs === undefined || toNs === undefined) throw new Error('BUG: spans have edges')
  const { cells, add } = createCells(edges)
  const peaks = cells.map(() => 0n)
  const window = await openWindow(reader, series, fromNs, toNs, rules)
  const fold = startFold({ ...window, rules }, add)
  let span = 0
  for await (const readings of window.readings) {
    for (const reading of readings) {
      fold.push(reading)
      if (reading.atNs < fromNs || reading.atNs >= toNs) continue
      while ((edges[span + 1] ?? toNs) <= reading.atNs) span++
      peaks[span] = larger(peaks[span] ?? 0n, reading.low.memoryBytes)
    }
  }
  fold.finish()
  return { cells, peaks, reads: window.reads }
}
