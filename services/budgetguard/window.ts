// The window of a budget that holds an instant: half-open [start, end) in the budget's zone.

import { period as calendarPeriod } from '#platform/time'

export const periods = ['daily', 'weekly', 'monthly', 'custom'] as const
export type Period = (typeof periods)[number]

export interface WindowRule {
  period: Period
  /** IANA zone. */
  zone: string
  /** First day: ISO weekday of a weekly budget, day 1…28 of a monthly one. */
  anchor: number
  /** Unix ms. Outside [startsAt, endsAt) the budget is inert. A custom budget has both and is one window. */
  startsAt: number | null
  endsAt: number | null
}

export interface Window {
  /** Unix ms, inclusive. */
  start: number
  /** Unix ms, exclusive. */
  end: number
}

/** Null when the budget has not started, or has ended. */
export function windowAt(rule: WindowRule, atMs: number): Window | null {
  if (rule.startsAt !== null && atMs < rule.startsAt) return null
  if (rule.endsAt !== null && atMs >= rule.endsAt) return null
  if (rule.period === 'custom') {
    if (rule.startsAt === null || rule.endsAt === null) return null
    return { start: rule.startsAt, end: rule.endsAt }
  }
  const { start, end } = calendarPeriod(
    rule.period,
    rule.zone,
    rule.anchor,
    Temporal.Instant.fromEpochMilliseconds(atMs),
  )
  return { start: start.epochMilliseconds, end: end.epochMilliseconds }
}

/**
 * windowAt with a memory: calendars cost microseconds, and nearly every call falls into the window of the one before.
 * A rule is remembered by identity: a changed budget is another object.
 */
export function rememberWindows(): (rule: Omit<WindowRule, 'zone'>, zone: string, atMs: number) => Window | null {
  const last = new WeakMap<object, { zone: string; window: Window }>()
  return (rule, zone, atMs) => {
    const known = last.get(rule)
    const isInForce = (rule.startsAt === null || atMs >= rule.startsAt) && (rule.endsAt === null || atMs < rule.endsAt)
    if (known && known.zone === zone && isInForce && atMs >= known.window.start && atMs < known.window.end)
      return known.window
    const window = windowAt({ ...rule, zone }, atMs)
    if (window) last.set(rule, { zone, window })
    return window
  }
}

/**
 * The whole days a custom budget covers, both included, as [start, end) in its zone.
 * A date may be `2026-11-21` or an RFC 3339 time, which counts as the day it falls on in that zone.
 * @throws RangeError naming the value
 */
export function wholeDays(startDate: string, endDate: string, zone: string): Window {
  const from = dayOf(startDate, zone)
  const to = dayOf(endDate, zone)
  return { start: startOfDay(from, zone), end: startOfDay(to.add({ days: 1 }), zone) }
}

export function dayOf(text: string, zone: string): Temporal.PlainDate {
  try {
    if (/^\d{4}-\d{2}-\d{2}$/.test(text)) return Temporal.PlainDate.from(text, { overflow: 'reject' })
    if (/^\d{4}-\d{2}-\d{2}T[0-9:.]+(?:Z|[+-]\d{2}:?\d{2})$/.test(text))
      return Temporal.Instant.from(text).toZonedDateTimeISO(zone).toPlainDate()
  } catch {
    // falls through to the one error below
  }
  throw new RangeError(`"${text.slice(0, 40)}" is not a date; write 2026-11-21 or 2026-11-21T00:00:00Z`)
}

export function startOfDay(day: Temporal.PlainDate, zone: string): number {
  return day.toZonedDateTime(zone).startOfDay().epochMilliseconds
}

/** Whether the zone exists in this runtime's database. */
export function isZone(zone: string): boolean {
  try {
    Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(zone)
    return true
  } catch {
    return false
  }
}
