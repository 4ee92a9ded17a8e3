import type { Sample } from '../samples/sample.ts'

// A second, slower reading of the specification (G9–G20), for tests: whole history in arrays, one counter at a time,
// no windows, no sharing. It imports types only, so that a mistake in the fold cannot hide in what both use.

type Field = 'cpuNs' | 'diskReadBytes' | 'diskWriteBytes' | 'netRxBytes' | 'netTxBytes'
type Kind = 'measured' | 'shortGap' | 'longGap'

export interface OracleInput {
  samples: readonly Sample[]
  starts: readonly bigint[]
  stops: readonly bigint[]
  gaps: readonly { fromNs: bigint; untilNs: bigint }[]
}

export interface OracleStretch {
  field: Field | 'memoryByteNs'
  from: bigint
  to: bigint
  amount: bigint
  kind: Kind
}

const minute = 60_000_000_000n
const ascending = (values: readonly bigint[]) => values.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))
const least = (values: readonly bigint[]) => ascending(values)[0] ?? 0n
const most = (values: readonly bigint[]) => ascending(values).at(-1) ?? 0n

export function oracleStretches({ samples, starts, stops, gaps }: OracleInput): OracleStretch[] {
  const fields: Field[] = ['cpuNs', 'diskReadBytes', 'diskWriteBytes', 'netRxBytes', 'netTxBytes']
  const isZero = (s: Sample) => s.memoryBytes === 0n && fields.every(f => s[f] === 0n)
  const real = samples.filter(s => !isZero(s))
  const times = ascending([...new Set(real.map(s => s.atNs))])
  const low = (t: bigint, f: Field | 'memoryBytes') => least(real.filter(s => s.atNs === t).map(s => s[f]))
  const high = (t: bigint, f: Field) => most(real.filter(s => s.atNs === t).map(s => s[f]))

  const isGap = (from: bigint, to: bigint, isFromMark: boolean) => {
    const before = isFromMark ? [] : times.filter(t => t <= from).slice(-17)
    const after = times.filter(t => t >= to).slice(0, 17)
    const spaces = (list: bigint[]) => list.slice(1).map((t, i) => t - (list[i] ?? 0n))
    const sorted = ascending([to - from, ...spaces(before), ...spaces(after)])
    const median = sorted[Math.ceil(sorted.length / 2) - 1] ?? 0n
    const declared = gaps.some(g => g.fromNs < to && from < g.untilNs)
    const longest = declared ? 2n * minute : least([60n * minute, most([2n * minute, 3n * median])])
    return to - from > longest
  }
  const kind = (gap: boolean, length: bigint): Kind =>
    !gap ? 'measured' : length < 10n * minute ? 'shortGap' : 'longGap'

  const result: OracleStretch[] = []
  for (const field of fields) {
    const value = (t: bigint) => low(t, field)
    let base: { t: bigint; v: bigint } | null = null
    let skippedGap = false
    for (const [i, t] of times.entries()) {
      const b: { t: bigint; v: bigint } | null = base
      const plausible = starts
        .filter(s => s <= t && (b === null || s > b.t) && low(t, 'cpuNs') <= (t - s) * 512n)
        .sort((x, y) => (x < y ? 1 : -1))
      const fromZero =
        b === null
          ? plausible[0]
          : (plausible.find(s => stops.some(p => b.t <= p && p <= s)) ?? (value(t) < b.v ? plausible[0] : undefined))
      const previous = times[i - 1]
      const stepGap = previous !== undefined && isGap(previous, t, false)
      if (fromZero !== undefined) {
        const gap = isGap(fromZero, t, true)
        result.push({ field, from: fromZero, to: t, amount: value(t), kind: kind(gap, t - fromZero) })
        base = { t, v: gap ? high(t, field) : value(t) }
        skippedGap = false
      } else if (b === null) {
        base = { t, v: high(t, field) }
      } else if (value(t) >= b.v) {
        const gap = skippedGap || stepGap
        result.push({ field, from: b.t, to: t, amount: value(t) - b.v, kind: kind(gap, t - b.t) })
        base = { t, v: gap ? high(t, field) : value(t) }
        skippedGap = false
      } else {
        const next = times[i + 1]
        if (next !== undefined && value(next) < b.v) {
          base = { t, v: high(t, field) }
          skippedGap = false
        } else skippedGap ||= stepGap
      }
    }
  }
  for (const [i, b] of times.entries()) {
    const a = times[i - 1]
    if (a === undefined) continue
    if (starts.some(s => s > a && s <= b) || stops.some(p => p >= a && p < b)) continue
    const k = kind(isGap(a, b, false), b - a)
    const level = least([low(a, 'memoryBytes'), low(b, 'memoryBytes')])
    if (k !== 'longGap') result.push({ field: 'memoryByteNs', from: a, to: b, amount: level * (b - a), kind: k })
  }
  return result
}

/** Usage in [x, y) by the definition U(y) − U(x). */
export function oracleUsage(
  stretches: readonly OracleStretch[],
  field: string,
  k: string,
  x: bigint,
  y: bigint,
): bigint {
  const upTo = (t: bigint) =>
    stretches
      .filter(s => s.field === field && s.kind === k)
      .map(s => (t >= s.to ? s.amount : t <= s.from ? 0n : (s.amount * (t - s.from)) / (s.to - s.from)))
      .reduce((sum, n) => sum + n, 0n)
  return upTo(y) - upTo(x)
}
