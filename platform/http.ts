// Fastify with our manners: bounded input, request ids, problem details, health, metrics, graceful close.

import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerFactory,
} from 'fastify'
import { Counter, Histogram, type Registry } from 'prom-client'
import type { Health } from './http/health.ts'
import { holderOf } from './http/port-holder.ts'
import type { Base } from './lifecycle.ts'
import type { Tracing } from './telemetry.ts'

export { createHealth, type Health, type HealthCheck, type HealthReport } from './http/health.ts'

/** A refusal with a stable reason; becomes application/problem+json, or a guide's own shape on its routes. */
export class Problem extends Error {
  readonly status: number
  /** Upper snake case; has a heading in docs/errors.md, clients switch on it. */
  readonly reason: string
  readonly title: string
  readonly headers: Readonly<Record<string, string>>
  /** Members beside the standard ones. */
  readonly extra: Readonly<Record<string, unknown>>

  constructor(o: {
    status: number
    reason: string
    /** What happened, which field and value, what to do. Shown to the caller. */
    detail: string
    title?: string
    headers?: Record<string, string>
    extra?: Record<string, unknown>
    cause?: unknown
  }) {
    super(o.detail, { cause: o.cause })
    this.name = 'Problem'
    this.status = o.status
    this.reason = o.reason
    this.title = o.title ?? titles[o.status] ?? 'Error'
    this.headers = o.headers ?? {}
    this.extra = o.extra ?? {}
  }
}

const titles: Readonly<Record<number, string>> = {
  400: 'Bad request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not found',
  405: 'Method not allowed',
  409: 'Conflict',
  413: 'Content too large',
  415: 'Unsupported media type',
  422: 'Unprocessable content',
  429: 'Too many requests',
  431: 'Header fields too large',
  500: 'Internal error',
  501: 'Not implemented',
  502: 'Bad gateway',
  503: 'Service unavailable',
  504: 'Gateway timeout',
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Long-lived answers (event streams) register how to end them, so that a close does not wait for their readers. */
    openStreams: Set<() => void>
  }
}

export interface HttpOptions {
  service: string
  base: Base
  health: Health
  /** Largest decoded body. */
  bodyBytesMax?: number
  /** Whether a request may see /health/detailed; throws a Problem when not. Loopback only unless given. */
  authorizeDetailed?: (request: FastifyRequest) => void | Promise<void>
  /** Routes the service registers itself because its guide gives them a shape of their own. */
  ownRoutes?: readonly ('/health' | '/health/ready' | '/health/live')[]
  trustedProxies?: readonly string[]
  serverFactory?: FastifyServerFactory
  tracing?: Tracing
  /** Writes an error in the shape of a guide's route; returns false to leave it to problem details. */
  formatError?: (problem: Problem, request: FastifyRequest, reply: FastifyReply) => boolean
}

const headerBytesMax = 16 * 1024
const headersTimeoutMs = 30_000
/** A whole request, body included, unless the service sets its own bound on the socket. */
const requestTimeoutMs = 120_000

export function createHttp(o: HttpOptions): FastifyInstance {
  const app = Fastify({
    bodyLimit: o.bodyBytesMax ?? 1024 * 1024,
    logger: false,
    genReqId: requestId,
    trustProxy: o.trustedProxies === undefined || o.trustedProxies.length === 0 ? 'loopback' : [...o.trustedProxies],
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 512 },
    return503OnClosing: true,
    forceCloseConnections: 'idle',
    serverFactory:
      o.serverFactory ??
      (handler =>
        createServer(
          { maxHeaderSize: headerBytesMax, headersTimeout: headersTimeoutMs, requestTimeout: requestTimeoutMs },
          handler,
        )),
  })
  app.decorate('openStreams', new Set<() => void>())
  countRequests(app, o)
  answerErrors(app, o)
  answerHealth(app, o)
  app.get('/metrics', async (_, reply) => reply.type(o.base.registry.contentType).send(await o.base.registry.metrics()))
  return app
}

function requestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID()
}

