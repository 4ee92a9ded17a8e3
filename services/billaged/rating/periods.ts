import type { Hours } from './rate.ts'

// Billing periods: 1, 3 or 12 months from an anchor day, edges at 00:00 UTC. A customer's time zone labels times for
// people and never moves an edge. Longer periods begin in January, or every third month from January on.

export interface BillingCycle {
  /** 1…31, clamped to the month's last day. */
  anchorDay: number
  intervalMonths: number
}

/** The period that holds an instant. */
export function periodAt(cycle: BillingCycle, atMs: number): Hours {
  const day = Temporal.Instant.fromEpochMilliseconds(atMs).toZonedDateTimeISO('UTC')
  const month = day.year * 12 + day.month - 1
  return periodFrom(cycle, aligned(cycle, atMs < edgeMs(cycle, month) ? month - 1 : month))
}

/** The period that starts in a month written YYYY-MM; null when none of this cycle does. */
export function periodStartingIn(cycle: BillingCycle, month: string): Hours | null {
  const { year, month: number } = Temporal.PlainYearMonth.from(month)
  const index = year * 12 + number - 1
  return aligned(cycle, index) === index ? periodFrom(cycle, index) : null
}

export function nextPeriod(cycle: BillingCycle, period: Hours): Hours {
  return periodAt(cycle, period.to * hourMs)
}

/** YYYY-MM of the month a period starts in: its name in commands and lists. */
export function monthOf(period: Hours): string {
  return new Date(period.from * hourMs).toISOString().slice(0, 7)
}

export const hourMs = 3_600_000

function periodFrom(cycle: BillingCycle, month: number): Hours {
  return { from: edgeMs(cycle, month) / hourMs, to: edgeMs(cycle, month + cycle.intervalMonths) / hourMs }
}

function aligned({ intervalMonths }: BillingCycle, month: number): number {
  return month - (month % intervalMonths)
}

function edgeMs({ anchorDay }: BillingCycle, month: number): number {
  const first = Temporal.PlainYearMonth.from({ year: Math.floor(month / 12), month: (month % 12) + 1 })
  const day = first.toPlainDate({ day: Math.min(anchorDay, first.daysInMonth) })
  return day.toZonedDateTime('UTC').epochMilliseconds
}
