// Token buckets by name, in thousandths of a token on whole milliseconds of the monotonic clock: integers, so that nothing
// is lost to rounding. Here they are this process's own; leases.ts shares them with other replicas.

import type { Clock } from '#platform/time'

export interface TokenLimit {
  id: string
  /** Tokens a second. */
  rate: number
  /** Tokens. */
  capacity: number
}

export interface Taken {
  allowed: boolean
  /** Thousandths that are left, as far as known here. */
  milli: number
  /** What it was held to: less than asked for while replicas cannot share. */
  rate: number
  capacity: number
}

export interface Tokens {
  /** Takes `costMilli` when at least `needMilli` are there. */
  take(limit: TokenLimit, needMilli: number, costMilli: number): Taken | Promise<Taken>
  /** The same without waiting for anybody: what cannot be known now is taken on credit. */
  takeNow(limit: TokenLimit, needMilli: number, costMilli: number): Taken
  /** After the fact: the balance may go below zero. */
  charge(limit: TokenLimit, milli: number): void
}

const idsMax = 100_000

export function createTokens({ clock }: { clock: Clock }): Tokens {
  const balances = createLru<{ milli: number; atMs: number }>(idsMax)

  const balance = ({ id, rate, capacity }: TokenLimit) => {
    const nowMs = Math.floor(clock.monotonicMs())
    const full = capacity * 1_000
    const found = balances.get(id, () => ({ milli: full, atMs: nowMs }))
    found.milli = Math.min(full, found.milli + (nowMs - found.atMs) * rate)
    found.atMs = nowMs
    return found
  }
  const takeNow: Tokens['takeNow'] = (limit, needMilli, costMilli) => {
    const found = balance(limit)
    const allowed = found.milli >= needMilli
    if (allowed) found.milli -= costMilli
    return { allowed, milli: found.milli, rate: limit.rate, capacity: limit.capacity }
  }
  return {
    take: takeNow,
    takeNow,
    charge(limit, milli) {
      balance(limit).milli -= milli
    },
  }
}

/** Whole seconds ≥ 1 until `needMilli` are there. */
export function waitS({ milli, rate }: Taken, needMilli: number): number {
  return Math.max(1, Math.ceil((needMilli - milli) / rate / 1_000 - 1e-9))
}

/** At most `max` values: the one used longest ago is the likeliest to be full, which is as good as forgotten. */
export function createLru<V>(max: number): { get(id: string, make: () => V): V } {
  const values = new Map<string, V>()
  return {
    get(id, make) {
      const value = values.get(id) ?? make()
      values.delete(id)
      values.set(id, value)
      for (const oldest of values.keys()) {
        if (values.size <= max) break
        values.delete(oldest)
      }
      return value
    },
  }
}