function countRequests(app: FastifyInstance, { service, base, tracing }: HttpOptions) {
  const prefix = service.replaceAll('-', '_')
  const requests = new Counter({
    name: `${prefix}_http_requests_total`,
    help: 'HTTP requests answered.',
    labelNames: ['route', 'method', 'status'],
    registers: [base.registry],
  })
  const seconds = new Histogram({
    name: `${prefix}_http_request_duration_seconds`,
    help: 'From the first header byte to the last byte of the answer.',
    labelNames: ['route'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers: [base.registry],
  })
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id)
    if (!tracing) return
    const traceparent = request.headers.traceparent
    const span = tracing.serverSpan(
      `${request.method} ${routeOf(request)}`,
      typeof traceparent === 'string' ? traceparent : undefined,
      {
        'http.request.method': request.method,
        'http.route': routeOf(request),
      },
    )
    reply.raw.once('close', () => span.end(reply.statusCode))
  })
  app.addHook('onResponse', async (request, reply) => {
    requests.labels(routeOf(request), methodLabel(request.method), String(reply.statusCode)).inc()
    seconds.labels(routeOf(request)).observe(reply.elapsedTime / 1_000)
  })
}

/** The route's pattern, never the path: labels must not grow with what callers send. */
function routeOf(request: FastifyRequest): string {
  return request.routeOptions.url ?? 'unknown'
}

function methodLabel(method: string): string {
  return ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].includes(method) ? method : 'other'
}

function answerErrors(app: FastifyInstance, o: HttpOptions) {
  const send = (problem: Problem, request: FastifyRequest, reply: FastifyReply) => {
    reply.code(problem.status).headers(problem.headers)
    if (o.formatError?.(problem, request, reply)) return
    const body = {
      type: `docs/errors.md#${problem.reason.toLowerCase()}`,
      title: problem.title,
      status: problem.status,
      detail: problem.message,
      reason: problem.reason,
      requestId: request.id,
      ...problem.extra,
    }
    // Bytes: Fastify would add a charset to JSON, which has none, and some clients compare the whole type.
    reply.type('application/problem+json').send(Buffer.from(JSON.stringify(body)))
  }
  app.setNotFoundHandler((request, reply) =>
    send(
      new Problem({
        status: 404,
        reason: 'NOT_FOUND',
        detail: `${request.method} ${pathOf(request)} is not a route of ${o.service}.`,
      }),
      request,
      reply,
    ),
  )
  app.setErrorHandler((error, request, reply) => {
    const problem = toProblem(error, o)
    if (problem.status >= 500 && !(error instanceof Problem))
      o.base.log.error({ err: error, requestId: request.id, route: routeOf(request) }, 'BUG: request failed')
    if (reply.raw.headersSent) return void reply.raw.destroy()
    send(problem, request, reply)
  })
}

function pathOf(request: FastifyRequest): string {
  return (request.url.split('?')[0] ?? '').slice(0, 200)
}

function toProblem(error: unknown, o: HttpOptions): Problem {
  if (error instanceof Problem) return error
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
  const status =
    typeof error === 'object' && error !== null && 'statusCode' in error && typeof error.statusCode === 'number'
      ? error.statusCode
      : 500
  const bodyBytesMax = o.bodyBytesMax ?? 1024 * 1024
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new Problem({
        status: 413,
        reason: 'BODY_TOO_LARGE',
        detail: `The body is larger than ${bodyBytesMax} bytes; send less at once.`,
      })
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new Problem({
        status: 415,
        reason: 'UNSUPPORTED_MEDIA_TYPE',
        detail: 'This Content-Type is not taken here; send application/json.',
      })
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new Problem({ status: 400, reason: 'INVALID_JSON', detail: 'The body is empty; send JSON.' })
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
      return new Problem({ status: 400, reason: 'INVALID_JSON', detail: 'The body is not valid JSON.' })
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new Problem({
        status: 400,
        reason: 'INVALID_CONTENT_LENGTH',
        detail: 'The body is not as long as Content-Length says.',
      })
  }
  if (status >= 400 && status < 500)
    return new Problem({
      status,
      reason: 'BAD_REQUEST',
      detail: error instanceof Error ? error.message : 'bad request',
    })
  // What broke is for the log; the caller gets the request id to quote.
  return new Problem({
    status: 500,
    reason: 'INTERNAL',
    detail: 'Something failed on our side; the log line with this request id says what.',
    cause: error,
  })
}

