import { formatDurationShort } from './duration.ts'

// Times are shown in the reader's own zone unless a period is by definition UTC (usage). `zone` is an argument so that
// tests mean the same everywhere; undefined is the browser's.

type Zone = string | undefined

const cache = new Map<string, Intl.DateTimeFormat>()

/** `14:03:22` */
export function formatClock(ms: number, zone?: Zone): string {
  return format('clock', { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }, ms, zone)
}

/** `14:03:22.048`, for log lines */
export function formatClockMs(ms: number, zone?: Zone): string {
  return `${formatClock(ms, zone)}.${String(Math.floor(ms) % 1000).padStart(3, '0')}`
}

/** `14:03` */
export function formatMinute(ms: number, zone?: Zone): string {
  return format('minute', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }, ms, zone)
}

/** `21 Nov` */
export function formatDay(ms: number, zone?: Zone): string {
  return format('day', { day: 'numeric', month: 'short' }, ms, zone)
}

/** `21 Nov 2026, 14:03:22` */
export function formatMoment(ms: number, zone?: Zone): string {
  return `${format('date', { day: 'numeric', month: 'short', year: 'numeric' }, ms, zone)}, ${formatClock(ms, zone)}`
}

/** `21 Nov, 14:03`, where the year is plain from elsewhere and room is short */
export function formatDayMinute(ms: number, zone?: Zone): string {
  return `${formatDay(ms, zone)}, ${formatMinute(ms, zone)}`
}

/** `November 2026` */
export function formatMonth(ms: number, zone?: Zone): string {
  return format('month', { month: 'long', year: 'numeric' }, ms, zone)
}

/** `12 s ago`, `in 9 d`, `now` */
export function formatRelative(ms: number, nowMs: number): string {
  const away = nowMs - ms
  if (Math.abs(away) < 1500) return 'now'
  return away > 0 ? `${formatDurationShort(away)} ago` : `in ${formatDurationShort(away)}`
}

/** RFC 3339 to Unix ms; NaN never reaches the screen because callers show '–' for null. */
export function parseMoment(text: string | null | undefined): number | null {
  if (!text) return null
  const ms = Date.parse(text)
  return Number.isNaN(ms) ? null : ms
}

function format(name: string, options: Intl.DateTimeFormatOptions, ms: number, zone: Zone): string {
  if (!Number.isFinite(ms)) return '–'
  const key = `${name} ${zone ?? ''}`
  let formatter = cache.get(key)
  if (!formatter) {
    formatter = new Intl.DateTimeFormat('en-GB', zone === undefined ? options : { ...options, timeZone: zone })
    cache.set(key, formatter)
  }
  return formatter.format(ms)
}
