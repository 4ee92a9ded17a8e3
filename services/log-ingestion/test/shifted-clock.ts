import { type Clock, systemClock } from '#platform/time'

/** The system's clock, and ahead of it by what a test adds: timers run, and hours need not be waited for. */
export function shiftedClock(): Clock & { advance(ms: number): void } {
  let aheadMs = 0
  return {
    now: () => systemClock.now() + aheadMs,
    monotonicMs: () => systemClock.monotonicMs() + aheadMs,
    advance(ms) {
      aheadMs += ms
    },
  }
}
