import { larger } from '../bigint.ts'
import { type Cell, createCells } from '../usage/cells.ts'
import { type FoldRules, startFold } from '../usage/fold.ts'
import type { SampleReader } from './parts.ts'
import { type Piece, pushPiece } from './pieces.ts'
import type { Series } from './series.ts'
import { openWindow, type SeriesWindow } from './window.ts'

/** Folds a series: a cell per span between neighbouring edges. `sample by sample` believes no part's summary. */
export async function foldSpans(
  reader: SampleReader,
  series: Series & { customerId: string },
  edges: readonly bigint[],
  rules: FoldRules,
  how: 'by parts' | 'sample by sample' = 'by parts',
): Promise<{ cells: readonly Cell[]; peaks: bigint[]; reads: SeriesWindow['reads'] }> {
  const [fromNs, toNs] = [edges[0], edges.at(-1)]
  if (fromNs === undefined || toNs === undefined) throw new Error('BUG: spans have edges')
  const { cells, add } = createCells(edges)
  const peaks = createPeaks(edges)
  const window = await openWindow(reader, series, fromNs, toNs, rules, how === 'by parts' ? edges : null)
  const fold = startFold({ ...window, rules }, add)
  for await (const piece of window.pieces) {
    await pushPiece(reader, series.seriesId, fold, piece)
    peaks.add(piece)
  }
  fold.finish()
  return { cells, peaks: peaks.peaks, reads: window.reads }
}

/** The largest memory read in each span between neighbouring edges, from pieces in order of time. */
export function createPeaks(
  edges: readonly bigint[],
  peaks: bigint[] = edges.slice(1).map(() => 0n),
): { peaks: bigint[]; add(piece: Piece): void } {
  let span = 0
  const note = (atNs: bigint, memoryBytes: bigint) => {
    while (span < peaks.length && (edges[span + 1] ?? atNs) <= atNs) span++
    if (atNs >= (edges[0] ?? atNs) && span < peaks.length) peaks[span] = larger(peaks[span] ?? 0n, memoryBytes)
  }
  return {
    peaks,
    add(piece) {
      // A run reaches over no edge.
      if (!Array.isArray(piece)) note(piece.run.first.atNs, piece.run.peakBytes)
      else for (const reading of piece) note(reading.atNs, reading.low.memoryBytes)
    },
  }
}
