import type { FastifyInstance } from 'fastify'
import type { Health as Checks } from '#platform/http'
import { type Clock, formatDuration } from '#platform/time'
import type { Health, Stats } from '../api.ts'

/** `/health` and `/stats` in the guide's shapes. */
export function healthRoutes(
  app: FastifyInstance,
  o: { healthBody: () => Promise<{ status: number; body: Health }>; checks: Checks; stats: () => Stats },
) {
  app.get('/health', async (_, reply) => {
    const { status, body } = await o.healthBody()
    return reply.code(status).send(body)
  })
  app.get('/ready', async (_, reply) => {
    const isReady = await o.checks.isReady()
    return reply.code(isReady ? 200 : 503).send({ status: isReady ? 'ready' : 'not_ready' })
  })
  app.get('/stats', async () => o.stats())
}

export function createHealthBody(o: { checks: Checks; clock: Clock; version: string }) {
  const startedMs = o.clock.monotonicMs()
  return async (): Promise<{ status: number; body: Health }> => {
    const { status, dependencies } = await o.checks.report()
    const isUseless = status === 'down'
    return {
      status: isUseless ? 503 : 200,
      body: {
        status: isUseless ? 'unhealthy' : status === 'ok' ? 'ok' : 'degraded',
        service: 'billaged',
        version: o.version,
        uptime_seconds: Math.round((o.clock.monotonicMs() - startedMs) / 100) / 10,
        checks: Object.fromEntries(
          Object.entries(dependencies).map(([name, { status: state, detail }]) => [
            name,
            { status: state, ...(detail === undefined ? {} : { detail }) },
          ]),
        ),
      },
    }
  }
}

export function statsOf(o: { activeVms: number; aggregationIntervalMs: number; journalBytes: number }): Stats {
  return {
    active_vms: o.activeVms,
    aggregation_interval: formatDuration(o.aggregationIntervalMs),
    journal_bytes: o.journalBytes,
  }
}
