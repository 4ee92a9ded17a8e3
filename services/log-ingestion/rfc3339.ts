// RFC 3339 as Go's time package reads it, to the nanosecond. `Date.parse` takes too much and keeps milliseconds only.

/** Reused by its owner: parsing a hundred thousand entries must not make a hundred thousand objects. */
export interface Moment {
  /** Whole seconds since 1970-01-01T00:00:00Z, negative before. */
  seconds: number
  /** 0…999 999 999, always forward from `seconds`. */
  nanos: number
}

/** Go's zero time, 0001-01-01T00:00:00Z: what an absent timestamp decodes to there, and counts as absent here. */
export const goZeroSeconds = -62_135_596_800

/**
 * Reads bytes[from, to) into `out`; false when it is not a time. Upper-case T and Z, an offset is needed, years have
 * four digits, second 60 is refused, digits after the ninth of a fraction are dropped. Like Go, it also takes a
 * one-digit hour and a comma before the fraction.
 */
export function parseRfc3339(bytes: Uint8Array, from: number, to: number, out: Moment, separator = 0x54): boolean {
  if (to - from < 19) return false
  const year = digits(bytes, from, 4)
  const month = digits(bytes, from + 5, 2)
  const day = digits(bytes, from + 8, 2)
  if (year < 0 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return false
  if (bytes[from + 4] !== dash || bytes[from + 7] !== dash || bytes[from + 10] !== separator) return false

  let at = from + 11
  const hourDigits = bytes[at + 1] === colon ? 1 : 2
  const hour = digits(bytes, at, hourDigits)
  at += hourDigits
  const minute = digits(bytes, at + 1, 2)
  const second = digits(bytes, at + 4, 2)
  if (bytes[at] !== colon || bytes[at + 3] !== colon) return false
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return false
  at += 6

  let nanos = 0
  if (at < to && (bytes[at] === dot || bytes[at] === comma)) {
    const start = ++at
    let scale = 100_000_000
    for (; at < to && isDigit(bytes[at]); at++) {
      nanos += ((bytes[at] as number) - 0x30) * scale
      scale = Math.floor(scale / 10)
    }
    if (at === start) return false
  }

  const offsetSeconds = parseOffset(bytes, at, to)
  if (offsetSeconds === undefined) return false
  out.seconds = daysSince1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offsetSeconds
  out.nanos = nanos
  return true
}

/** `Z` or `±hh:mm`; Go takes hours up to 24 and minutes up to 60 here. */
function parseOffset(bytes: Uint8Array, at: number, to: number): number | undefined {
  if (to - at === 1 && bytes[at] === 0x5a) return 0
  if (to - at !== 6 || bytes[at + 3] !== colon) return undefined
  const sign = bytes[at] === 0x2b ? 1 : bytes[at] === dash ? -1 : 0
  const hours = digits(bytes, at + 1, 2)
  const minutes = digits(bytes, at + 4, 2)
  if (sign === 0 || hours < 0 || hours > 24 || minutes < 0 || minutes > 60) return undefined
  return sign * (hours * 3_600 + minutes * 60)
}

/** RFC 3339 UTC with trailing zeros of the fraction trimmed. */
export function formatMoment(seconds: number, nanos: number): string {
  const date = new Date(seconds * 1_000).toISOString().slice(0, 19)
  if (nanos === 0) return `${date}Z`
  return `${date}.${String(nanos).padStart(9, '0').replace(/0+$/, '')}Z`
}

/** The same from nanoseconds since 1970. */
export function formatNanos(ns: bigint): string {
  const seconds = ns / 1_000_000_000n - (ns % 1_000_000_000n < 0n ? 1n : 0n)
  return formatMoment(Number(seconds), Number(ns - seconds * 1_000_000_000n))
}

/** The same from microseconds since 1970, as the database keeps them. */
export function formatMicros(us: bigint): string {
  const seconds = us / 1_000_000n - (us % 1_000_000n < 0n ? 1n : 0n)
  return formatMoment(Number(seconds), Number(us - seconds * 1_000_000n) * 1_000)
}

const dash = 0x2d
const colon = 0x3a
const dot = 0x2e
const comma = 0x2c

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39
}

/** -1 when any of the `count` bytes is not a digit. */
function digits(bytes: Uint8Array, at: number, count: number): number {
  let value = 0
  for (let i = at; i < at + count; i++) {
    const byte = bytes[i]
    if (!isDigit(byte)) return -1
    value = value * 10 + (byte as number) - 0x30
  }
  return value
}

function daysIn(year: number, month: number): number {
  if (month !== 2) return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
  return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
}

/** Howard Hinnant's days_from_civil: the year starts in March, so the leap day is its last. */
function daysSince1970(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year
  const era = Math.floor(y / 400)
  const yearOfEra = y - era * 400
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  return era * 146_097 + dayOfEra - 719_468
}
