import { compareBigints, smaller } from '../bigint.ts'
import type { Reading } from '../samples/reading.ts'
import { type CounterField, counterFields } from '../samples/sample.ts'

// From readings to usage. Readings of one series go in, in order of time; stretches come out, each an amount spread
// evenly over a span. The result depends on the set of readings and marks only (G9–G20 of the specification).
//
// Per counter there is one state, its *base*: the last reading that counts for it.
//   counted   the next reading is at or above the base: the difference is use, it becomes the base
//   restart   a believable start mark lies between: the next reading counts from zero, it becomes the base
//   fall      the next two readings are below the base: the counter began anew unannounced, worth 0, new base
//   glitch    only the next reading is below the base: it is skipped, the base stays
//   waiting   the last reading of all is below the base: nothing is added until another arrives

export interface Marks {
  /** Unix nanoseconds, ascending. */
  starts: readonly bigint[]
  stops: readonly bigint[]
  /** Gaps that a sender declared, [from, until). */
  gaps: readonly { fromNs: bigint; untilNs: bigint }[]
}

export interface FoldRules {
  /** More CPU time per wall time than any VM can have: a count from zero above it is not believed. */
  maxVcpus: bigint
  minGapNs: bigint
  maxGapCapNs: bigint
}

export const defaultRules: FoldRules = { maxVcpus: 512n, minGapNs: 120_000_000_000n, maxGapCapNs: 3_600_000_000_000n }

/** Gaps are kept apart from what was measured: a plan decides what of them is billed, and short ones may be estimated. */
export type StretchKind = 'measured' | 'shortGap' | 'longGap' | 'unmeasured'

/** From here on a gap is long: never estimated. */
export const longGapNs = 600_000_000_000n

export interface Stretch {
  /** A counter, memory in byte-nanoseconds, the ledger's time, or the part of it in which no host was heard. */
  readonly field: CounterField | 'memoryByteNs' | 'timeNs' | 'hostDownNs'
  readonly fromNs: bigint
  readonly toNs: bigint
  readonly amount: bigint
  readonly kind: StretchKind
}

export interface Findings {
  readings: number
  conflicts: number
  glitches: number
  falls: number
  /** Start marks that could not be proven to be restarts and so added nothing: their stop mark is missing. */
  unprovenRestarts: number
  gaps: number
}

/** What a person should be able to see of how a series was folded. */
export interface Note {
  kind: 'gap' | 'conflict' | 'glitch' | 'fall' | 'restart_unproven'
  fromNs: bigint
  toNs: bigint
  /** Of a gap: why its length was not believed. */
  rule?: string
}

export interface Fold {
  push(reading: Reading): void
  /** No more readings: settles what waited for neighbours. */
  finish(): Findings
}

/** How many readings on either side of a pair its rules look at. A window read with this many more on both sides folds
 *  as the whole series does: 16 for the median, and the few that settle which reading is each counter's base. */
export const contextReadings = 24

