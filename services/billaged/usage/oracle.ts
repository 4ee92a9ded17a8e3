import type { Sample } from '../samples/sample.ts'

// A second, slower reading of the specification (G9–G23), for tests: whole history in arrays, one counter at a time,
// no windows, no sharing. It imports types only, so that a mistake in the fold cannot hide in what both use.

type Field = 'cpuNs' | 'diskReadBytes' | 'diskWriteBytes' | 'netRxBytes' | 'netTxBytes'
type Kind = 'measured' | 'shortGap' | 'longGap'
type TimeKind = Kind | 'unmeasured' | 'disputed'

export interface OracleInput {
  samples: readonly Sample[]
  starts: readonly bigint[]
  stops: readonly bigint[]
  gaps: readonly { fromNs: bigint; untilNs: bigint }[]
  /** What heartbeats listed, by host. */
  listings: readonly { host: string; atNs: bigint }[]
}

export interface OracleStretch {
  field: Field | 'memoryByteNs' | 'timeNs' | 'hostDownNs' | 'aliveNs'
  from: bigint
  to: bigint
  amount: bigint
  kind: TimeKind
}

export interface OracleLife {
  from: bigint
  to: bigint
  endBy: 'stop' | 'lease'
}

/** From one reading that counts for CPU time to the next; before the first and behind the last one end is open. */
interface Step {
  from: bigint | null
  to: bigint | null
  how: 'counted' | 'restarted' | 'uncounted'
  start: bigint | null
  kind: TimeKind
}

const minute = 60_000_000_000n
const ascending = (values: readonly bigint[]) => values.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))
const least = (values: readonly bigint[]) => ascending(values)[0] ?? 0n
const most = (values: readonly bigint[]) => ascending(values).at(-1) ?? 0n

const lease = 2n * minute

export function oracleStretches({ samples, starts, stops, gaps, listings }: OracleInput): {
  stretches: OracleStretch[]
  lives: OracleLife[]
} {
  const fields: Field[] = ['cpuNs', 'diskReadBytes', 'diskWriteBytes', 'netRxBytes', 'netTxBytes']
  const isZero = (s: Sample) => s.memoryBytes === 0n && fields.every(f => s[f] === 0n)
  const real = samples.filter(s => !isZero(s))
  const times = ascending([...new Set(real.map(s => s.atNs))])
  const low = (t: bigint, f: Field | 'memoryBytes') => least(real.filter(s => s.atNs === t).map(s => s[f]))
  const high = (t: bigint, f: Field) => most(real.filter(s => s.atNs === t).map(s => s[f]))

  const longest = (from: bigint, to: bigint, isFromMark: boolean) => {
    const before = isFromMark ? [] : times.filter(t => t <= from).slice(-17)
    const after = times.filter(t => t >= to).slice(0, 17)
    const spaces = (list: bigint[]) => list.slice(1).map((t, i) => t - (list[i] ?? 0n))
    const sorted = ascending([...(from === to ? [] : [to - from]), ...spaces(before), ...spaces(after)])
    const median = sorted[Math.ceil(sorted.length / 2) - 1] ?? 0n
    const declared = gaps.some(g => g.fromNs < to && from < g.untilNs)
    return declared ? 2n * minute : least([60n * minute, most([2n * minute, 3n * median])])
  }
  const isGap = (from: bigint, to: bigint, isFromMark: boolean) => to - from > longest(from, to, isFromMark)
  const disputed = (from: bigint, to: bigint) =>
    new Set(listings.filter(l => l.atNs >= from - 2n * minute && l.atNs <= to + 2n * minute).map(l => l.host)).size > 1
  const kind = (gap: boolean, length: bigint): Kind =>
    !gap ? 'measured' : length < 10n * minute ? 'shortGap' : 'longGap'

  const result: OracleStretch[] = []
  const steps: Step[] = []
  for (const field of fields) {
    const step = (s: Step) => (field === 'cpuNs' ? void steps.push(s) : undefined)
    let height: bigint | null = null
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
        step({ from: b?.t ?? null, to: t, how: 'restarted', start: fromZero, kind: kind(gap, t - fromZero) })
        height = null
        base = { t, v: gap ? high(t, field) : value(t) }
        skippedGap = false
      } else if (b === null) {
        step({ from: null, to: t, how: 'uncounted', start: null, kind: 'unmeasured' })
        base = { t, v: high(t, field) }
      } else if (value(t) >= b.v) {
        const gap = skippedGap || stepGap
        step({ from: b.t, to: t, how: 'counted', start: null, kind: kind(gap, t - b.t) })
        let used = value(t) - b.v
        if (height !== null && !disputed(b.t, t)) height = null
        if (height !== null && value(t) >= height) {
          used = value(t) - height
          height = null
        }
        result.push({ field, from: b.t, to: t, amount: used, kind: kind(gap, t - b.t) })
        base = { t, v: gap ? high(t, field) : value(t) }
        skippedGap = false
      } else {
        const next = times[i + 1]
        if (next !== undefined && value(next) < b.v) {
          step({ from: b.t, to: t, how: 'uncounted', start: null, kind: 'unmeasured' })
          height = disputed(b.t, t) ? most([height ?? 0n, b.v]) : null
          base = { t, v: high(t, field) }
          skippedGap = false
        } else skippedGap ||= stepGap
      }
    }
    step({ from: base?.t ?? null, to: null, how: 'uncounted', start: null, kind: 'unmeasured' })
  }
  for (const [i, b] of times.entries()) {
    const a = times[i - 1]
    if (a === undefined) continue
    if (starts.some(s => s > a && s <= b) || stops.some(p => p >= a && p < b)) continue
    const k = kind(isGap(a, b, false), b - a)
    const level = least([low(a, 'memoryBytes'), low(b, 'memoryBytes')])
    if (k !== 'longGap') result.push({ field: 'memoryByteNs', from: a, to: b, amount: level * (b - a), kind: k })
  }
  const { time, lives } = oracleTime({ times, starts, stops, listings, steps, longest, disputed })
  return { stretches: [...result, ...time], lives }
}

