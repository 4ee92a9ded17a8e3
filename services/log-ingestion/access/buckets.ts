// Token buckets on a monotonic clock: capacity `burst`, `rps` tokens a second, starting full.

import type { Clock } from '#platform/time'

export interface Verdict {
  allowed: boolean
  /** Whole tokens left after this request. */
  remaining: number
  /** Whole seconds, rounded up, until the bucket is full again. */
  resetS: number
  /** Whole seconds ≥ 1 until this request could pass; 0 when it did. */
  retryAfterS: number
}

/** Of this process alone, or of all replicas together (shared-buckets.ts). */
export interface RequestBuckets {
  take(key: string): Verdict | Promise<Verdict>
  /** For whoever cannot wait. */
  takeNow(key: string): Verdict
  readonly rps: number
  /** From now on; what was spent stays spent. */
  configure(limits: { rps: number; burst: number }): void
}

export interface Buckets extends RequestBuckets {
  take(key: string): Verdict
  /** Whole seconds until `take` would allow it; 0: now. */
  waitS(key: string): number
  /** How many keys are remembered. */
  readonly size: number
}

export interface BucketOptions {
  rps: number
  burst: number
  clock: Clock
  /** Beyond it the buckets that were used longest ago are forgotten. */
  keysMax?: number
}

interface Bucket {
  tokens: number
  atMs: number
}

const sweepEveryTakes = 1_024

export function createBuckets({ clock, keysMax = 100_000, ...limits }: BucketOptions): Buckets {
  let { rps, burst } = limits
  // In order of last use, so that the least recently used is first.
  const buckets = new Map<string, Bucket>()
  let takes = 0

  /** A bucket idle until full is as good as none. */
  const sweep = (nowMs: number) => {
    for (const [key, bucket] of buckets)
      if (bucket.tokens + ((nowMs - bucket.atMs) / 1_000) * rps >= burst) buckets.delete(key)
  }

  const take = (key: string): Verdict => {
    const nowMs = clock.monotonicMs()
    if (++takes % sweepEveryTakes === 0) sweep(nowMs)
    const found = buckets.get(key)
    const bucket = found ?? { tokens: burst, atMs: nowMs }
    bucket.tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) / 1_000) * rps)
    bucket.atMs = nowMs
    if (found) buckets.delete(key)
    buckets.set(key, bucket)
    for (const oldest of buckets.keys()) {
      if (buckets.size <= keysMax) break
      buckets.delete(oldest)
    }
    // A token that is complete but for rounding is a token: 0.1 + 0.2 must not cost a millisecond.
    const allowed = bucket.tokens >= 1 - 1e-9
    if (allowed) bucket.tokens = Math.max(0, bucket.tokens - 1)
    return {
      allowed,
      remaining: Math.floor(bucket.tokens + 1e-9),
      resetS: Math.ceil((burst - bucket.tokens) / rps - 1e-9),
      retryAfterS: allowed ? 0 : Math.max(1, Math.ceil((1 - bucket.tokens) / rps - 1e-9)),
    }
  }

  return {
    take,
    takeNow: take,
    waitS(key) {
      const bucket = buckets.get(key)
      if (!bucket) return 0
      const tokens = Math.min(burst, bucket.tokens + ((clock.monotonicMs() - bucket.atMs) / 1_000) * rps)
      return tokens >= 1 - 1e-9 ? 0 : Math.max(1, Math.ceil((1 - tokens) / rps - 1e-9))
    },
    get rps() {
      return rps
    },
    configure(next) {
      rps = next.rps
      burst = next.burst
    },
    get size() {
      return buckets.size
    },
  }
}
