// GET /api/v1/logs/tail: server-sent events `log`, `gap` and `heartbeat`, for as long as the reader stays.

import type { FastifyInstance } from 'fastify'
import { badParameter, tooManyTails } from '../errors.ts'
import { authorize } from './caller.ts'
import type { QueryContext } from './context.ts'
import { parametersOf, queryOf } from './parameters.ts'

export function addTail(app: FastifyInstance, context: QueryContext): void {
  app.get('/api/v1/logs/tail', (request, reply) => {
    const { caller, tenant } = authorize(context.access, request, 'logs:read')
    if (request.headers['last-event-id'] !== undefined && request.headers['last-event-id'] !== '')
      context.log.debug('a tail asked to resume; it begins at the present')
    const query = queryOf(parametersOf(request))
    if (request.headers.upgrade !== undefined)
      throw badParameter('Upgrade', 'WebSocket is not there yet; read server-sent events')
    const response = reply.raw
    const unsubscribe = context.hub.subscribe({
      tenant,
      key: caller.key,
      query,
      sink: { bufferedBytes: () => response.writableLength, write: text => void response.write(text) },
    })
    if (!unsubscribe) throw tooManyTails()

    reply.hijack()
    const end = () => response.end()
    app.openStreams.add(end)
    response.once('close', () => {
      unsubscribe()
      app.openStreams.delete(end)
    })
    response.writeHead(200, {
      'Content-Type': 'text/event-stream; charset=utf-8',
      'Cache-Control': 'no-store',
      // Proxies that buffer would make a live tail anything but.
      'X-Accel-Buffering': 'no',
      'X-Request-Id': request.id,
    })
    // Something must go out, or the reader does not learn that it is connected.
    response.write(': connected\nretry: 2000\n\n')
  })
}
