// A refused quota, in the words of the contract.

export type QuotaType =
  | 'concurrent_builds'
  | 'queued_builds'
  | 'daily_builds'
  | 'storage'
  | 'compute'
  | 'build_time'
  | 'memory'
  | 'cpu'
  | 'disk'
  | 'network'

export interface Violation {
  quotaType: QuotaType
  current: bigint
  limit: bigint
  /** When the quota starts over; absent for quotas that only shrink when something is removed. */
  resetAtMs?: number
}

export class QuotaExceeded extends Error {
  readonly violation: Violation

  constructor(violation: Violation) {
    super(violationMessage(violation))
    this.name = 'QuotaExceeded'
    this.violation = violation
  }
}

/** `daily_builds quota exceeded: 5/5, resets 2025-01-16T00:00:00Z` */
export function violationMessage({ quotaType, current, limit, resetAtMs }: Violation): string {
  const reset = resetAtMs === undefined ? '' : `, resets ${new Date(resetAtMs).toISOString().replace('.000Z', 'Z')}`
  return `${quotaType} quota exceeded: ${current}/${limit}${reset}`
}

/** Days are UTC days. */
export function dayOf(nowMs: number): string {
  return new Date(nowMs).toISOString().slice(0, 10)
}

export function nextDayMs(nowMs: number): number {
  return (Math.floor(nowMs / 86_400_000) + 1) * 86_400_000
}
