// The central half of the promise, as arithmetic on two rows: an account and one process's slice of it.
//
// Everything that changes those rows in the database goes through these functions, under a lock on the account's row,
// and each keeps `settled + granted` where it was or below the limit. What they do not keep is named: a settlement that
// its slice does not cover.

import { least, most, notNegative } from './amount.ts'

/** `granted` is the sum of what open slices may still consume. */
export interface AccountRow {
  limit: bigint
  settled: bigint
  granted: bigint
}

export interface SliceRow {
  granted: bigint
  consumed: bigint
}

export interface GrantRequest {
  /** The smallest shortfall of the calls that wait; below that a grant helps nobody. */
  least: bigint
  /** What all waiting calls lack together. */
  wanted: bigint
  /** What the process would like to have in hand, so that the next calls need not ask. */
  target: bigint
}

/**
 * How much of an account a process gets. All that its waiting calls lack if it is there; beyond that at most a quarter
 * of what remains, so that one process never empties a budget others are spending from. Nothing when even the smallest
 * call would not fit: the rest stays for a process that can use it.
 */
export function grantOf(account: AccountRow, request: GrantRequest): bigint {
  const remaining = notNegative(account.limit - account.settled - account.granted)
  if (remaining < request.least) return 0n
  return least(remaining, most(request.wanted, least(request.target, remaining >> 2n)))
}

/** What of a returned amount the slice really has; an owner never returns what it holds. */
export function returnOf(slice: SliceRow, amount: bigint): bigint {
  return least(amount, slice.granted - slice.consumed)
}

/**
 * A settlement reaches the books. What the slice covers moves from granted to settled, so their sum stays. The rest can
 * only be an overrun, or the late word of an owner whose slice was closed: it is booked in full, never hidden.
 */
export function settleInto(
  account: AccountRow,
  slice: SliceRow | null,
  o: { amount: bigint; overrun: bigint },
): { settled: bigint; granted: bigint; consumed: bigint; overspend: bigint } {
  const consumed = slice === null ? 0n : least(o.amount, slice.granted - slice.consumed)
  const settled = account.settled + o.amount
  return {
    settled,
    granted: account.granted - consumed,
    consumed,
    overspend: least(o.overrun, notNegative(settled - account.limit)),
  }
}
