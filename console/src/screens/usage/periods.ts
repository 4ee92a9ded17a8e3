import { formatMonth } from '../../units/time.ts'

// Billing periods here are calendar months in UTC, half-open, as billaged closes them.

export interface UsagePeriod {
  /** `2026-11` */
  key: string
  label: string
  from: string
  to: string
}

export function periodOf(key: string, nowMs: number): UsagePeriod {
  const match = /^(\d{4})-(0[1-9]|1[0-2])$/.exec(key)
  const now = new Date(nowMs)
  const [year, month] = match ? [Number(match[1]), Number(match[2]) - 1] : [now.getUTCFullYear(), now.getUTCMonth()]
  const from = Date.UTC(year, month, 1)
  return {
    key: new Date(from).toISOString().slice(0, 7),
    label: formatMonth(from, 'UTC'),
    from: new Date(from).toISOString(),
    to: new Date(Date.UTC(year, month + 1, 1)).toISOString(),
  }
}

/** The running month and the ones before it, newest first. */
export function recentPeriods(count: number, nowMs: number): UsagePeriod[] {
  const now = new Date(nowMs)
  return Array.from({ length: count }, (_, back) => {
    const first = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1))
    return periodOf(first.toISOString().slice(0, 7), nowMs)
  })
}
