import type { Clock } from '#platform/time'

/** Samples a second per customer: a bucket of one second's worth. A request passes while the bucket is not empty and may
 *  overdraw it, so that a batch larger than a second's worth is slow and not impossible. */
export interface RateLimiter {
  /** 0 when the samples may pass (and are counted), else the seconds to wait. */
  take(customerId: string, samples: number): number
  /** Samples a second from now on; 0: no limit. */
  set(perSecond: number): void
}

/** Customers in debt that are remembered; the oldest is forgiven when there are more. */
const customersMax = 100_000

export function createRateLimiter(clock: Clock, initial: number): RateLimiter {
  let perSecond = initial
  const buckets = new Map<string, { tokens: number; atMs: number }>()
  return {
    set(next) {
      perSecond = next
      buckets.clear()
    },
    take(customerId, samples) {
      if (perSecond === 0) return 0
      const nowMs = clock.monotonicMs()
      const bucket = buckets.get(customerId) ?? { tokens: perSecond, atMs: nowMs }
      const tokens = Math.min(perSecond, bucket.tokens + ((nowMs - bucket.atMs) / 1_000) * perSecond)
      if (tokens <= 0) return Math.max(1, Math.ceil((1 - tokens) / perSecond))
      buckets.delete(customerId)
      buckets.set(customerId, { tokens: tokens - samples, atMs: nowMs })
      const [oldest] = buckets.size > customersMax ? buckets.keys() : []
      if (oldest !== undefined) buckets.delete(oldest)
      return 0
    },
  }
}