/** `isContinued`: the series has readings before the first one pushed, so that one is context and not a beginning. */
export function startFold(
  o: { marks: Marks; rules: FoldRules; isContinued: boolean; note?: (note: Note) => void },
  emit: (stretch: Stretch) => void,
): Fold {
  const { marks, rules } = o
  const findings: Findings = { readings: 0, conflicts: 0, glitches: 0, falls: 0, unprovenRestarts: 0, gaps: 0 }
  /** A window of the series: `pair` indexes the next pair's first reading, a few before it are kept for the median. */
  let readings: Reading[] = []
  let pair = 0
  const bases: Record<CounterField, Base> = {
    cpuNs: noBase(),
    diskReadBytes: noBase(),
    diskWriteBytes: noBase(),
    netRxBytes: noBase(),
    netTxBytes: noBase(),
  }

  function begin(first: Reading) {
    const start = o.isContinued ? null : latestPlausibleStart(marks, rules, null, first)
    const isGap = start !== null && isLonger(first.atNs - start, start, first.atNs, null)
    if (start !== null && isGap) noteGap(start, first.atNs, null)
    for (const field of counterFields) {
      if (start !== null) count(field, start, first, first.low[field], isGap)
      else rebase(bases[field], first.high[field], first.atNs)
    }
  }

  function foldPair(at: number) {
    const a = readings[at]
    const b = readings[at + 1]
    if (a === undefined || b === undefined) throw new Error('BUG: a pair has two readings')
    const next = readings[at + 2]
    const isGap = isLonger(b.atNs - a.atNs, a.atNs, b.atNs, at)
    if (isGap) findings.gaps++
    for (const field of counterFields) foldCounter(field, b, next, isGap)
    // Between two lives nothing was there to be read; the gap, if any, begins at the start mark.
    if (bases.cpuNs.sinceNs === null) {
      if (isGap) noteGap(a.atNs, b.atNs, at)
    } else if (isLonger(b.atNs - bases.cpuNs.sinceNs, bases.cpuNs.sinceNs, b.atNs, null))
      noteGap(bases.cpuNs.sinceNs, b.atNs, null)
    const isCut =
      countUpTo(marks.starts, b.atNs) > countUpTo(marks.starts, a.atNs) ||
      countUpTo(marks.stops, b.atNs - 1n) > countUpTo(marks.stops, a.atNs - 1n)
    const kind = kindOf(isGap, b.atNs - a.atNs)
    if (!isCut && kind !== 'longGap') {
      const level = smaller(a.low.memoryBytes, b.low.memoryBytes)
      emit({ field: 'memoryByteNs', fromNs: a.atNs, toNs: b.atNs, amount: level * (b.atNs - a.atNs), kind })
    }
  }

  function foldCounter(field: CounterField, b: Reading, next: Reading | undefined, isGap: boolean) {
    const base = bases[field]
    base.sinceNs = null
    const value = b.low[field]
    const claimed = latestPlausibleStart(marks, rules, base.atNs, b)
    const proven = claimed === null ? null : provenStart(marks, base.atNs, claimed)
    const start = proven ?? (value < base.value ? claimed : null)
    if (start !== null) {
      if (field === 'cpuNs') emitTail(base.atNs, start)
      count(field, start, b, value, isLonger(b.atNs - start, start, b.atNs, null))
      base.sinceNs = start
    } else if (value >= base.value) {
      if (claimed !== null && field === 'cpuNs') {
        findings.unprovenRestarts++
        o.note?.({ kind: 'restart_unproven', fromNs: claimed, toNs: b.atNs })
      }
      count(field, base.atNs, b, value - base.value, base.isGap || isGap)
    } else if (next === undefined) {
      base.isGap ||= isGap
    } else if (next.low[field] < base.value) {
      if (field === 'cpuNs') {
        findings.falls++
        o.note?.({ kind: 'fall', fromNs: base.atNs, toNs: b.atNs })
        emitTime(base.atNs, b.atNs, 'unmeasured')
      }
      rebase(base, b.high[field], b.atNs)
    } else {
      if (field === 'cpuNs') {
        findings.glitches++
        o.note?.({ kind: 'glitch', fromNs: base.atNs, toNs: b.atNs })
      }
      base.isGap ||= isGap
    }
  }

  function count(field: CounterField, fromNs: bigint, b: Reading, amount: bigint, isGap: boolean) {
    const kind = kindOf(isGap, b.atNs - fromNs)
    emit({ field, fromNs, toNs: b.atNs, amount, kind })
    if (field === 'cpuNs') emitTime(fromNs, b.atNs, kind)
    // After a gap nothing before the reading is counted as measured, so a conflict there takes its largest value.
    rebase(bases[field], isGap ? b.high[field] : b.low[field], b.atNs)
  }

  /** Between the last reading of a life and its stop mark the host was seen and nothing was read. */
  function emitTail(fromNs: bigint, startNs: bigint) {
    const stop = marks.stops[countUpTo(marks.stops, startNs) - 1]
    if (stop !== undefined) emitTime(fromNs, stop, 'unmeasured')
  }

  function emitTime(fromNs: bigint, toNs: bigint, kind: StretchKind) {
    if (fromNs < toNs) emit({ field: 'timeNs', fromNs, toNs, amount: toNs - fromNs, kind })
  }

  /** Is a pair longer than the longest believable spacing? `at`: its place among the readings; null for a stretch
   *  from a start mark, which has no readings of its own life before it. */
  function isLonger(lengthNs: bigint, fromNs: bigint, toNs: bigint, at: number | null): boolean {
    if (lengthNs <= rules.minGapNs) return false
    if (lengthNs > rules.maxGapCapNs) return true
    if (marks.gaps.some(gap => gap.fromNs < toNs && fromNs < gap.untilNs)) return true
    return lengthNs > 3n * lowerMedian(spacings(lengthNs, at ?? pair, at === null))
  }

  function noteGap(fromNs: bigint, toNs: bigint, at: number | null) {
    if (o.note === undefined) return
    const seconds = (ns: bigint) => `${formatSeconds(ns)} s`
    const isDeclared = marks.gaps.some(gap => gap.fromNs < toNs && fromNs < gap.untilNs)
    const lengthNs = toNs - fromNs
    const rule =
      lengthNs > rules.maxGapCapNs
        ? `longer than MAX_GAP_CAP, ${seconds(rules.maxGapCapNs)}`
        : isDeclared
          ? `declared; longer than MIN_GAP, ${seconds(rules.minGapNs)}`
          : `3 × ${seconds(lowerMedian(spacings(lengthNs, at ?? pair, at === null)))}`
    o.note({ kind: 'gap', fromNs, toNs, rule })
  }

  function spacings(lengthNs: bigint, at: number, isFromMark: boolean): bigint[] {
    const after = isFromMark ? indexAfterMark() : at + 1
    const lengths = [lengthNs]
    for (let i = after; i < after + 16; i++) pushSpacing(lengths, i)
    if (!isFromMark) for (let i = at - 16; i < at; i++) pushSpacing(lengths, i)
    return lengths
  }

  /** The reading a start mark leads to: the first of all, or the second of the pair being folded. */
  function indexAfterMark(): number {
    return hasBegun ? pair + 1 : 0
  }

  function pushSpacing(lengths: bigint[], i: number) {
    const [a, b] = [readings[i], readings[i + 1]]
    if (a !== undefined && b !== undefined) lengths.push(b.atNs - a.atNs)
  }

  let hasBegun = false
  function advance(lookahead: number) {
    if (!hasBegun && readings.length > lookahead) {
      const first = readings[0]
      if (first !== undefined) begin(first)
      hasBegun = true
    }
    while (hasBegun && pair + 1 + lookahead < readings.length) {
      foldPair(pair)
      pair++
    }
    // Keep the sixteen before the pair; drop the rest now and then, so that a month of readings needs no month of memory.
    if (pair >= 64) {
      readings = readings.slice(pair - 16)
      pair = 16
    }
  }

  return {
    push(reading) {
      findings.readings++
      if (reading.variants > 1) {
        findings.conflicts++
        o.note?.({ kind: 'conflict', fromNs: reading.atNs, toNs: reading.atNs })
      }
      readings.push(reading)
      advance(17)
    },
    finish() {
      advance(0)
      const last = readings.at(-1)
      if (last !== undefined) emitTime(bases.cpuNs.atNs, last.atNs, 'unmeasured')
      return findings
    },
  }
}

