import { compareBigints, larger, smaller } from '../bigint.ts'
import type { Reading } from '../samples/reading.ts'
import { type CounterField, counterFields, type Sample } from '../samples/sample.ts'
import { type PartSummary, spacingsKept } from '../samples/summary.ts'
import { type Hosts, isDisputed, noHosts } from './hosts.ts'
import { createLedger, type Ledger, type Life } from './ledger.ts'
import { countUpTo, type Marks } from './marks.ts'

// From readings to usage. Readings of one series go in, in order of time; stretches come out, each an amount spread
// evenly over a span. The result depends on the set of readings and marks only (G9–G20 of the specification).
//
// Per counter there is one state, its *base*: the last reading that counts for it.
//   counted   the next reading is at or above the base: the difference is use, it becomes the base
//   restart   a believable start mark lies between: the next reading counts from zero, it becomes the base
//   fall      the next two readings are below the base: the counter began anew unannounced, worth 0, new base. While two
//             hosts claim the VM the old height is remembered: the pair that climbs past it counts what is above it only
//   glitch    only the next reading is below the base: it is skipped, the base stays
//   waiting   the last reading of all is below the base: nothing is added until another arrives

export interface FoldRules {
  /** More CPU time per wall time than any VM can have: a count from zero above it is not believed. */
  maxVcpus: bigint
  minGapNs: bigint
  maxGapCapNs: bigint
  /** How long a heartbeat vouches for the VMs it lists. */
  leaseNs: bigint
}

export const defaultRules: FoldRules = {
  maxVcpus: 512n,
  minGapNs: 120_000_000_000n,
  maxGapCapNs: 3_600_000_000_000n,
  leaseNs: 120_000_000_000n,
}

/** Gaps are kept apart from what was measured: a plan decides what of them is billed, and short ones may be estimated. */
export type StretchKind = 'measured' | 'shortGap' | 'longGap' | 'unmeasured' | 'disputed'

/** From here on a gap is long: never estimated. */
export const longGapNs = 600_000_000_000n

export interface Stretch {
  /** A counter, memory in byte-nanoseconds, the ledger's time, the part of it in which no host was heard, or time alive.
   *  Only time is ever `disputed`. */
  readonly field: CounterField | 'memoryByteNs' | 'timeNs' | 'hostDownNs' | 'aliveNs'
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
  /** All readings of a plain part at once, by what they come to; no other reading lies among them, and no edge that matters
   *  to whom stretches are emitted. False: something else than counting on happens in it or at its first reading, and
   *  nothing was taken; push them one by one. */
  pushRun(run: PartSummary): boolean
  /** The same fold, to go on by itself: perhaps with marks and hosts that say more about the time behind the last reading. */
  fork(o: { marks: Marks; hosts: Hosts }, emit: (stretch: Stretch) => void): Fold
  /** From where on marks and hosts still matter; null before the first reading. */
  unsettledNs(): bigint | null
  /** No more readings: settles what waited for neighbours. `nowNs` says which lives may still run. */
  finish(nowNs?: bigint): { findings: Findings; lives: Life[] }
}

interface FoldOptions {
  marks: Marks
  hosts?: Hosts
  rules: FoldRules
  /** The series has readings before the first one pushed, so that one is context and not a beginning. */
  isContinued: boolean
  note?: (note: Note) => void
}

interface State {
  findings: Findings
  readings: Reading[]
  runs: (PartSummary | undefined)[]
  pair: number
  hasBegun: boolean
  bases: Record<CounterField, Base>
  ledger: Ledger
}

export function startFold(o: FoldOptions, emit: (stretch: Stretch) => void): Fold {
  const { marks, hosts = noHosts, isContinued } = o
  const findings = { readings: 0, conflicts: 0, glitches: 0, falls: 0, unprovenRestarts: 0, gaps: 0 }
  const bases = {
    cpuNs: noBase(),
    diskReadBytes: noBase(),
    diskWriteBytes: noBase(),
    netRxBytes: noBase(),
    netTxBytes: noBase(),
  }
  const ledger = createLedger({ marks, hosts, isContinued }, emit)
  return continueFold(o, emit, { findings, readings: [], runs: [], pair: 0, hasBegun: false, bases, ledger })
}

