// GET /health in the guide's shape: 200 while useful, `degraded` included; 503 only before and after that.

import type { FastifyInstance } from 'fastify'
import type { Health } from '#platform/http'
import type { Clock } from '#platform/time'

export interface HealthContext {
  health: Health
  clock: Clock
  version: string
  startedMonotonicMs: number
  auth: () => 'open' | 'required'
  capabilities: Readonly<Record<string, unknown>>
  /** Answers per second and client address. */
  perSecondMax: number
}

const burst = 10
/** Addresses remembered for the limit; past it the memory starts over, which errs on the caller's side. */
const addressesMax = 10_000

export function addHealth(app: FastifyInstance, c: HealthContext) {
  const take = createBucket(c.clock, c.perSecondMax)
  app.get('/health', async (request, reply) => {
    if (!take(request.ip)) {
      reply.code(429).headers({ 'x-ratelimit-limit': String(c.perSecondMax), 'retry-after': '1' })
      return { error: 'rate limit exceeded', status: 429 }
    }
    const { status, body } = await healthBody(c)
    reply.code(status)
    return body
  })
}

export async function healthBody(c: HealthContext): Promise<{ status: number; body: unknown }> {
  const { status, dependencies } = await c.health.report()
  const isUp = status !== 'draining'
  return {
    status: isUp ? 200 : 503,
    body: {
      // A database that is away leaves pulled images, logs and this answer: degraded, not down.
      status: status === 'down' ? 'degraded' : status,
      service: 'builderd',
      version: c.version,
      uptime_seconds: Math.round((c.clock.monotonicMs() - c.startedMonotonicMs) / 100) / 10,
      auth: c.auth(),
      checks: dependencies,
      capabilities: c.capabilities,
    },
  }
}

function createBucket(clock: Clock, perSecond: number): (address: string) => boolean {
  const buckets = new Map<string, { tokens: number; atMs: number }>()
  const size = Math.max(burst, perSecond)
  return address => {
    const nowMs = clock.monotonicMs()
    if (buckets.size >= addressesMax) buckets.clear()
    const bucket = buckets.get(address) ?? { tokens: size, atMs: nowMs }
    bucket.tokens = Math.min(size, bucket.tokens + ((nowMs - bucket.atMs) / 1_000) * perSecond)
    bucket.atMs = nowMs
    buckets.set(address, bucket)
    if (bucket.tokens < 1) return false
    bucket.tokens--
    return true
  }
}