/** The reading that a counter's next difference is taken from. */
interface Base {
  value: bigint
  atNs: bigint
  /** A gap lies between the base and the readings skipped since. */
  isGap: boolean
  /** The start mark from which the pair folded last was counted; null when it was not. */
  sinceNs: bigint | null
}

function noBase(): Base {
  return { value: 0n, atNs: 0n, isGap: false, sinceNs: null }
}

function rebase(base: Base, value: bigint, atNs: bigint) {
  base.value = value
  base.atNs = atNs
  base.isGap = false
}

/** The latest start mark after `afterNs` and not after `b` since which b's CPU time can have been used. */
function latestPlausibleStart(marks: Marks, rules: FoldRules, afterNs: bigint | null, b: Reading): bigint | null {
  for (let i = countUpTo(marks.starts, b.atNs) - 1; i >= 0; i--) {
    const start = marks.starts[i]
    if (start === undefined || (afterNs !== null && start <= afterNs)) return null
    if (b.low.cpuNs <= (b.atNs - start) * rules.maxVcpus) return start
  }
  return null
}

/** The latest start mark up to `claimed` (earlier ones are as plausible) before which the earlier life was stopped. */
function provenStart(marks: Marks, baseNs: bigint, claimed: bigint): bigint | null {
  // A stop mark before the base does not end a life that was read after it.
  return countUpTo(marks.stops, claimed) > countUpTo(marks.stops, baseNs - 1n) ? claimed : null
}

/** How many of the ascending times are at or before `t`. */
function countUpTo(times: readonly bigint[], t: bigint): number {
  let low = 0
  let high = times.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((times[middle] ?? t) <= t) low = middle + 1
    else high = middle
  }
  return low
}

function kindOf(isGap: boolean, lengthNs: bigint): StretchKind {
  return !isGap ? 'measured' : lengthNs < longGapNs ? 'shortGap' : 'longGap'
}

/** Seconds to the millisecond. */
function formatSeconds(ns: bigint): string {
  return `${Number(ns / 1_000_000n) / 1_000}`
}

function lowerMedian(values: bigint[]): bigint {
  values.sort(compareBigints)
  return values[Math.floor((values.length - 1) / 2)] ?? 0n
}
