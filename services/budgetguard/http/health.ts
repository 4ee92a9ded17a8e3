// GET /health in the guide's shape, and readiness.

import type { FastifyInstance } from 'fastify'
import type { Health } from '#platform/http'
import type { Provider } from '../providers/provider.ts'

export interface Liveness {
  isDatabaseUp(): boolean
  /** How long it has been away. */
  databaseDownMs(): number
  isJournalFull(): boolean
  isDraining(): boolean
  hasUsableSlices(): boolean
}

/** A blip shorter than this does not take a replica out of its balancer. */
const databaseGraceMs = 5_000

export function registerHealth(
  app: FastifyInstance,
  o: {
    health: Health
    liveness: Liveness
    providers: ReadonlyMap<string, Provider>
    readyDb: 'strict' | 'lease'
    version: string
  },
): void {
  const { liveness } = o
  app.get('/health', async () => {
    const external = [...o.providers.values()].filter(provider => provider.name !== 'echo')
    const configured = external.filter(provider => provider.unconfigured(null) === null).length
    const database = liveness.isDatabaseUp()
    return {
      ok: database,
      status: database ? 'ok' : 'degraded',
      // Redis is not used: "true when not configured". Providers are what recent traffic says; nothing is known against one.
      dependencies: { database, redis: true, providers: { configured, healthy: configured } },
      version: o.version,
    }
  })
  app.get('/health/ready', async (_, reply) => {
    const isReady = ready(liveness, o.readyDb)
    reply.code(isReady ? 200 : 503)
    return { status: isReady ? 'ready' : 'not_ready' }
  })
}

function ready(liveness: Liveness, readyDb: 'strict' | 'lease'): boolean {
  if (liveness.isDraining() || liveness.isJournalFull()) return false
  if (liveness.databaseDownMs() < databaseGraceMs) return true
  return readyDb === 'lease' && liveness.hasUsableSlices()
}
