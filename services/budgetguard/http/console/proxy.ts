// /console/<service>/*: the console speaks to one origin, and this service speaks to the others on its behalf, with a
// token of 60 s that names the role of the session. Bodies stream both ways; cookies and keys go neither way.

import type { IncomingHttpHeaders } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Agent, type Dispatcher } from 'undici'
import { mintToken } from '#platform/tenancy/token'
import type { Clock } from '#platform/time'
import { Refusal } from '../../errors.ts'
import { type Operators, unauthorized } from '../operator.ts'
import type { ConsoleUpstream } from './upstreams.ts'

const connectTimeoutMs = 3_000
/** Streams send heartbeats more often than this. */
const idleTimeoutMs = 120_000
const bodyBytesMax = 32 * 1024 * 1024

/** What a browser may tell a service; everything else stays here. */
const passedOn = [
  'accept',
  'accept-language',
  'connect-protocol-version',
  'connect-timeout-ms',
  'content-type',
  'if-none-match',
  'last-event-id',
  'x-tenant-id',
]
/** What a service may tell a browser. */
const passedBack = [
  'content-type',
  'content-encoding',
  'cache-control',
  'etag',
  'retry-after',
  'connect-content-encoding',
]

export function registerProxy(
  app: FastifyInstance,
  o: {
    upstreams: readonly ConsoleUpstream[]
    operators: Operators
    secret: Buffer
    clock: Clock
  },
): { close(): Promise<void> } {
  const agent = new Agent({
    connect: { timeout: connectTimeoutMs },
    bodyTimeout: idleTimeoutMs,
    connections: 64,
  })
  app.register(async scope => {
    scope.removeAllContentTypeParsers()
    // The body is not read here: it streams through.
    scope.addContentTypeParser('*', (_, payload, done) => done(null, payload))
    for (const upstream of o.upstreams) {
      scope.route({
        method: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
        url: `${upstream.path}/*`,
        exposeHeadRoute: false,
        onRequest: async request => {
          const isRead = request.method === 'GET' || request.method === 'HEAD' || upstream.decidesByRole
          const need = isRead ? 'read' : 'administer'
          const operator = await o.operators.authorize(request, need)
          // For people at the console. A token for this service must not become a token for another one here.
          if (operator.via !== 'session') throw unauthorized()
          request.operator = operator
        },
        handler: (request, reply) => forward(request, reply, upstream, { ...o, agent }),
      })
    }
  })
  return { close: () => agent.destroy() }
}

async function forward(
  request: FastifyRequest,
  reply: FastifyReply,
  upstream: ConsoleUpstream,
  o: { agent: Agent; secret: Buffer; clock: Clock },
): Promise<unknown> {
  if (upstream.url === undefined)
    throw new Refusal({
      status: 503,
      reason: 'NOT_FOUND',
      message: `${upstream.name} is not configured here; set its PURSER_…_URL`,
    })
  const base = new URL(upstream.url)
  const rest = request.url.slice(upstream.path.length)
  const token = mintToken(o.secret, {
    audience: upstream.audience,
    role: request.operator?.role ?? 'viewer',
    subject: 'console',
    clock: o.clock,
  })
  const gone = new AbortController()
  reply.raw.once('close', () => gone.abort())
  let response: Dispatcher.ResponseData
  try {
    response = await o.agent.request({
      origin: base.origin,
      path: base.pathname.replace(/\/$/, '') + rest,
      method: methodOf(request),
      headers: {
        ...picked(request.headers, passedOn),
        authorization: `Bearer ${token}`,
        'x-request-id': request.id,
        'accept-encoding': 'identity',
      },
      body: hasBody(request) ? Readable.from(bounded(request)) : null,
      signal: gone.signal,
      headersTimeout: upstream.headersTimeoutMs,
    })
  } catch (error) {
    if (error instanceof Refusal) throw error
    if (gone.signal.aborted) return reply.hijack()
    const isLate = error instanceof Error && 'code' in error && error.code === 'UND_ERR_HEADERS_TIMEOUT'
    throw new Refusal({
      status: isLate ? 504 : 502,
      reason: isLate ? 'UPSTREAM_TIMEOUT' : 'UPSTREAM_UNREACHABLE',
      message: `${upstream.name} ${isLate ? `did not answer within ${upstream.headersTimeoutMs} ms` : 'cannot be reached'}`,
      cause: error,
    })
  }
  reply.hijack()
  reply.raw.writeHead(response.statusCode, {
    ...picked(response.headers, passedBack),
    'x-request-id': request.id,
    'x-content-type-options': 'nosniff',
    // An answer of another service is data on this origin, never a page of it.
    'content-security-policy': "sandbox; default-src 'none'",
    'x-accel-buffering': 'no',
  })
  reply.raw.flushHeaders()
  const end = () => void reply.raw.end()
  request.server.openStreams.add(end)
  try {
    await pipeline(response.body, reply.raw)
  } catch {
    // Either side may leave a stream; the other one is told by the pipeline.
  } finally {
    request.server.openStreams.delete(end)
  }
  return reply
}

function methodOf(request: FastifyRequest): Dispatcher.HttpMethod {
  switch (request.method) {
    case 'POST':
    case 'PUT':
    case 'PATCH':
    case 'DELETE':
    case 'HEAD':
      return request.method
    default:
      return 'GET'
  }
}

function hasBody(request: FastifyRequest): boolean {
  return request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0
}

async function* bounded(request: FastifyRequest): AsyncGenerator<Buffer> {
  let bytes = 0
  for await (const chunk of request.raw) {
    bytes += chunk.length
    if (bytes > bodyBytesMax)
      throw new Refusal({
        status: 413,
        reason: 'REQUEST_TOO_LARGE',
        message: `The body is larger than ${bodyBytesMax} bytes`,
      })
    yield chunk
  }
}

function picked(headers: IncomingHttpHeaders, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    names.flatMap(name => {
      const value = headers[name]
      return typeof value === 'string' ? [[name, value]] : []
    }),
  )
}
