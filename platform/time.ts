// Clocks, calendar periods and the durations people write in configuration.
//
// Everything that asks "what time is it" takes a Clock, so that a test can drive a month in a millisecond.
// Wall time names instants; the monotonic clock measures: a step of the wall clock must never change a
// timeout, a lease or a rate.

export interface Clock {
  /** Wall time, Unix milliseconds, whole. */
  now(): number
  /** Milliseconds since an arbitrary start; never goes back. */
  monotonicMs(): number
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
}

/** Wall time as Unix nanoseconds. The clock itself resolves milliseconds; the width is for arithmetic with counters. */
export function nowNs(clock: Clock): bigint {
  return BigInt(clock.now()) * 1_000_000n
}

export function rfc3339(ms: number): string {
  return new Date(ms).toISOString()
}

export type PeriodKind = 'daily' | 'weekly' | 'monthly'

export interface Period {
  /** Inclusive. */
  start: Temporal.Instant
  /** Exclusive. */
  end: Temporal.Instant
}

/**
 * The half-open calendar period that holds `instant` in an IANA zone.
 *
 * `anchor` is the first day of the period: for `weekly` the ISO weekday 1 (Monday) … 7, for `monthly` the day of the
 * month 1…31, clamped to the month's last day; ignored for `daily`. A day may last 23 or 25 hours; edges are the
 * first instant of their local day, also where midnight does not exist.
 */
export function period(kind: PeriodKind, zone: string, anchor: number, instant: Temporal.Instant): Period {
  const day = instant.toZonedDateTimeISO(zone).toPlainDate()
  const { from, to } = localPeriod(kind, anchor, day)
  return { start: startOfDay(from, zone), end: startOfDay(to, zone) }
}

function localPeriod(kind: PeriodKind, anchor: number, day: Temporal.PlainDate) {
  switch (kind) {
    case 'daily':
      return { from: day, to: day.add({ days: 1 }) }
    case 'weekly': {
      requireAnchor(anchor, 7, 'weekly')
      const from = day.subtract({ days: (day.dayOfWeek - anchor + 7) % 7 })
      return { from, to: from.add({ days: 7 }) }
    }
    case 'monthly': {
      requireAnchor(anchor, 31, 'monthly')
      const month = day.toPlainYearMonth()
      const edge = anchorDay(month, anchor)
      if (Temporal.PlainDate.compare(day, edge) >= 0)
        return { from: edge, to: anchorDay(month.add({ months: 1 }), anchor) }
      return { from: anchorDay(month.subtract({ months: 1 }), anchor), to: edge }
    }
    default:
      return kind satisfies never
  }
}

function anchorDay(month: Temporal.PlainYearMonth, anchor: number): Temporal.PlainDate {
  return month.toPlainDate({ day: Math.min(anchor, month.daysInMonth) })
}

function startOfDay(day: Temporal.PlainDate, zone: string): Temporal.Instant {
  return day.toZonedDateTime(zone).startOfDay().toInstant()
}

function requireAnchor(anchor: number, max: number, kind: string) {
  if (!Number.isInteger(anchor) || anchor < 1 || anchor > max)
    throw new RangeError(`a ${kind} period starts on day 1…${max}, got ${anchor}`)
}

/** Milliseconds per unit of a Go duration; ns and µs become fractions, which are rounded at the end. */
const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1e3,
  m: 6e4,
  h: 3.6e6,
}

/** Longest duration we take: Go's own limit is 292 years; timers of ours stop being meaningful long before 10. */
const durationMsMax = 10 * 365 * 24 * 3_600_000

/**
 * A Go duration (`5s`, `1h30m`, `1.5h`, `500ms`, `-1m`, `0`) in whole milliseconds.
 * A non-zero value under half a millisecond is refused rather than read as zero.
 */
export function parseDuration(text: string): number {
  const form = 'write a number with its unit, such as 500ms, 5s, 1m30s or 24h'
  const sign = text.startsWith('-') ? -1 : 1
  const body = text.replace(/^[+-]/, '')
  if (body === '0') return 0
  if (!/^(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.test(body)) {
    if (/^\d+(\.\d+)?$/.test(body)) throw new Error(`"${text}" has no unit; ${form} (did you mean "${text}s"?)`)
    throw new Error(`"${text}" is not a duration; ${form}`)
  }
  let ms = 0
  for (const [, amount = '', unit = ''] of body.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g))
    ms += Number(amount) * (unitMs[unit] ?? Number.NaN)
  if (ms > durationMsMax) throw new Error(`"${text}" is longer than the longest duration taken, 87600h`)
  const whole = Math.round(ms)
  if (whole === 0 && ms > 0) throw new Error(`"${text}" is shorter than 1ms, the shortest duration taken`)
  return whole === 0 ? 0 : sign * whole
}

/** The text Go prints for a duration: `1m0s`, `1h0m0s`, `1.5s`, `250ms`, `0s`. */
export function formatDuration(ms: number): string {
  const sign = ms < 0 ? '-' : ''
  const whole = Math.round(Math.abs(ms))
  if (whole === 0) return '0s'
  if (whole < 1_000) return `${sign}${whole}ms`
  const hours = Math.floor(whole / 3_600_000)
  const minutes = Math.floor(whole / 60_000) % 60
  const seconds = (whole % 60_000) / 1_000
  if (hours > 0) return `${sign}${hours}h${minutes}m${seconds}s`
  if (minutes > 0) return `${sign}${minutes}m${seconds}s`
  return `${sign}${seconds}s`
}

/** Resolves after `ms`; rejects at once with the signal's reason when aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const onAbort = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
