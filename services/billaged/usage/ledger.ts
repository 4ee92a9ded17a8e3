import type { Stretch, StretchKind } from './fold.ts'
import { firstEndingFrom, type Hosts, isDisputed, withoutHost } from './hosts.ts'
import { countUpTo, type Marks } from './marks.ts'

// The time of a series: its lives (G20), how each nanosecond of them is known (G23), and when it was alive (G22).
//
// The fold of CPU time says how it came from one reading that counts to the next; this puts the other evidence between
// the two: start and stop marks, and listings by hosts. A life is either running or not:
//   begins    at a start mark, or at a reading while none runs
//   ends      at a stop mark; or at its last evidence, when a start mark that is believed begins another, or nothing follows
// A start mark between two readings whose counter ran on is a repeated notice: evidence, and no beginning.

/** From one reading that counts for CPU time to the next. */
export interface Step {
  /** Null: there is none before. */
  fromNs: bigint | null
  /** Null: there is none after. */
  toNs: bigint | null
  /** A reading in between that does not count for CPU time. */
  skippedNs: bigint | null
  how: 'counted' | 'restarted' | 'uncounted'
  /** Restarted: the mark it was counted from. */
  startNs: bigint | null
  /** Of what was counted. */
  kind: StretchKind
  /** The longest believable spacing of the pair of readings that ends the step (G16). */
  believableNs(): bigint
}

/** From a start mark, or a reading, to the stop mark, or the last evidence. */
export interface Life {
  startNs: bigint
  /** Null while it may still run. */
  stopNs: bigint | null
  endBy: 'open' | 'stop' | 'lease'
}

export interface Ledger {
  step(step: Step): void
  /** Nothing follows: lives that were heard of since `nowNs` minus what is believable are open. */
  finish(nowNs: bigint | null): Life[]
  /** The same ledger, to go on by itself. */
  fork(o: { marks: Marks; hosts: Hosts }, emit: (stretch: Stretch) => void): Ledger
}

/** `isContinued`: the series has readings before the first step's, so that its life runs already. */
export function createLedger(
  o: { marks: Marks; hosts: Hosts; isContinued: boolean },
  emit: (stretch: Stretch) => void,
): Ledger {
  const begin = { lives: [], life: null, at: null, nextStart: 0, nextStop: 0, openTime: null, openAlive: null }
  return continueLedger(o, emit, { ...begin, patienceNs: o.hosts.leaseNs })
}

interface State {
  lives: readonly Life[]
  life: { startNs: bigint } | null
  at: bigint | null
  patienceNs: bigint
  nextStart: number
  nextStop: number
  openTime: Span | null
  openAlive: Span | null
}

