// `from` and `to` of a search: RFC 3339, or relative to now.

import { parseDuration } from '#platform/time'
import { type Moment, parseRfc3339 } from './rfc3339.ts'

export class TimeError extends Error {}

/** Nanoseconds since 1970. `-15m`, `now`, `now-1d`, `2026-01-02T03:04:05Z`. @throws TimeError */
export function parseTime(text: string, nowMs: number): bigint {
  const relative = /^(?:now)?(?:([+-])(.+))?$/.exec(text)
  if (text !== '' && relative) {
    const [, sign, amount] = relative
    if (sign === undefined || amount === undefined) return BigInt(nowMs) * 1_000_000n
    const ms = parseAmount(amount)
    if (ms !== undefined) return BigInt(nowMs + (sign === '-' ? -ms : ms)) * 1_000_000n
  }
  const moment: Moment = { seconds: 0, nanos: 0 }
  const bytes = new TextEncoder().encode(text)
  if (!parseRfc3339(bytes, 0, bytes.length, moment))
    throw new TimeError(`${JSON.stringify(text)} is not a time; write 2026-01-02T15:04:05Z, -15m, now or now-1d`)
  return BigInt(moment.seconds) * 1_000_000_000n + BigInt(moment.nanos)
}

/** A Go duration, days (`7d`) or weeks (`2w`). @throws TimeError */
export function parseInterval(text: string): number {
  const ms = parseAmount(text)
  if (ms === undefined || ms <= 0)
    throw new TimeError(`${JSON.stringify(text)} is not a length of time; write 30s, 5m, 1h or 1d`)
  return ms
}

function parseAmount(text: string): number | undefined {
  const match = /^(\d{1,5})([dw])$/.exec(text)
  if (match) return Number(match[1]) * (match[2] === 'd' ? 86_400_000 : 7 * 86_400_000)
  try {
    return parseDuration(text)
  } catch {
    return undefined
  }
}

/** Lengths people read easily, in ms. */
const niceIntervals = [
  1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000,
  7_200_000, 10_800_000, 21_600_000, 43_200_000, 86_400_000, 604_800_000, 2_592_000_000, 31_536_000_000,
  315_360_000_000,
]
export const bucketsMax = 1_000
const bucketsWanted = 60

/** The shortest easy interval that cuts the range into about sixty. */
export function defaultInterval(rangeNs: bigint): number {
  return niceIntervals.find(ms => bucketsOf(rangeNs, ms) <= bucketsWanted) ?? longestInterval
}

/** The shortest easy interval that stays inside the bound on buckets. */
export function smallestInterval(rangeNs: bigint): number {
  return niceIntervals.find(ms => bucketsOf(rangeNs, ms) < bucketsMax) ?? longestInterval
}
const longestInterval = 315_360_000_000

function bucketsOf(rangeNs: bigint, intervalMs: number): number {
  return Number(rangeNs / (BigInt(intervalMs) * 1_000_000n)) + 1
}
