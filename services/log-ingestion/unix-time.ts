// Unix times as people send them: seconds, milliseconds, microseconds or nanoseconds, told apart by magnitude.

import type { Moment } from './rfc3339.ts'

/** Exact, so no double on the way. False when `text` is no such time. */
export function readUnix(text: string, out: Moment): boolean {
  const match = /^(\d{1,19})(?:\.(\d{1,9})\d*)?$/.exec(text)
  if (!match) return false
  const [, whole = '', fraction = ''] = match
  const nanosPerUnit = nanosPerUnitOf(whole.replace(/^0+/, '').length)
  const nanos = BigInt(whole) * nanosPerUnit + (BigInt(fraction.padEnd(9, '0')) * nanosPerUnit) / 1_000_000_000n
  setNanos(nanos, out)
  return true
}

/** Up to the year 5138 in seconds; from 1973 in each finer unit. */
function nanosPerUnitOf(digits: number): bigint {
  if (digits <= 11) return 1_000_000_000n
  if (digits <= 14) return 1_000_000n
  if (digits <= 17) return 1_000n
  return 1n
}

export function setNanos(unixNanos: bigint, out: Moment): void {
  const rest = unixNanos % 1_000_000_000n
  out.nanos = Number(rest < 0n ? rest + 1_000_000_000n : rest)
  out.seconds = Number((unixNanos - BigInt(out.nanos)) / 1_000_000_000n)
}