function continueLedger(
  { marks, hosts, isContinued }: { marks: Marks; hosts: Hosts; isContinued: boolean },
  emit: (stretch: Stretch) => void,
  state: State,
): Ledger {
  const lives = [...state.lives]
  const time = createJoiner(emit, state.openTime)
  const alive = createJoiner(emit, state.openAlive)
  let { life } = state
  /** The last evidence; null before the first. */
  let { at } = state
  let { patienceNs, nextStart, nextStop } = state

  function step(s: Step) {
    if (s.fromNs !== null && at === null) {
      // The first reading of a window: what is before it is another window's.
      at = s.fromNs
      if (isContinued) life = { startNs: at }
      nextStart = countUpTo(marks.starts, at)
      nextStop = countUpTo(marks.stops, at - 1n)
    }
    const pair = pairOf(s)
    const disputed = pair !== null && isDisputed(hosts, pair.fromNs, pair.toNs)
    const untilNs = s.toNs
    const isUnbroken = s.how === 'counted' && !isBefore(marks.stops[nextStop], untilNs)
    let skippedNs = s.skippedNs
    for (;;) {
      const stopNs = isBefore(marks.stops[nextStop], untilNs) ? marks.stops[nextStop] : undefined
      const startNs = isUpTo(marks.starts[nextStart], untilNs) ? marks.starts[nextStart] : undefined
      const earliest = [startNs, skippedNs ?? undefined, stopNs].filter(ns => ns !== undefined).reduce(least, null)
      if (earliest === null) break
      // At one instant: the stop of the life before, then the start; but a stop at a reading's own instant comes behind it.
      if (stopNs === earliest && stopNs !== skippedNs) {
        reach(s, stopNs, isUnbroken, disputed)
        if (life !== null) end(stopNs, 'stop')
        nextStop++
      } else if (startNs === earliest) {
        start(s, startNs, isUnbroken, disputed)
        nextStart++
      } else {
        read(s, earliest, isUnbroken, disputed)
        skippedNs = null
      }
    }
    if (untilNs !== null) read(s, untilNs, isUnbroken, disputed)
    else if (life !== null) listings(s, null, isUnbroken, disputed)
  }

  function read(s: Step, atNs: bigint, isUnbroken: boolean, disputed: boolean) {
    reach(s, atNs, isUnbroken, disputed)
    life ??= { startNs: atNs }
  }

  function start(s: Step, startNs: bigint, isUnbroken: boolean, disputed: boolean) {
    const isBeginning = s.how === 'uncounted' ? !isPair(s) : s.how === 'restarted' && startNs <= (s.startNs ?? startNs)
    if (life !== null && isBeginning) {
      listings(s, startNs, isUnbroken, disputed)
      end(at ?? startNs, 'lease')
      at = startNs
    } else reach(s, startNs, isUnbroken, disputed)
    life ??= { startNs }
  }

  /** Other evidence came: what lies before it belongs to the life that runs. */
  function reach(s: Step, atNs: bigint, isUnbroken: boolean, disputed: boolean) {
    if (life !== null) {
      // Of a counter that ran on nobody need vouch for the time between.
      if (!isUnbroken) listings(s, atNs, isUnbroken, disputed)
      between(s, at ?? atNs, atNs, isUnbroken || isAlive(s, at ?? atNs, atNs), disputed)
    }
    at = atNs
  }

  /** Takes in the listings before an instant, or all that are left. */
  function listings(s: Step, untilNs: bigint | null, isUnbroken: boolean, disputed: boolean) {
    if (at === null) return
    for (let i = firstEndingFrom(hosts.runs, at); i < hosts.runs.length; i++) {
      const run = hosts.runs[i]
      if (run === undefined || (untilNs !== null && run.fromNs >= untilNs)) return
      if (run.fromNs > at) {
        between(s, at, run.fromNs, isUnbroken || isAlive(s, at, run.fromNs), disputed)
        at = run.fromNs
      }
      const lastNs = untilNs !== null && run.lastNs > untilNs ? untilNs : run.lastNs
      if (lastNs <= at) continue
      between(s, at, lastNs, true, disputed)
      at = lastNs
    }
  }

  /** The rules for two neighbouring points of evidence that are not two readings of one run of the counter. */
  function isAlive(s: Step, fromNs: bigint, toNs: bigint): boolean {
    const lengthNs = toNs - fromNs
    if (lengthNs <= hosts.leaseNs || lengthNs <= s.believableNs()) return true
    const wasListed = hosts.firstListedNs !== null && hosts.firstListedNs <= toNs
    return !wasListed && marks.stops[nextStop] === toNs
  }

  function between(s: Step, fromNs: bigint, toNs: bigint, isAliveThroughout: boolean, disputed: boolean) {
    if (fromNs >= toNs) return
    if (isAliveThroughout) alive.add({ field: 'aliveNs', fromNs, toNs, kind: 'measured' })
    const kind = kindOf(s, toNs)
    if (kind === 'measured')
      return time.add({ field: 'timeNs', fromNs, toNs, kind: disputed ? 'disputed' : 'measured' })
    let seenFromNs = fromNs
    const seenKind = disputed ? 'disputed' : kind
    for (const down of withoutHost(hosts, fromNs, toNs)) {
      time.add({ field: 'timeNs', fromNs: seenFromNs, toNs: down.fromNs, kind: seenKind })
      time.add({ field: 'timeNs', ...down, kind })
      emit({ field: 'hostDownNs', ...down, kind, amount: down.toNs - down.fromNs })
      seenFromNs = down.toNs
    }
    time.add({ field: 'timeNs', fromNs: seenFromNs, toNs, kind: seenKind })
  }

  function end(stopNs: bigint, endBy: 'stop' | 'lease') {
    // A start notice with nothing behind it until the next one was no life.
    if (life !== null && (life.startNs < stopNs || endBy === 'stop'))
      lives.push({ startNs: life.startNs, stopNs, endBy })
    life = null
  }

  return {
    step(s) {
      step(s)
      if (s.toNs === null) patienceNs = largest(hosts.leaseNs, s.believableNs())
    },
    finish(nowNs) {
      time.flush()
      alive.flush()
      if (life !== null && at !== null) {
        const isOpen = nowNs !== null && at + patienceNs >= nowNs
        if (isOpen) lives.push({ startNs: life.startNs, stopNs: null, endBy: 'open' })
        else end(at, 'lease')
      }
      return lives
    },
    fork(others, emitOther) {
      const open = { openTime: time.open(), openAlive: alive.open() }
      return continueLedger({ ...others, isContinued }, emitOther, {
        lives,
        life,
        at,
        patienceNs,
        nextStart,
        nextStop,
        ...open,
      })
    },
  }
}

function isPair(s: Step): boolean {
  return s.fromNs !== null && s.toNs !== null
}

/** What two hosts can dispute: two readings, or a start mark and the first one. */
function pairOf(s: Step): { fromNs: bigint; toNs: bigint } | null {
  const fromNs = s.fromNs ?? s.startNs
  return fromNs === null || s.toNs === null ? null : { fromNs, toNs: s.toNs }
}

function kindOf(s: Step, toNs: bigint): StretchKind {
  if (s.how === 'uncounted' || (s.startNs !== null && toNs <= s.startNs)) return 'unmeasured'
  return s.kind
}

function isBefore(ns: bigint | undefined, untilNs: bigint | null): boolean {
  return ns !== undefined && (untilNs === null || ns < untilNs)
}

function isUpTo(ns: bigint | undefined, untilNs: bigint | null): boolean {
  return ns !== undefined && (untilNs === null || ns <= untilNs)
}

function least(a: bigint | null, b: bigint): bigint {
  return a === null || b < a ? b : a
}

function largest(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}

/** Stretches of time of one kind that touch are emitted as one: a month of readings is one stretch, not millions. */
function createJoiner(emit: (stretch: Stretch) => void, begun: Span | null) {
  let open = begun
  const flush = () => {
    if (open !== null) emit({ ...open, amount: open.toNs - open.fromNs })
    open = null
  }
  return {
    add(span: Span) {
      if (span.fromNs >= span.toNs) return
      if (open !== null && open.kind === span.kind && open.toNs === span.fromNs) open = { ...open, toNs: span.toNs }
      else {
        flush()
        open = span
      }
    },
    flush,
    open: () => open,
  }
}

type Span = Pick<Stretch, 'field' | 'fromNs' | 'toNs' | 'kind'>
