// Requests per minute, per tenant, in this process.

import type { FastifyReply } from 'fastify'
import type { Clock } from '#platform/time'
import { rateLimited } from '../errors.ts'
import { type Permit, RateWindow } from '../rate-window.ts'

export interface Rates {
  /** @throws Refusal 429 */
  take(tenantId: number, limit: number | null, reply: FastifyReply): () => void
}

/** 2.4 kB each. */
const windowsMax = 100_000
/** What "unlimited" looks like in a header. */
const unlimited = String(Number.MAX_SAFE_INTEGER)

export function createRates(clock: Clock): Rates {
  const windows = new Map<number, RateWindow>()
  return {
    take(tenantId, limit, reply) {
      const nowMs = clock.monotonicMs()
      const window = windows.get(tenantId) ?? new RateWindow()
      // Most recently used last, so that the first is the one to forget.
      windows.delete(tenantId)
      windows.set(tenantId, window)
      const [oldest] = windows.keys()
      if (windows.size > windowsMax && oldest !== undefined) windows.delete(oldest)

      const permit: Permit | null = window.take(limit, nowMs)
      const isLimited = limit !== null && limit > 0
      const remaining = isLimited ? String(Math.max(0, limit - window.used(nowMs))) : unlimited
      const waitMs = isLimited ? window.waitMs(limit, nowMs) : 0
      reply.headers({
        'x-ratelimit-limit': isLimited ? String(limit) : unlimited,
        'x-ratelimit-remaining': remaining,
        'x-ratelimit-reset': String(Math.ceil(waitMs / 1_000)),
        'x-ratelimit-limit-requests': isLimited ? String(limit) : unlimited,
        'x-ratelimit-remaining-requests': remaining,
      })
      if (permit === null) throw rateLimited(limit ?? 0, Math.max(1, Math.ceil(waitMs / 1_000)))
      return () => window.release(permit, clock.monotonicMs())
    },
  }
}
