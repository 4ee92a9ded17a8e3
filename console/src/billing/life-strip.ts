// A VM's time, as it is known: what the strip draws and what the words beside it say.

export const stripKinds = ['measured', 'estimated', 'unmeasured', 'host_down', 'disputed'] as const
export type StripKind = (typeof stripKinds)[number]

export const stripWords: Record<StripKind, { label: string; meaning: string }> = {
  measured: { label: 'Measured', meaning: 'Two readings close enough together; billed.' },
  estimated: { label: 'Estimated', meaning: 'A short gap that the plan bills as if it had been measured.' },
  unmeasured: { label: 'Unmeasured', meaning: 'The host was seen, this VM was not read; not billed.' },
  host_down: { label: 'Host down', meaning: 'Nobody vouched for the host; not billed.' },
  disputed: { label: 'Disputed', meaning: 'Two hosts claimed the VM at once; only what is sure is billed.' },
}

export interface StripPart {
  from: string
  to: string
  kind: string
}

export interface Stretch {
  kind: StripKind
  fromMs: number
  toMs: number
}

/** A plan that estimates does it for gaps shorter than this. Milliseconds. */
const estimatedMsMax = 10 * 60_000

/** Parts in order, within a span. `isEstimating`: the plan bills short gaps as if they had been measured. What this
 *  console does not know by name it shows as unmeasured. */
export function stretchesOf(
  parts: readonly StripPart[],
  fromMs: number,
  toMs: number,
  isEstimating = false,
): Stretch[] {
  return parts.flatMap(({ from, to, kind }) => {
    const [partFrom, partTo] = [Date.parse(from), Date.parse(to)]
    const [start, end] = [Math.max(fromMs, partFrom), Math.min(toMs, partTo)]
    if (!(start < end)) return []
    const isEstimated = isEstimating && kind === 'gap' && partTo - partFrom < estimatedMsMax
    const known = stripKinds.find(one => one === kind) ?? 'unmeasured'
    return [{ kind: isEstimated ? 'estimated' : known, fromMs: start, toMs: end }]
  })
}

/** What lies nearer the end of this list is worth seeing more than what lies before it. */
const severity: readonly (StripKind | 'none')[] = [
  'none',
  'measured',
  'estimated',
  'unmeasured',
  'host_down',
  'disputed',
]

export interface Band {
  kind: StripKind | 'none'
  /** 0…1 of the strip's width. */
  left: number
  width: number
}

/** At most `cells` bands, however many stretches: each cell shows the worst that is in it, so that no gap is too short to
 *  be seen. Where no life is, it is `none`. */
export function bandsOf(stretches: readonly Stretch[], fromMs: number, toMs: number, cells = 480): Band[] {
  const worst = new Array<number>(cells).fill(0)
  const cellMs = (toMs - fromMs) / cells
  if (!(cellMs > 0)) return []
  for (const stretch of stretches) {
    const rank = severity.indexOf(stretch.kind)
    const first = Math.max(0, Math.floor((stretch.fromMs - fromMs) / cellMs))
    const last = Math.min(cells - 1, Math.ceil((stretch.toMs - fromMs) / cellMs) - 1)
    for (let i = first; i <= last; i++) worst[i] = Math.max(worst[i] ?? 0, rank)
  }
  const bands: Band[] = []
  worst.forEach((rank, i) => {
    const kind = severity[rank] ?? 'none'
    const before = bands.at(-1)
    if (before?.kind === kind) before.width += 1 / cells
    else bands.push({ kind, left: i / cells, width: 1 / cells })
  })
  return bands
}

/** Milliseconds by kind; kinds that do not occur are left out. */
export function totalsOf(stretches: readonly Stretch[]): { kind: StripKind; ms: number }[] {
  return stripKinds.flatMap(kind => {
    const ms = stretches.reduce((sum, one) => sum + (one.kind === kind ? one.toMs - one.fromMs : 0), 0)
    return ms > 0 ? [{ kind, ms }] : []
  })
}

/** How much of a span was read. For averages, which must not count what nobody saw. */
export function measuredWithin(stretches: readonly Stretch[]): (fromMs: number, toMs: number) => number {
  const read = stretches.filter(({ kind }) => kind === 'measured' || kind === 'estimated')
  return (fromMs, toMs) =>
    read.reduce((sum, one) => sum + Math.max(0, Math.min(toMs, one.toMs) - Math.max(fromMs, one.fromMs)), 0)
}
