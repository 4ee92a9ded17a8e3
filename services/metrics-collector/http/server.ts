// The health port: one small HTTP server, because the usual stack would cost this process a quarter of its memory.

import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { holderOf } from '#platform/http/port-holder'
import type { Logger } from '#platform/telemetry'
import type { LossRow, QuerySuccess, StatusResponse } from '../api.ts'
import type { ListenAddress } from '../config-keys.ts'
import { QueryError, StartError } from '../errors.ts'
import { type AccessOptions, requireAccess } from './access.ts'
import { getDetailed, getHealth, getLive, getMetrics, getReady, type HealthContext } from './health.ts'
import { type LiveContext, openLive } from './live.ts'
import {
  getBuildInfo,
  getLabels,
  getLabelValues,
  getMetadata,
  getQuery,
  getQueryRange,
  getSeries,
  type QueryContext,
} from './query.ts'
import { type Exchange, HttpError, readForm, sendError, sendJson } from './reply.ts'

export interface ServerContext extends HealthContext, QueryContext {
  access: AccessOptions
  live: LiveContext
  /** Origins whose pages may read the API; `*` for all. */
  allowOrigins: readonly string[]
  status(): StatusResponse
  losses(sinceMs: number): LossRow[]
  log: Logger
}

interface Route {
  methods: readonly ('GET' | 'POST')[]
  path: RegExp
  /** Whether strangers need a token. */
  isOpen: boolean
  answer(exchange: Exchange, parameter: string): void | Promise<void>
}

const connectionsMax = 64
const headersTimeoutMs = 30_000
/** How long a stop waits for answers under way. */
const drainMs = 3_000

/** @throws StartError when the port cannot be had */
export async function serveHttp(listen: ListenAddress, context: ServerContext) {
  const live = openLive(context.live)
  const routes: readonly Route[] = [
    get('/health', true, exchange => getHealth(exchange, context)),
    get('/health/live', true, getLive),
    get('/health/ready', true, exchange => getReady(exchange, context)),
    get('/health/detailed', false, exchange => getDetailed(exchange, context, context.status().version)),
    get('/metrics', true, exchange => getMetrics(exchange, context)),
    getOrPost('/api/v1/query', exchange => getQuery(exchange, context)),
    getOrPost('/api/v1/query_range', exchange => getQueryRange(exchange, context)),
    getOrPost('/api/v1/series', exchange => getSeries(exchange, context)),
    getOrPost('/api/v1/labels', exchange => getLabels(exchange, context)),
    get('/api/v1/label/([^/]+)/values', false, (exchange, label) => getLabelValues(exchange, context, label)),
    get('/api/v1/metadata', false, exchange => getMetadata(exchange, context)),
    get('/api/v1/status/buildinfo', false, exchange => getBuildInfo(exchange, context)),
    get('/api/v1/status', false, ({ res }) => sendJson(res, 200, context.status())),
    get('/api/v1/losses', false, ({ res, params }) => {
      const sinceS = Number(params.get('since') ?? '0')
      if (!Number.isFinite(sinceS)) throw new QueryError('bad_data', 'since must be Unix seconds')
      const body: QuerySuccess<LossRow[]> = { status: 'success', data: context.losses(sinceS * 1_000) }
      sendJson(res, 200, body)
    }),
    get('/api/v1/live', false, exchange => live.serve(exchange)),
  ]

  const server = createServer({ headersTimeout: headersTimeoutMs, requestTimeout: headersTimeoutMs }, (req, res) => {
    const id = requestId(req)
    res.setHeader('X-Request-Id', id)
    // Answers are written to sockets that may be gone; that is the peer's business.
    res.on('error', () => {})
    void answer(routes, req, res, context, id)
  })
  server.maxConnections = connectionsMax
  const url = await bind(server, listen)
  return {
    url,
    async close(): Promise<void> {
      live.close()
      const closed = new Promise<void>(resolve => server.close(() => resolve()))
      server.closeIdleConnections()
      const timer = setTimeout(() => server.closeAllConnections(), drainMs)
      await closed
      clearTimeout(timer)
    },
  }
}

