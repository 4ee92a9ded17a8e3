// The collect loop: at each grid point read all due sources side by side, commit what they gave under one timestamp.
//
// A source is idle or under way. Past the deadline of its tick the tick goes on without it; it stays under way, is
// passed over at later ticks and reported as failed until its read returns, whose late result is thrown away.

import type { Clock } from '#platform/time'
import { openGrid } from './grid.ts'
import type { Reading } from './sample.ts'
import { observe, type SourceStats, type Stats } from './stats.ts'

export interface Source {
  name: string
  intervalMs: number
  read(): Promise<readonly Reading[]>
}

export interface CollectingOptions {
  sources: readonly Source[]
  clock: Clock
  stats: Stats
  /** Commits a tick; false when it could not be stored yet. */
  record(tick: { wallMs: number; monoMs: number; readings: readonly Reading[] }): boolean
  /** Why the last commit failed, for the sources whose samples it held. */
  recordError(): string | undefined
  onFailure(source: string, error: string): void
}

/** Longest a tick waits for its slowest source. */
const deadlineMsMax = 10_000

export function startCollecting(o: CollectingOptions) {
  const { clock, stats } = o
  const intervals = new Map(o.sources.map(source => [source.name, source.intervalMs]))
  const deadlineMs = Math.min(deadlineMsMax, Math.min(...intervals.values()) / 2)
  const grid = openGrid(clock.monotonicMs(), intervals)
  const underWay = new Map<string, number>()
  const first = Promise.withResolvers<void>()
  let timer: NodeJS.Timeout | undefined
  let ticking: Promise<void> | undefined
  let isClosed = false
  let promisedMs = Number.POSITIVE_INFINITY

  const readOne = async (source: Source, wallMs: number): Promise<readonly Reading[]> => {
    const own = stats.sources.get(source.name)
    if (!own) throw new Error(`BUG: no statistics for source ${source.name}`)
    const startedMs = clock.monotonicMs()
    const since = underWay.get(source.name)
    if (since !== undefined) {
      fail(source.name, own, wallMs, `no answer for ${Math.round((startedMs - since) / 1_000)} s, passed over`)
      return []
    }
    underWay.set(source.name, startedMs)
    const reading = source.read()
    const done = () => underWay.delete(source.name)
    reading.then(done, done)
    try {
      const readings = await within(deadlineMs, reading)
      observe(own.durationS, (clock.monotonicMs() - startedMs) / 1_000)
      Object.assign(own, { status: 'ok', error: '', samples: readings.length, lastRunMs: wallMs })
      own.collected += readings.length
      return readings
    } catch (error) {
      observe(own.durationS, (clock.monotonicMs() - startedMs) / 1_000)
      fail(source.name, own, wallMs, error instanceof Error ? error.message : String(error))
      return []
    }
  }

  const fail = (name: string, own: SourceStats, wallMs: number, error: string) => {
    own.failed++
    if (own.error !== error) o.onFailure(name, error)
    Object.assign(own, { status: 'error', error, samples: 0, lastRunMs: wallMs })
  }

  const tick = async (names: readonly string[]): Promise<void> => {
    const wallMs = clock.now()
    const monoMs = clock.monotonicMs()
    const due = o.sources.filter(source => names.includes(source.name))
    const readings = (await Promise.all(due.map(source => readOne(source, wallMs)))).flat()
    if (o.record({ wallMs, monoMs, readings })) return first.resolve()
    const error = o.recordError() ?? 'not stored'
    for (const { name } of due) {
      const own = stats.sources.get(name)
      if (own && own.status === 'ok') Object.assign(own, { status: 'error', error })
    }
    first.reject(new Error(`the first samples could not be stored: ${error}`))
  }
  // Whoever waits for the first tick gets its error; later ones show in health.
  first.promise.catch(() => {})

  const schedule = () => {
    if (isClosed) return
    const waitMs = Math.max(0, grid.nextMs() - clock.monotonicMs())
    promisedMs = clock.monotonicMs() + waitMs + deadlineMs + 5_000
    timer = setTimeout(run, Math.min(waitMs, 2 ** 31 - 1))
  }
  const run = () => {
    const { names, missed } = grid.due(clock.monotonicMs())
    stats.ticksMissed += missed
    if (names.length === 0) return schedule() // timers may fire a millisecond early
    ticking = tick(names).finally(schedule)
  }
  run()

  return {
    /** Resolves after the first commit. */
    first: first.promise,
    /** Monotonic time by which the loop will have made progress, or is wedged. */
    get promisedMs() {
      return promisedMs
    },
    async close(): Promise<void> {
      isClosed = true
      clearTimeout(timer)
      await ticking
    },
  }
}

export type Collecting = ReturnType<typeof startCollecting>

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
