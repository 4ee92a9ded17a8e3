import { mulDiv } from '#platform/money'
import type { Stretch, StretchKind } from './fold.ts'

/** What a series used within one span of time, by field and by how it is known. */
export type Cell = Record<Stretch['field'], Record<StretchKind, bigint>>

/** Sums stretches into the spans between neighbouring edges (ascending, Unix ns). Usage up to an instant is the whole
 *  of what ended by then plus the floor of the linear share of what spans it, and a span's usage is the difference of
 *  its ends: however a stretch is cut, the pieces add up to it. `cells`: what is in them already. */
export function createCells(
  edges: readonly bigint[],
  cells: readonly Cell[] = Array.from({ length: Math.max(0, edges.length - 1) }, emptyCell),
): { cells: readonly Cell[]; add(stretch: Stretch): void } {
  return {
    cells,
    add(stretch) {
      if (stretch.amount === 0n) return
      // An instant's use belongs to the span it ends in: at `to`, not before.
      let at = spanEndingAtOrAfter(edges, stretch.fromNs === stretch.toNs ? stretch.toNs : stretch.fromNs + 1n)
      let before = usedUpTo(stretch, edges[at] ?? stretch.toNs)
      for (; at < cells.length; at++) {
        const end = edges[at + 1]
        const cell = cells[at]
        if (end === undefined || cell === undefined) return
        const upTo = usedUpTo(stretch, end)
        cell[stretch.field][stretch.kind] += upTo - before
        if (end >= stretch.toNs) return
        before = upTo
      }
    },
  }
}

export function emptyCell(): Cell {
  const kinds = () => ({ measured: 0n, shortGap: 0n, longGap: 0n, unmeasured: 0n, disputed: 0n })
  return {
    cpuNs: kinds(),
    diskReadBytes: kinds(),
    diskWriteBytes: kinds(),
    netRxBytes: kinds(),
    netTxBytes: kinds(),
    memoryByteNs: kinds(),
    timeNs: kinds(),
    hostDownNs: kinds(),
    aliveNs: kinds(),
  }
}

export function copyCell(cell: Cell): Cell {
  return {
    cpuNs: { ...cell.cpuNs },
    diskReadBytes: { ...cell.diskReadBytes },
    diskWriteBytes: { ...cell.diskWriteBytes },
    netRxBytes: { ...cell.netRxBytes },
    netTxBytes: { ...cell.netTxBytes },
    memoryByteNs: { ...cell.memoryByteNs },
    timeNs: { ...cell.timeNs },
    hostDownNs: { ...cell.hostDownNs },
    aliveNs: { ...cell.aliveNs },
  }
}

function usedUpTo({ fromNs, toNs, amount }: Stretch, t: bigint): bigint {
  if (t >= toNs) return amount
  if (t <= fromNs) return 0n
  return mulDiv(amount, t - fromNs, toNs - fromNs, 'floor')
}

/** Index of the first span (edges[i], edges[i+1]] that reaches t. */
function spanEndingAtOrAfter(edges: readonly bigint[], t: bigint): number {
  let low = 0
  let high = edges.length - 1
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((edges[middle + 1] ?? t) < t) low = middle + 1
    else high = middle
  }
  return low
}
