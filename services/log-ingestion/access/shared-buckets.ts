// The request buckets of all replicas together, in the words of buckets.ts.

import type { RequestBuckets, Verdict } from './buckets.ts'
import { type Taken, type Tokens, waitS } from './tokens.ts'

const one = 1_000

/** `kind` tells buckets of the same key apart. */
export function createSharedBuckets(o: { tokens: Tokens; kind: string; rps: number; burst: number }): RequestBuckets {
  let { rps, burst } = o
  const limitOf = (key: string) => ({ id: `${o.kind}\0${key}`, rate: rps, capacity: burst })
  return {
    take(key) {
      const taken = o.tokens.take(limitOf(key), one, one)
      return taken instanceof Promise ? taken.then(verdictOf) : verdictOf(taken)
    },
    takeNow: key => verdictOf(o.tokens.takeNow(limitOf(key), one, one)),
    get rps() {
      return rps
    },
    configure(next) {
      rps = next.rps
      burst = next.burst
    },
  }
}

function verdictOf(taken: Taken): Verdict {
  const left = Math.max(0, taken.milli)
  return {
    allowed: taken.allowed,
    remaining: Math.floor(left / one),
    resetS: Math.max(0, Math.ceil((taken.capacity * one - taken.milli) / taken.rate / 1_000 - 1e-9)),
    retryAfterS: taken.allowed ? 0 : waitS(taken, one),
  }
}
