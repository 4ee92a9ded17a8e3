// Which samples an output has taken: a set of half-open ranges of positions, where the position of a sample is
// seq · 65,536 + ordinal. Kept sorted and without touching ranges, so that marking the newest samples before the
// backlog costs one more range and not a row per sample.

export interface Range {
  /** Inclusive. */
  lo: number
  /** Exclusive. */
  hi: number
}

export const ordinalsPerFrame = 65_536

export function firstPosition(seq: number): number {
  return seq * ordinalsPerFrame
}

export function seqOf(position: number): number {
  return Math.floor(position / ordinalsPerFrame)
}

export function ordinalOf(position: number): number {
  return position % ordinalsPerFrame
}

/** Adds a range; what it touched or overlapped is in `removed`, what replaces all of it in `added`. */
export function addRange(set: readonly Range[], range: Range): { set: Range[]; removed: Range[]; added: Range } {
  const start = lowerBound(set, range.lo)
  let end = start
  const added = { ...range }
  for (let other = set[end]; other !== undefined && other.lo <= range.hi; other = set[++end]) {
    added.lo = Math.min(added.lo, other.lo)
    added.hi = Math.max(added.hi, other.hi)
  }
  return { set: [...set.slice(0, start), added, ...set.slice(end)], removed: set.slice(start, end), added }
}

/** What of `within` is not in the set. */
export function missingRanges(set: readonly Range[], within: Range): Range[] {
  const missing: Range[] = []
  let lo = within.lo
  for (let i = lowerBound(set, within.lo); i < set.length && lo < within.hi; i++) {
    const taken = set[i]
    if (!taken || taken.lo >= within.hi) break
    if (taken.lo > lo) missing.push({ lo, hi: taken.lo })
    lo = Math.max(lo, taken.hi)
  }
  if (lo < within.hi) missing.push({ lo, hi: within.hi })
  return missing
}

/** Index of the first range that ends at or after `position`. */
function lowerBound(set: readonly Range[], position: number): number {
  let low = 0
  let high = set.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((set[middle]?.hi ?? 0) < position) low = middle + 1
    else high = middle
  }
  return low
}