function answerHealth(app: FastifyInstance, o: HttpOptions) {
  const owns = (route: '/health' | '/health/ready' | '/health/live') => o.ownRoutes?.includes(route) ?? false
  if (!owns('/health'))
    app.get('/health', async (_, reply) => {
      const { status } = await o.health.report()
      reply.code(status === 'down' ? 503 : 200)
      return { status, service: o.service, version: o.base.version }
    })
  if (!owns('/health/live')) app.get('/health/live', async () => ({ status: 'alive' }))
  if (!owns('/health/ready'))
    app.get('/health/ready', async (_, reply) => {
      const isReady = await o.health.isReady()
      reply.code(isReady ? 200 : 503)
      return { status: isReady ? 'ready' : 'not_ready' }
    })
  app.get('/health/detailed', async request => {
    if (o.authorizeDetailed) await o.authorizeDetailed(request)
    else if (!isLoopback(request.ip))
      throw new Problem({ status: 403, reason: 'FORBIDDEN', detail: 'Details are shown on loopback only.' })
    const { status, dependencies } = await o.health.report()
    return { status, version: o.base.version, dependencies }
  })
}

export function isLoopback(address: string): boolean {
  return /^(127\.|::1$|::ffff:127\.)/.test(address)
}

/**
 * Binds and returns the base URL (the real port when `port` is 0). A port in use is an Error that names the port, the
 * process that holds it when we may see it, and `variable`, the setting that moves us.
 */
export async function listen(
  app: FastifyInstance,
  o: { host: string; port: number; variable?: string },
): Promise<string> {
  await app.ready()
  try {
    await app.listen({ host: o.host, port: o.port })
  } catch (error) {
    throw await explainListenError(error, o)
  }
  const address = app.server.address()
  return urlOf(o.host, address !== null && typeof address === 'object' ? address.port : o.port)
}

export async function explainListenError(
  error: unknown,
  o: { host: string; port: number; variable?: string },
): Promise<unknown> {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  const move = o.variable === undefined ? 'Use another port' : `Set ${o.variable} to another port`
  if (code === 'EADDRINUSE') {
    const holder = await holderOf(o.port)
    return new Error(
      `port ${o.port} on ${o.host} is in use${holder ? ` by ${holder}` : ''}. ${move}, or stop what holds it.`,
      { cause: error },
    )
  }
  if (code === 'EACCES')
    return new Error(`port ${o.port} needs privileges this process does not have. ${move} (1024 or above).`, {
      cause: error,
    })
  if (code === 'EADDRNOTAVAIL') return new Error(`${o.host} is not an address of this machine.`, { cause: error })
  return error
}

function urlOf(host: string, port: number): string {
  const name = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host
  return `http://${name}:${port}`
}

/** Stops accepting, ends event streams, lets requests finish for `drainMs`, then cuts what is left. */
export async function closeHttp(app: FastifyInstance, { drainMs }: { drainMs: number }): Promise<void> {
  for (const end of app.openStreams) end()
  const cut = setTimeout(() => app.server.closeAllConnections?.(), drainMs)
  try {
    await app.close()
  } finally {
    clearTimeout(cut)
  }
}

/** The small second port of some guides: metrics (unless switched off: null) and health, nothing else. */
export async function serveOnly(
  registry: Registry | null,
  health: Health,
  o: {
    host: string
    port: number
    variable?: string
    service: string
    version: string
    healthBody?: () => Promise<{ status: number; body: unknown }>
  },
): Promise<{ url: string; close(): Promise<void> }> {
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const path = (request.url ?? '').split('?')[0]
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return void response.writeHead(405, { allow: 'GET, HEAD' }).end()
    const json = (status: number, body: unknown) =>
      void response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' }).end(JSON.stringify(body))
    if (path === '/metrics' && registry)
      return void response.writeHead(200, { 'content-type': registry.contentType }).end(await registry.metrics())
    if (path === '/health/live') return json(200, { status: 'alive' })
    if (path === '/health/ready') {
      const isReady = await health.isReady()
      return json(isReady ? 200 : 503, { status: isReady ? 'ready' : 'not_ready' })
    }
    if (path === '/health') {
      if (o.healthBody) {
        const { status, body } = await o.healthBody()
        return json(status, body)
      }
      const { status } = await health.report()
      return json(status === 'down' ? 503 : 200, { status, service: o.service, version: o.version })
    }
    json(404, { error: 'not found; this port has /metrics and /health' })
  }
  const server = createServer(
    { maxHeaderSize: headerBytesMax, headersTimeout: headersTimeoutMs, requestTimeout: headersTimeoutMs },
    (request, response) => {
      answer(request, response).catch(() => response.destroy())
    },
  )
  await new Promise<void>((resolve, reject) => {
    server.once('error', error => explainListenError(error, o).then(reject))
    server.listen(o.port, o.host, resolve)
  })
  return {
    url: urlOf(o.host, (server.address() as AddressInfo).port),
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
