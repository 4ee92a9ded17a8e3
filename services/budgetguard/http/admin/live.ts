// GET /admin/live: server-sent events `call`, `budget`, `holds`, `gap`.

import type { FastifyInstance } from 'fastify'
import { Refusal } from '../../errors.ts'
import { listenersMax } from '../../observe/live.ts'
import type { Admin } from './admin.ts'

const flushEveryMs = 200
/** Proxies close what stays silent; browsers notice a dead server. */
const heartbeatEveryMs = 15_000
/** A reader that lets this much pile up is cut; it reconnects. */
const backlogBytesMax = 4 * 1024 * 1024
const streamMsMax = 3_600_000

export function registerLive(scope: FastifyInstance, admin: Admin): void {
  scope.get('/admin/live', (_, reply) => {
    if (admin.live.listeners >= listenersMax)
      throw new Refusal({
        status: 503,
        reason: 'INTERNAL',
        message: `${listenersMax} live streams are open; close one`,
        headers: { 'retry-after': '5' },
      })
    reply.hijack()
    const { raw } = reply
    raw.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    })
    raw.write('retry: 1000\n\n')
    const listener = admin.live.listen()
    const flush = setInterval(() => {
      const text = listener
        .take()
        .map(({ event, data }) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)
        .join('')
      if (text !== '') raw.write(text)
      if (raw.writableLength > backlogBytesMax) end()
    }, flushEveryMs)
    const heartbeat = setInterval(() => raw.write(': heartbeat\n\n'), heartbeatEveryMs)
    // A session may end meanwhile; reconnecting asks again.
    const limit = setTimeout(() => end(), streamMsMax)
    const end = () => {
      clearInterval(flush)
      clearInterval(heartbeat)
      clearTimeout(limit)
      listener.close()
      scope.openStreams.delete(end)
      raw.end()
    }
    scope.openStreams.add(end)
    raw.once('close', end)
  })
}
