// A clock epoch is a stretch of one boot in which wall time and monotonic time kept their distance. Frames store
// monotonic time; the epoch turns it into a timestamp. So a clock that is set right later needs one row changed.

import type { Clock } from '#platform/time'

export interface Epoch {
  id: number
  bootId: string
  /** timestamp = monotonic + offset, Unix milliseconds. */
  offsetMs: number
  /** Whether its timestamps are believed; others stay here. */
  isTrusted: boolean
}

/** Further apart than this is a step. A clock that is merely disciplined slews far less between two ticks. */
export const stepMsMin = 500

/** Whether the tick at (`wallMs`, `monoMs`) belongs to a new epoch. */
export function startsEpoch(
  current: Pick<Epoch, 'bootId' | 'offsetMs'> | undefined,
  bootId: string,
  wallMs: number,
  monoMs: number,
): boolean {
  if (!current || current.bootId !== bootId) return true
  return Math.abs(wallMs - monoMs - current.offsetMs) > stepMsMin
}

/** Monotonic time counts from boot here, so that a restarted process continues the epoch of the one before it. */
export const bootClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => Number(process.hrtime.bigint() / 1_000n) / 1_000,
}
