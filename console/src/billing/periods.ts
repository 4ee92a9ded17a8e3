import { formatDay, formatMonth } from '../units/time.ts'

// Billing periods as billaged cuts them: 1, 3 or 12 months from an anchor day, edges at 00:00 UTC, half-open. A time zone
// is only for showing times; it never moves an edge. Longer periods begin in January, or every third month from it on.

export interface Cycle {
  /** 1…31, clamped to the month's last day. */
  anchorDay: number
  intervalMonths: number
}

export interface BillingPeriod {
  /** The month it starts in, `2026-11`: its name in addresses and commands. */
  key: string
  label: string
  from: string
  to: string
}

const calendarMonth: Cycle = { anchorDay: 1, intervalMonths: 1 }

/** The calendar month named, or the one that runs now. */
export function monthPeriod(key: string, nowMs: number): BillingPeriod {
  return periodOf(calendarMonth, key, nowMs)
}

/** The period that starts in the month named; for a month in which none starts, the one that runs now. */
export function periodOf(cycle: Cycle, key: string, nowMs: number): BillingPeriod {
  const match = /^(\d{4})-(0[1-9]|1[0-2])$/.exec(key)
  const named = match ? Number(match[1]) * 12 + Number(match[2]) - 1 : null
  return named !== null && aligned(cycle, named) === named ? periodFrom(cycle, named) : runningPeriod(cycle, nowMs)
}

export function runningPeriod(cycle: Cycle, nowMs: number): BillingPeriod {
  return periodFrom(cycle, runningMonth(cycle, nowMs))
}

/** The running period and the ones before it, newest first. */
export function recentPeriods(cycle: Cycle, count: number, nowMs: number): BillingPeriod[] {
  const newest = runningMonth(cycle, nowMs)
  return Array.from({ length: count }, (_, back) => periodFrom(cycle, newest - back * cycle.intervalMonths))
}

/** Months of which one may want to close what starts in them, newest first; the running one comes first. */
export function recentMonths(count: number, nowMs: number): BillingPeriod[] {
  return recentPeriods(calendarMonth, count, nowMs)
}

/** How much of a period is over, 0…1. */
export function elapsedShare({ from, to }: Pick<BillingPeriod, 'from' | 'to'>, nowMs: number): number {
  const [start, end] = [Date.parse(from), Date.parse(to)]
  return end > start ? Math.min(1, Math.max(0, (nowMs - start) / (end - start))) : 0
}

export function periodLabel({ from, to }: Pick<BillingPeriod, 'from' | 'to'>): string {
  const [start, end] = [new Date(from), new Date(to)]
  const months = end.getUTCFullYear() * 12 + end.getUTCMonth() - start.getUTCFullYear() * 12 - start.getUTCMonth()
  const isWhole = start.getUTCDate() === 1 && end.getUTCDate() === 1 && start.getUTCHours() + end.getUTCHours() === 0
  if (isWhole && months === 1) return formatMonth(start.getTime(), 'UTC')
  const lastMs = end.getTime() - 1
  return `${formatDay(start.getTime(), 'UTC')} – ${formatDay(lastMs, 'UTC')} ${new Date(lastMs).getUTCFullYear()}`
}

/** Months since year 0 of the month in which the period of an instant starts. */
function runningMonth(cycle: Cycle, nowMs: number): number {
  const now = new Date(nowMs)
  const month = now.getUTCFullYear() * 12 + now.getUTCMonth()
  return aligned(cycle, nowMs < edgeMs(cycle, month) ? month - 1 : month)
}

function periodFrom(cycle: Cycle, month: number): BillingPeriod {
  const from = new Date(edgeMs(cycle, month)).toISOString()
  const to = new Date(edgeMs(cycle, month + cycle.intervalMonths)).toISOString()
  const key = `${Math.floor(month / 12)}-${String((month % 12) + 1).padStart(2, '0')}`
  return { key, label: periodLabel({ from, to }), from, to }
}

function aligned({ intervalMonths }: Cycle, month: number): number {
  return month - (month % intervalMonths)
}

function edgeMs({ anchorDay }: Cycle, month: number): number {
  const [year, of] = [Math.floor(month / 12), month % 12]
  return Date.UTC(year, of, Math.min(anchorDay, new Date(Date.UTC(year, of + 1, 0)).getUTCDate()))
}
