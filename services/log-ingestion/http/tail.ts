// GET /api/v1/logs/tail: `log`, `gap` and `heartbeat` for as long as the reader stays, as server-sent events or over
// WebSocket. Last-Event-ID (or ?last_event_id=, where headers cannot be set) goes on behind that entry.

import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'
import { tooManyTails } from '../errors.ts'
import type { TailFormat, TailItem, TailSink } from '../pipeline/tail-hub.ts'
import { formatMoment } from '../rfc3339.ts'
import { authorize } from './caller.ts'
import type { QueryContext } from './context.ts'
import { parametersOf, queryOf } from './parameters.ts'
import { openWebSocket, wantsWebSocket } from './web-socket.ts'

export function addTail(app: FastifyInstance, context: QueryContext): void {
  // HEAD would wait for ever.
  app.get('/api/v1/logs/tail', { exposeHeadRoute: false }, (request, reply) => {
    const { caller, tenant } = authorize(context.access, request, 'logs:read')
    const parameters = parametersOf(request)
    const query = queryOf(parameters)
    const after = lastSeen(request, parameters.last_event_id)
    const subscribe = (format: TailFormat, sink: TailSink) =>
      context.hub.subscribe({ tenant, key: caller.key, query, format, sink, ...(after ? { after } : {}) })
    return streamTail(app, request, reply, { sse: sseFormat, socket: socketFormat, subscribe })
  })
}

/** Answers with a stream in one of two formats; ends the subscription when the reader goes or the server does. */
export async function streamTail(
  app: FastifyInstance,
  request: FastifyRequest,
  reply: FastifyReply,
  o: {
    sse: TailFormat
    socket: TailFormat
    subscribe: (format: TailFormat, sink: TailSink) => (() => void) | undefined
  },
): Promise<void> {
  if (wantsWebSocket(request.raw)) {
    const buffered = bufferingSink()
    const unsubscribe = o.subscribe(o.socket, buffered.sink)
    if (!unsubscribe) throw tooManyTails()
    reply.hijack()
    const socket = await openWebSocket(request.raw)
    if (!socket) return unsubscribe()
    const end = () => socket.close(1001, 'the server stops')
    app.openStreams.add(end)
    socket.once('close', () => {
      unsubscribe()
      app.openStreams.delete(end)
    })
    buffered.flowInto(socketSink(socket))
    return
  }
  const response = reply.raw
  const buffered = bufferingSink()
  const unsubscribe = o.subscribe(o.sse, buffered.sink)
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
  buffered.flowInto(responseSink(response))
}

/** Longer than any id of ours. */
const lastSeenMax = 4_096

function lastSeen(request: FastifyRequest, parameter: string | undefined): string | undefined {
  const header = request.headers['last-event-id']
  const id = typeof header === 'string' && header !== '' ? header : parameter
  return id === undefined || id === '' ? undefined : id.slice(0, lastSeenMax)
}

/** Holds the first words until the answer's head is out: a refusal must still be possible until then. */
function bufferingSink(): { sink: TailSink; flowInto(target: TailSink): void } {
  const early: string[] = []
  let target: TailSink | undefined
  const ready = Promise.withResolvers<void>()
  return {
    sink: {
      bufferedBytes: () => target?.bufferedBytes() ?? early.reduce((sum, text) => sum + text.length, 0),
      write: text => (target ? target.write(text) : void early.push(text)),
      async drained() {
        await ready.promise
        await target?.drained()
      },
    },
    flowInto(sink) {
      for (const text of early.splice(0)) sink.write(text)
      target = sink
      ready.resolve()
    },
  }
}

function responseSink(response: ServerResponse): TailSink {
  return {
    bufferedBytes: () => response.writableLength,
    write: text => {
      if (!response.writableEnded) response.write(text)
    },
    drained: () =>
      new Promise(resolve => {
        if (!response.writableNeedDrain || response.destroyed) return resolve()
        response.once('drain', resolve)
        response.once('close', resolve)
      }),
  }
}

function socketSink(socket: WebSocket): TailSink {
  let last: Promise<void> = Promise.resolve()
  return {
    bufferedBytes: () => socket.bufferedAmount,
    write: text => {
      if (text === '' || socket.readyState !== socket.OPEN) return
      const { promise, resolve } = Promise.withResolvers<void>()
      last = promise
      // An error ends the socket, and its `close` the subscription.
      socket.send(text, () => resolve())
    },
    drained: () => last,
  }
}

const sseFormat: TailFormat = {
  entry: (item, id) => `id: ${id}\nevent: log\ndata: ${dataOf(item)}\n\n`,
  gap: dropped => `event: gap\ndata: {"dropped":${dropped}}\n\n`,
  heartbeat: () => 'event: heartbeat\ndata: {}\n\n',
}

const socketFormat: TailFormat = {
  entry: (item, id) => `{"event":"log","id":"${id}","data":${dataOf(item)}}`,
  gap: dropped => `{"event":"gap","data":{"dropped":${dropped}}}`,
  heartbeat: () => '{"event":"heartbeat","data":{}}',
}

function dataOf(item: TailItem): string {
  const { seconds, nanos, service, level, message, metadata } = item
  const fixed = JSON.stringify({ timestamp: formatMoment(seconds, nanos), service, level, message })
  // Line feeds outside strings are white space to JSON and the end of a line to SSE.
  return `${fixed.slice(0, -1)},"metadata":${metadata === null ? 'null' : metadata.replaceAll(/[\r\n]+/g, ' ')}}`
}
