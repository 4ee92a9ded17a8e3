// How far this machine's clock is from a server's, told from the `Date` of its answers.
//
// `Date` has whole seconds, so one answer only says that the skew lies in an interval a little over a second wide.
// Several answers, asked for at different fractions of a second, have intervals whose intersection is narrow.

import type { Logger } from '#platform/telemetry'
import { type Clock, sleep } from '#platform/time'
import type { Client } from './client.ts'

export interface ClockCheckOptions {
  url: string
  /** The upload endpoint: only its own origin is shown the token. */
  endpoint: string | undefined
  client: Pick<Client, 'getDate'>
  intervalMs: number
  warnMs: number
  clock: Clock
  log: Logger
  /** The clock was compared, with whatever result. */
  onReading(): void
}

export interface Interval {
  lo: number
  hi: number
}

const samplesMax = 6
const spacingMs = 370
/** Narrow enough to stop asking. */
const widthMsEnough = 250
const warnEveryMs = 3_600_000

/** Local minus server: positive when this clock is ahead. The server's true time was in [Date, Date + 1 s). */
export function skewInterval(sentMs: number, receivedMs: number, dateMs: number): Interval {
  return { lo: sentMs - (dateMs + 1_000), hi: receivedMs - dateMs }
}

/** Undefined when they contradict each other, as when the clock was set in between. */
export function intersect(a: Interval, b: Interval): Interval | undefined {
  const both = { lo: Math.max(a.lo, b.lo), hi: Math.min(a.hi, b.hi) }
  return both.lo <= both.hi ? both : undefined
}

export function startClockCheck(o: ClockCheckOptions) {
  const stopping = new AbortController()
  const first = Promise.withResolvers<void>()
  let skewMs: number | undefined
  let trouble = ''
  let warnedMs = Number.NEGATIVE_INFINITY

  const measure = async (): Promise<void> => {
    let known: Interval | undefined
    for (let i = 0; i < samplesMax; i++) {
      if (i > 0) await sleep(spacingMs, stopping.signal)
      const sentMs = o.clock.now()
      const answer = await o.client.getDate(o.url, o.endpoint, stopping.signal)
      const receivedMs = o.clock.now()
      const dateMs = Date.parse(answer.date ?? '')
      // A cache's answer tells when it was made, not what time it is.
      if (Number.isNaN(dateMs) || Number(answer.age ?? '0') > 0) continue
      const interval = skewInterval(sentMs, receivedMs, dateMs)
      known = known ? (intersect(known, interval) ?? interval) : interval
      if (known.hi - known.lo <= widthMsEnough) break
    }
    if (!known) throw new Error(`${new URL(o.url).origin} sends no usable Date`)
    skewMs = (known.lo + known.hi) / 2
    trouble = ''
    o.onReading()
    const nowMs = o.clock.monotonicMs()
    if (Math.abs(skewMs) > o.warnMs && nowMs - warnedMs > warnEveryMs) {
      warnedMs = nowMs
      o.log.warn({ skewMs: Math.round(skewMs), thresholdMs: o.warnMs }, 'the clock of this machine is off')
    }
  }

  const loop = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      try {
        await measure()
      } catch (error) {
        if (stopping.signal.aborted) break
        trouble = `clock check failed: ${error instanceof Error ? error.message : String(error)}`
      }
      first.resolve()
      await sleep(o.intervalMs, stopping.signal).catch(() => {})
    }
    first.resolve()
  }
  const done = loop()

  return {
    /** The first reading, or its failure. */
    first: first.promise,
    state: () => ({ skewMs, trouble }),
    async close(): Promise<void> {
      stopping.abort()
      await done
    },
  }
}

export type ClockCheck = ReturnType<typeof startClockCheck>