function continueFold(o: FoldOptions, emit: (stretch: Stretch) => void, state: State): Fold {
  const { marks, rules, hosts = noHosts } = o
  const { ledger, findings, bases } = state
  /** A window of the series: `pair` indexes the next pair's first reading, a few before it are kept for the median.
   *  Between a reading and the next there may be a run of others, which is then at the reading's place in `runs`. */
  let { readings, runs, pair, hasBegun } = state

  function begin(first: Reading) {
    const start = o.isContinued ? null : latestPlausibleStart(marks, rules, null, first)
    const isGap = start !== null && isLonger(first.atNs - start, start, first.atNs, null)
    if (start !== null && isGap) noteGap(start, first.atNs, null)
    for (const field of counterFields) {
      if (start !== null) count(field, start, first, first.low[field], isGap)
      else rebase(bases[field], first.high[field], first.atNs)
    }
    if (o.isContinued) return
    ledger.step({
      fromNs: null,
      toNs: first.atNs,
      skippedNs: null,
      how: start === null ? 'uncounted' : 'restarted',
      startNs: start,
      kind: start === null ? 'unmeasured' : kindOf(isGap, first.atNs - start),
      believableNs: () => believable(start ?? first.atNs, first.atNs, null),
    })
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
    const { atNs: baseNs } = base
    const value = b.low[field]
    const step = (how: 'counted' | 'restarted' | 'uncounted', startNs: bigint | null, kind: StretchKind) => {
      if (field !== 'cpuNs') return
      const a = readings[pair]
      if (a === undefined) throw new Error('BUG: a pair has two readings')
      const skippedNs = a.atNs === baseNs ? null : a.atNs
      const believableNs = () => believable(a.atNs, b.atNs, pair)
      ledger.step({ fromNs: baseNs, toNs: b.atNs, skippedNs, how, startNs, kind, believableNs })
    }
    const claimed = latestPlausibleStart(marks, rules, base.atNs, b)
    const proven = claimed === null ? null : provenStart(marks, base.atNs, claimed)
    const start = proven ?? (value < base.value ? claimed : null)
    if (start !== null) {
      const isLong = isLonger(b.atNs - start, start, b.atNs, null)
      step('restarted', start, kindOf(isLong, b.atNs - start))
      count(field, start, b, value, isLong)
      base.heightMark = null
      base.sinceNs = start
    } else if (value >= base.value) {
      if (claimed !== null && field === 'cpuNs') {
        findings.unprovenRestarts++
        o.note?.({ kind: 'restart_unproven', fromNs: claimed, toNs: b.atNs })
      }
      const isLong = base.isGap || isGap
      step('counted', null, kindOf(isLong, b.atNs - baseNs))
      count(field, baseNs, b, value - climbFrom(base, value, b.atNs), isLong)
    } else if (next === undefined) {
      base.isGap ||= isGap
    } else if (next.low[field] < base.value) {
      if (field === 'cpuNs') {
        findings.falls++
        o.note?.({ kind: 'fall', fromNs: base.atNs, toNs: b.atNs })
        step('uncounted', null, 'unmeasured')
      }
      base.heightMark = isDisputed(hosts, baseNs, b.atNs) ? larger(base.heightMark ?? 0n, base.value) : null
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
    emit({ field, fromNs, toNs: b.atNs, amount, kind: kindOf(isGap, b.atNs - fromNs) })
    // After a gap nothing before the reading is counted as measured, so a conflict there takes its largest value.
    rebase(bases[field], isGap ? b.high[field] : b.low[field], b.atNs)
  }

  /** What a counter's next use is taken from: the base, or the height that a disputed fall left behind. */
  function climbFrom(base: Base, value: bigint, atNs: bigint): bigint {
    const mark = base.heightMark
    if (mark === null) return base.value
    // Out of the dispute one host is left, whose counter is its own.
    const isStillDisputed = isDisputed(hosts, base.atNs, atNs)
    if (isStillDisputed && value < mark) return base.value
    base.heightMark = null
    return isStillDisputed ? mark : base.value
  }

  /** Is a pair longer than the longest believable spacing? `at`: its place among the readings; null for a stretch
   *  from a start mark, which has no readings of its own life before it. */
  function isLonger(lengthNs: bigint, fromNs: bigint, toNs: bigint, at: number | null): boolean {
    if (lengthNs <= rules.minGapNs) return false
    if (lengthNs > rules.maxGapCapNs) return true
    if (marks.gaps.some(gap => gap.fromNs < toNs && fromNs < gap.untilNs)) return true
    return lengthNs > 3n * lowerMedian(spacings(lengthNs, at ?? pair, at === null))
  }

  /** The longest spacing that is believed where a pair lies: G. Without a pair, that of the readings beside it. */
  function believable(fromNs: bigint, toNs: bigint, at: number | null): bigint {
    if (marks.gaps.some(gap => gap.fromNs < toNs && fromNs < gap.untilNs)) return rules.minGapNs
    const lengths = fromNs === toNs ? [] : [toNs - fromNs]
    const around = spacings(0n, at ?? pair, at === null).slice(1)
    return smaller(rules.maxGapCapNs, larger(rules.minGapNs, 3n * lowerMedian([...lengths, ...around])))
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
    const lengths = [lengthNs]
    for (let i = isFromMark ? indexAfterMark() : at + 1, left = spacingsKept; left > 0 && i + 1 < readings.length; i++)
      left -= pushSpacings(lengths, i, 'headSpacings', left)
    if (isFromMark) return lengths
    for (let i = at - 1, left = spacingsKept; left > 0 && i >= 0; i--)
      left -= pushSpacings(lengths, i, 'tailSpacings', left)
    return lengths
  }

  /** The reading a start mark leads to: the first of all, or the second of the pair being folded. */
  function indexAfterMark(): number {
    return hasBegun ? pair + 1 : 0
  }

  /** The spacing behind a reading, or of a run the `most` that are nearest. */
  function pushSpacings(lengths: bigint[], i: number, end: 'headSpacings' | 'tailSpacings', most: number): number {
    const [a, b, run] = [readings[i], readings[i + 1], runs[i]]
    if (a === undefined || b === undefined) return most
    if (run === undefined) return lengths.push(b.atNs - a.atNs) && 1
    const spacings = run[end]
    lengths.push(...(end === 'headSpacings' ? spacings.slice(0, most) : spacings.slice(-most)))
    return most
  }

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
    forget()
  }

  function forget() {
    if (pair < 64) return
    readings = readings.slice(pair - spacingsKept)
    runs = runs.slice(pair - spacingsKept)
    pair = spacingsKept
  }

  /** Whether a run is counted on from whatever comes before it. */
  function countsOn(run: PartSummary): boolean {
    const { atNs: fromNs } = run.first
    const { atNs: toNs } = run.last
    return (
      run.maxSpacingNs <= rules.minGapNs &&
      countUpTo(marks.starts, toNs) === countUpTo(marks.starts, fromNs) &&
      countUpTo(marks.stops, toNs) === countUpTo(marks.stops, fromNs - 1n) &&
      !isDisputed(hosts, fromNs, toNs)
    )
  }

  function foldRun(run: PartSummary) {
    const { first, last, memoryByteNs: amount } = run
    const span = { fromNs: first.atNs, toNs: last.atNs, kind: 'measured' } as const
    for (const field of counterFields) {
      emit({ ...span, field, amount: last[field] - first[field] })
      rebase(bases[field], last[field], last.atNs)
      bases[field].sinceNs = null
    }
    emit({ ...span, field: 'memoryByteNs', amount })
    const believableNs = () => believable(first.atNs, last.atNs, pair)
    ledger.step({ ...span, skippedNs: null, how: 'counted', startNs: null, believableNs })
    pair++
  }

  return {
    pushRun(run) {
      if (!countsOn(run)) return false
      const at = readings.length
      readings.push(readingOf(run.first), readingOf(run.last))
      runs[at] = run
      // With so many readings behind them, all pairs before the run are settled.
      const [beginning] = readings
      if (!hasBegun && beginning !== undefined) begin(beginning)
      hasBegun = true
      for (; pair + 1 < at; pair++) foldPair(pair)
      if (at > 0) {
        if (counterFields.some(field => bases[field].heightMark !== null || run.first[field] < bases[field].value)) {
          readings.length = at
          runs.length = at
          return false
        }
        foldPair(pair)
        pair++
      }
      foldRun(run)
      findings.readings += run.count
      // It has as many spacings in it as are ever looked at.
      readings = readings.slice(at)
      runs = [run]
      pair = 1
      return true
    },
    fork(others, emitOther) {
      return continueFold({ ...o, ...others }, emitOther, {
        findings: { ...findings },
        readings: [...readings],
        runs: [...runs],
        pair,
        hasBegun,
        bases: {
          cpuNs: { ...bases.cpuNs },
          diskReadBytes: { ...bases.diskReadBytes },
          diskWriteBytes: { ...bases.diskWriteBytes },
          netRxBytes: { ...bases.netRxBytes },
          netTxBytes: { ...bases.netTxBytes },
        },
        ledger: ledger.fork(others, emitOther),
      })
    },
    unsettledNs() {
      const at = readings[pair]
      if (at === undefined) return null
      return hasBegun ? counterFields.map(field => bases[field].atNs).reduce(smaller, at.atNs) : at.atNs
    },
    push(reading) {
      findings.readings++
      if (reading.variants > 1) {
        findings.conflicts++
        o.note?.({ kind: 'conflict', fromNs: reading.atNs, toNs: reading.atNs })
      }
      readings.push(reading)
      advance(17)
    },
    finish(nowNs) {
      advance(0)
      const last = readings.at(-1)
      const { atNs: baseNs } = bases.cpuNs
      ledger.step({
        fromNs: last === undefined ? null : baseNs,
        toNs: null,
        skippedNs: last === undefined || last.atNs === baseNs ? null : last.atNs,
        how: 'uncounted',
        startNs: null,
        kind: 'unmeasured',
        // The sixteen spacings before the end; there is no pair.
        believableNs: () =>
          last === undefined ? rules.minGapNs : believable(last.atNs, last.atNs, readings.length - 1),
      })
      return { findings, lives: ledger.finish(nowNs ?? null) }
    },
  }
}

function readingOf(sample: Sample): Reading {
  return { atNs: sample.atNs, low: sample, high: sample, variants: 1 }
}

/** The reading that a counter's next difference is taken from. */
interface Base {
  value: bigint
  atNs: bigint
  /** A gap lies between the base and the readings skipped since. */
  isGap: boolean
  /** The start mark from which the pair folded last was counted; null when it was not. */
  sinceNs: bigint | null
  /** While two hosts claim the VM: how high the counter stood before it fell. */
  heightMark: bigint | null
}

function noBase(): Base {
  return { value: 0n, atNs: 0n, isGap: false, sinceNs: null, heightMark: null }
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
