// What browsers ask before anything else: may this page call you (CORS), and where is the page for people?
//
// Runs in front of every route, intake included: a page may send logs as well as read them.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { OwnPages } from './own-pages.ts'

export interface BrowserDoor {
  /** Exact origins or `*`; none: no page of another origin may call. */
  origins: () => readonly string[]
  /** Of budgetguard, which serves the console. */
  consoleUrl: string | undefined
  /** The console's log screens, when nobody else serves them. */
  ownPages?: OwnPages | undefined
}

const allowedMethods = 'GET, HEAD, POST, PUT, PATCH, DELETE'
const exposedHeaders =
  'X-Ack, X-Receipt, X-Duplicate, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After, X-Request-Id, X-Export-Rows'
const preflightMaxAgeS = 600

/** First path segments that are ours whatever a browser says it would like to see. */
const own = new Set(
  'api admin auth health metrics ready loki insert v1 otlp elasticsearch _bulk _license _xpack _cluster _nodes _cat _ilm _index_template _component_template _template _ingest _data_stream _alias'.split(
    ' ',
  ),
)

/** True: it was answered here. */
export function createBrowserDoor(door: BrowserDoor): (request: IncomingMessage, response: ServerResponse) => boolean {
  return (request, response) => {
    const { origin } = request.headers
    if (origin !== undefined) {
      const origins = door.origins()
      // A cache must not give one origin's answer to another.
      if (origins.length > 0) response.setHeader('Vary', 'Origin')
      if (origins.includes('*') || origins.includes(origin)) {
        response.setHeader('Access-Control-Allow-Origin', origins.includes('*') ? '*' : origin)
        response.setHeader('Access-Control-Expose-Headers', exposedHeaders)
        if (request.method === 'OPTIONS' && request.headers['access-control-request-method'] !== undefined) {
          const wanted = request.headers['access-control-request-headers']
          response.writeHead(204, {
            'Access-Control-Allow-Methods': allowedMethods,
            ...(wanted === undefined ? {} : { 'Access-Control-Allow-Headers': wanted }),
            'Access-Control-Max-Age': String(preflightMaxAgeS),
          })
          response.end()
          return true
        }
      }
    }
    if (door.ownPages?.(request, response)) return true
    const location = consolePage(door.consoleUrl, door.ownPages !== undefined, request)
    if (location === undefined) return false
    response.writeHead(302, { Location: location, 'Cache-Control': 'no-store', 'Content-Length': '0' })
    response.end()
    return true
  }
}

function consolePage(consoleUrl: string | undefined, hasOwn: boolean, request: IncomingMessage): string | undefined {
  if ((consoleUrl === undefined && !hasOwn) || (request.method !== 'GET' && request.method !== 'HEAD')) return undefined
  if (!/(?:^|[,\s])text\/html(?:[;,\s]|$)/.test(request.headers.accept ?? '')) return undefined
  const [path = '/', search] = (request.url ?? '/').split('?', 2)
  const [, first = '', second] = path.split('/')
  if (own.has(first)) return undefined
  const here = `${screenOf(first, second)}${search === undefined ? '' : `?${search}`}`
  // What is no page here is none.
  if (consoleUrl === undefined) return path.startsWith('/dashboard') || path.startsWith('/assets') ? undefined : here
  const url = new URL(consoleUrl)
  // An address of this very machine means nothing to a browser elsewhere: it came by another name, and so it goes on.
  const host = /^(\[[^\]]+\]|[^:]+)(?::\d+)?$/.exec(request.headers.host ?? '')?.[1]
  if (/^(127\.|localhost$|\[::1\])/.test(url.hostname) && host !== undefined && /^[\w.[\]:-]+$/.test(host))
    url.hostname = host
  url.pathname = `${url.pathname.replace(/\/$/, '')}${screenOf(first, second)}`
  url.search = search ?? ''
  return url.href
}

/** The screens under /dashboard; paths of the guide's own pages lead to what shows the same. */
function screenOf(first: string, second: string | undefined): string {
  if (first === 'dashboard') return second === undefined || second === '' ? '/dashboard' : `/dashboard/${second}`
  if (['patterns', 'intake', 'quarantine', 'alerts', 'data', 'errors'].includes(first))
    return `/dashboard/logs/${first}`
  return first === 'faults' ? '/dashboard/logs/errors' : '/dashboard/logs'
}
