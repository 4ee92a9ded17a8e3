import type { FastifyInstance } from 'fastify'
import { countEventsBySubject } from '../store/events.ts'
import { callerOf } from './authorize.ts'
import type { ReadContext } from './context.ts'

/** `GET /api/v1/debug/metrics` of the OpenMeter API: events since midnight UTC by subject, as Prometheus text. */
export function debugRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/api/v1/debug/metrics', async (request, reply) => {
    const midnightMs = Math.floor(o.clock.now() / 86_400_000) * 86_400_000
    const rows = await countEventsBySubject(o.sql, { from: new Date(midnightMs), only: callerOf(request).tenant })
    const lines = rows.map(
      ({ subject, hasError, count }) =>
        `openmeter_events_total{subject="${escapeLabel(subject)}",error="${hasError}"} ${count}`,
    )
    const head = [
      '# HELP openmeter_events_total Events stored since midnight UTC, by subject; error: kept without being metered.',
      '# TYPE openmeter_events_total counter',
    ]
    return reply.type('text/plain; charset=utf-8').send([...head, ...lines, ''].join('\n'))
  })
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