/** The ledger, nanosecond by nanosecond: the line is cut at everything that happens, and each piece looked at alone. */
function oracleTime(o: {
  times: readonly bigint[]
  starts: readonly bigint[]
  stops: readonly bigint[]
  listings: OracleInput['listings']
  steps: readonly Step[]
  longest(from: bigint, to: bigint, isFromMark: boolean): bigint
  disputed(from: bigint, to: bigint): boolean
}): { time: OracleStretch[]; lives: OracleLife[] } {
  const { times, starts, stops, steps } = o
  const listed = ascending(o.listings.map(l => l.atNs))
  const firstListed = listed[0]
  const stepOf = (from: bigint, to: bigint) =>
    steps.find(s => (s.from === null || s.from <= from) && (s.to === null || to <= s.to))
  /** Listings a lease apart or less vouch for the time between them. */
  const isVouched = (t: bigint) => listed.some(l => l < t && listed.some(m => m >= t && m - l <= lease))

  const events = [
    ...stops.map(at => ({ at, what: 0 })),
    ...starts.map(at => ({ at, what: 1 })),
    ...times.map(at => ({ at, what: 2 })),
  ].sort((a, b) => (a.at === b.at ? order(a, times) - order(b, times) : a.at < b.at ? -1 : 1))
  const lives: OracleLife[] = []
  const spans: { from: bigint; to: bigint; isStop: boolean }[] = []
  let life: bigint | null = null
  let last = 0n
  const listingsIn = (from: bigint, to: bigint | null) => listed.filter(l => l > from && (to === null || l < to))
  const walk = (points: bigint[]) => {
    for (const to of points) {
      if (to > last) spans.push({ from: last, to, isStop: false })
      if (to > last) last = to
    }
  }
  for (const { at, what } of events) {
    if (life !== null) {
      walk(listingsIn(last, at))
      const step = starts.includes(at) && what === 1 ? startStep(steps, at) : undefined
      const begins =
        what === 1 &&
        (step?.how === 'restarted'
          ? at <= (step.start ?? at)
          : step?.how === 'uncounted' && (step.from === null || step.to === null))
      if (begins) {
        if (isVouched(at)) walk([at])
        if (last > life) lives.push({ from: life, to: last, endBy: 'lease' })
        life = at
      } else {
        // A stop at the instant of other evidence is what the stretch ends in all the same.
        if (at > last) spans.push({ from: last, to: at, isStop: stops.includes(at) })
        if (what === 0) {
          lives.push({ from: life, to: at, endBy: 'stop' })
          life = null
        }
      }
    } else if (what !== 0) life = at
    last = at
  }
  if (life !== null) {
    walk(listingsIn(last, null))
    if (last > life) lives.push({ from: life, to: last, endBy: 'lease' })
  }

  const time: OracleStretch[] = []
  const cuts = ascending([...new Set([...times, ...starts, ...stops, ...listed, ...listed.map(l => l + lease)])])
  const put = (field: 'timeNs' | 'hostDownNs' | 'aliveNs', from: bigint, to: bigint, kind: TimeKind) =>
    void time.push({ field, from, to, amount: to - from, kind })
  for (const [i, to] of cuts.entries()) {
    const from = cuts[i - 1]
    if (from === undefined || !lives.some(l => l.from <= from && to <= l.to)) continue
    const s = stepOf(from, to)
    if (s === undefined) throw new Error('a life has steps')
    const kind = s.how === 'uncounted' || (s.start !== null && to <= s.start) ? 'unmeasured' : s.kind
    const since = s.from ?? s.start
    const isDisputed = since !== null && s.to !== null && o.disputed(since, s.to)
    const isDown = firstListed !== undefined && from >= firstListed && !listed.some(l => l <= from && to <= l + lease)
    if (kind !== 'measured' && isDown) {
      put('timeNs', from, to, kind)
      put('hostDownNs', from, to, kind)
    } else put('timeNs', from, to, isDisputed ? 'disputed' : kind)
  }
  for (const { from, to, isStop } of spans) {
    const s = stepOf(from, to)
    if (s === undefined) throw new Error('a life has steps')
    const ranOn = s.how === 'counted' && !stops.some(p => s.from !== null && s.to !== null && p >= s.from && p < s.to)
    const before = times.filter(t => s.to !== null && t < s.to).at(-1)
    const pairFrom = s.to === null ? times.at(-1) : s.from === null ? (s.start ?? s.to) : before
    const pairTo = s.to ?? times.at(-1)
    const longest =
      pairFrom === undefined || pairTo === undefined
        ? 2n * minute
        : s.to === null
          ? o.longest(pairTo, pairTo, false)
          : o.longest(pairFrom, pairTo, s.from === null)
    const patience = most([longest, lease])
    const neverListed = firstListed === undefined || firstListed > to
    if (ranOn || to - from <= patience || (isStop && neverListed)) put('aliveNs', from, to, 'measured')
  }
  return { time, lives }
}

/** At one instant: the stop of the life before, the start, the reading. A stop at a reading's instant comes behind it. */
function order({ at, what }: { at: bigint; what: number }, times: readonly bigint[]): number {
  return what === 0 && times.includes(at) ? 3 : what
}

function startStep(steps: readonly Step[], at: bigint): Step | undefined {
  return steps.find(s => (s.from === null || s.from < at) && (s.to === null || at <= s.to))
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