function get(path: string, isOpen: boolean, answer: Route['answer']): Route {
  return { methods: ['GET'], path: new RegExp(`^${path}$`), isOpen, answer }
}

function getOrPost(path: string, answer: Route['answer']): Route {
  return { methods: ['GET', 'POST'], path: new RegExp(`^${path}$`), isOpen: false, answer }
}

async function answer(
  routes: readonly Route[],
  req: IncomingMessage,
  res: ServerResponse,
  context: ServerContext,
  id: string,
): Promise<void> {
  const isApi = req.url?.startsWith('/api/') ?? false
  try {
    const url = parseUrl(req)
    if (isApi && allowOrigin(req, res, context.allowOrigins) && req.method === 'OPTIONS') {
      res.writeHead(204, {
        'Access-Control-Allow-Methods': 'GET, POST',
        'Access-Control-Allow-Headers': 'Authorization',
      })
      res.end()
      return
    }
    const route = routes.find(candidate => candidate.path.test(url.pathname))
    if (!route) throw new HttpError(404, 'not-found', `there is nothing at ${url.pathname}`)
    const method = req.method === 'HEAD' ? 'GET' : req.method
    if (!route.methods.some(known => known === method))
      throw new HttpError(405, 'method-not-allowed', `${url.pathname} answers ${route.methods.join(' and ')}`, {
        Allow: ['HEAD', ...route.methods].join(', '),
      })
    if (!route.isOpen) requireAccess(req, context.access)
    const params = new URLSearchParams(url.searchParams)
    if (method === 'POST') for (const [name, value] of await readForm(req)) params.append(name, value)
    await route.answer({ req, res, url, params }, decode(route.path.exec(url.pathname)?.[1] ?? ''))
  } catch (error) {
    if (error instanceof HttpError || error instanceof QueryError) {
      sendError(res, error, isApi, id)
      return
    }
    context.log.error({ err: error, requestId: id }, 'BUG: request failed')
    sendError(res, new HttpError(500, 'internal', 'this request met a bug; the log has the reason'), isApi, id)
  }
}

function parseUrl(req: IncomingMessage): URL {
  const url = URL.parse(req.url ?? '/', 'http://localhost')
  if (!url) throw new HttpError(400, 'bad-request', 'the request target is not a URL')
  return url
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw new HttpError(400, 'bad-request', `${part} is not percent-encoded text`)
  }
}

function allowOrigin(req: IncomingMessage, res: ServerResponse, allowed: readonly string[]): boolean {
  const { origin } = req.headers
  if (origin === undefined || !(allowed.includes(origin) || allowed.includes('*'))) return false
  res.setHeader('Access-Control-Allow-Origin', origin)
  res.setHeader('Vary', 'Origin')
  return true
}

function requestId(req: IncomingMessage): string {
  const given = req.headers['x-request-id']
  return typeof given === 'string' && /^[\w.:-]{1,64}$/.test(given) ? given : randomUUID()
}

async function bind(server: ReturnType<typeof createServer>, { host, port }: ListenAddress): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  // No host: every interface, IPv6 and IPv4.
  server.listen({ port, ...(host === '' ? {} : { host }) }, resolve)
  try {
    await promise
  } catch (error) {
    throw await explain(error, host, port)
  }
  server.off('error', reject)
  const address = server.address()
  const bound = typeof address === 'object' && address !== null ? address.port : port
  const shown = host === '' || host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host
  return `http://${shown.includes(':') ? `[${shown}]` : shown}:${bound}`
}

async function explain(error: unknown, host: string, port: number): Promise<unknown> {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  const mend = 'Set health.listen_addr (METRICS_COLLECTOR_HEALTH__LISTEN_ADDR) to another one.'
  if (code === 'EADDRINUSE') {
    const holder = await holderOf(port)
    const guess = port === 9100 && holder === undefined ? '; node_exporter uses the same port' : ''
    return new StartError(`port ${port} is in use${holder === undefined ? guess : ` by ${holder}`}. ${mend}`)
  }
  if (code === 'EACCES' || code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return new StartError(`cannot listen on ${host}:${port} (${code}). ${mend}`)
  return error
}
