// GET …BuilderService/GetBuildLogs/{id}: the guide's curl, and everything that reads a log without an RPC client.

import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { BuildLogLine } from '../api.ts'
import { requireBuild } from '../rpc/builds.ts'
import type { Context } from '../rpc/context.ts'
import { followLog, readCursor } from '../rpc/stream-logs.ts'
import type { StoredLine } from '../store/logs.ts'
import { asHttp, identifyHttp } from './refusals.ts'

type Form = 'text' | 'json' | 'ndjson' | 'sse'

const contentTypes: Readonly<Record<Form, string>> = {
  text: 'text/plain; charset=utf-8',
  json: 'application/json; charset=utf-8',
  ndjson: 'application/x-ndjson; charset=utf-8',
  sse: 'text/event-stream; charset=utf-8',
}

export function addBuildLogs(app: FastifyInstance, c: Context) {
  app.get<{ Params: { id: string }; Querystring: { follow?: string; after?: string } }>(
    '/builder.v1.BuilderService/GetBuildLogs/:id',
    async (request, reply) => {
      const caller = identifyHttp(c, request, 'builds:read', { tenantOptional: true })
      // Without a tenant only an operator may look, and then at any build.
      const tenantId = caller.isOperator ? caller.tenantId : (caller.tenantId ?? '')
      const { id } = request.params
      await asHttp(requireBuild(c, id, tenantId))
      const form = formOf(request)
      const follow = request.query.follow === 'true' && form !== 'json'
      const after = readCursor(
        request.query.after ?? headerOf(request, 'last-event-id') ?? headerOf(request, 'x-log-after'),
      )

      const response = reply.raw
      const gone = new AbortController()
      response.once('close', () => gone.abort())
      reply.hijack()
      response.writeHead(200, {
        'content-type': contentTypes[form],
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
        'x-request-id': request.id,
      })
      const end = () => {
        gone.abort()
        response.end()
      }
      app.openStreams.add(end)
      try {
        await write(response, form, followLog(c, id, { after, follow, signal: gone.signal }), gone.signal)
        response.end()
      } catch (error) {
        // Headers are out: all that is left is to cut the answer short, so that nobody takes it for whole.
        if (!gone.signal.aborted)
          c.log.warn({ err: error, requestId: request.id }, 'a log could not be read to its end')
        response.destroy()
      } finally {
        app.openStreams.delete(end)
      }
    },
  )
}

async function write(response: ServerResponse, form: Form, lines: AsyncIterable<StoredLine>, signal: AbortSignal) {
  if (form === 'json') {
    const list: BuildLogLine[] = []
    for await (const line of lines) list.push(toJson(line))
    response.write(JSON.stringify({ logs: list }))
    return
  }
  if (form === 'sse') response.write(': connected\nretry: 2000\n\n')
  for await (const line of lines) if (!response.write(encode(line, form))) await once(response, 'drain', { signal })
}

function encode(line: StoredLine, form: Exclude<Form, 'json'>): string {
  switch (form) {
    case 'text':
      // One line each, whatever the message holds.
      return `${timestampOf(line)} ${line.level.toUpperCase()} ${line.component} ${line.message.replace(/\r?\n/g, '\\n')}\n`
    case 'ndjson':
      return `${JSON.stringify(toJson(line))}\n`
    case 'sse':
      return `id: ${line.seq}\nevent: log\ndata: ${JSON.stringify(toJson(line))}\n\n`
    default:
      return form satisfies never
  }
}

function toJson(line: StoredLine): BuildLogLine {
  return {
    timestamp: timestampOf(line),
    level: line.level,
    component: line.component,
    message: line.message,
    cursor: String(line.seq),
  }
}

function timestampOf({ atMs }: StoredLine): string {
  return new Date(atMs).toISOString()
}

function formOf(request: FastifyRequest): Form {
  const accept = request.headers.accept ?? ''
  if (accept.includes('text/event-stream')) return 'sse'
  if (accept.includes('application/x-ndjson')) return 'ndjson'
  return accept.includes('application/json') ? 'json' : 'text'
}

function headerOf(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name]
  return typeof value === 'string' ? value : undefined
}
