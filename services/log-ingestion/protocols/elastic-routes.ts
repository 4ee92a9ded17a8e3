// Which paths are Elasticsearch's, and what its clients ask before they send: versions, licences, templates, policies.
// Templates and the like are accepted and not kept: there is nothing here that they would change.

import { bulk, document, elastic, headersFor } from './elastic.ts'
import type { Answer, IntakeRoute, Target } from './protocol.ts'

const prefixes = ['/insert/elasticsearch', '/elasticsearch']

/** First path segments that are ours and therefore no index. */
const ownSegments = new Set([
  'api',
  'auth',
  'admin',
  'health',
  'metrics',
  'ready',
  'loki',
  'insert',
  'elasticsearch',
  'otlp',
  'v1',
  'assets',
])

export interface ElasticOptions {
  /** Told to clients; they refuse a server too old or too new for them. */
  version: string
  /** Clients that look at it send no more at once. */
  bodyBytesMax: number
}

/** Undefined for what is not Elasticsearch's. */
export function elasticRoute(method: string, path: string, accept: string, o: ElasticOptions): IntakeRoute | undefined {
  const prefix = prefixes.find(prefix => path === prefix || path.startsWith(`${prefix}/`)) ?? ''
  const rest = path.slice(prefix.length)
  const isReading = method === 'GET' || method === 'HEAD'
  if (rest === '' || rest === '/') {
    // A browser at the root wants the console.
    if (!isReading || (prefix === '' && accept.includes('text/html'))) return undefined
    return { ...reply('/', ['GET', 'HEAD'], target => json(target, greeting(o))), isOpen: true }
  }
  const segments = rest.slice(1).split('/')
  const [first = ''] = segments
  if (first.startsWith('_')) return first === '_bulk' && segments.length === 1 ? bulk('/_bulk', '') : handshake(rest, o)
  const index = decoded(first)
  if (index === undefined || (prefix === '' && ownSegments.has(index))) return undefined
  return ofIndex(method, index, segments.slice(1))
}

function ofIndex(method: string, index: string, [operation, id, ...more]: string[]): IntakeRoute | undefined {
  if (operation === undefined) {
    if (method === 'HEAD') return reply('/{index}', ['HEAD'], target => json(target, {}))
    if (method !== 'PUT') return undefined
    return reply('/{index}', ['PUT'], target => json(target, { acknowledged: true, shards_acknowledged: true, index }))
  }
  if (more.length > 0) return undefined
  if (operation === '_bulk' && id === undefined) return bulk('/{index}/_bulk', index)
  const documentId = id === undefined ? undefined : decoded(id)
  if (operation === '_doc' && (id === undefined || documentId !== undefined))
    return document('/{index}/_doc', index, documentId)
  if (operation === '_create' && documentId !== undefined) return document('/{index}/_create', index, documentId)
  return undefined
}

/** Undefined for escapes that are none, and for nothing at all. */
function decoded(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment) || undefined
  } catch {
    return undefined
  }
}

type Asked = [path: RegExp, label: string, body: (target: Target, o: ElasticOptions) => object]

const asked: readonly Asked[] = [
  [/^\/_license$/, '/_license', () => ({ license })],
  [/^\/_xpack$/, '/_xpack', () => ({ build: {}, license, features: {}, tagline: 'You know, for X' })],
  [/^\/_cluster\/health(\/[^/]+)?$/, '/_cluster/health', () => clusterHealth],
  [/^\/_nodes(\/.*)?$/, '/_nodes', nodes],
  [/^\/_cat\/templates(\/[^/]+)?$/, '/_cat/templates', () => []],
]

const license = {
  status: 'active',
  uid: '00000000-0000-0000-0000-000000000000',
  type: 'basic',
  mode: 'basic',
  issue_date: '2026-01-01T00:00:00.000Z',
  issue_date_in_millis: 1_767_225_600_000,
  max_nodes: 1_000,
  issued_to: 'purser',
  issuer: 'elasticsearch',
  start_date_in_millis: -1,
}

const clusterHealth = {
  cluster_name: 'purser',
  status: 'green',
  timed_out: false,
  number_of_nodes: 1,
  number_of_data_nodes: 1,
  active_primary_shards: 1,
  active_shards: 1,
  relocating_shards: 0,
  initializing_shards: 0,
  unassigned_shards: 0,
  delayed_unassigned_shards: 0,
  number_of_pending_tasks: 0,
  number_of_in_flight_fetch: 0,
  task_max_waiting_in_queue_millis: 0,
  active_shards_percent_as_number: 100,
}

/** A client that looks for other nodes finds the one it is talking to. */
function nodes({ headers }: Target, { version, bodyBytesMax }: ElasticOptions): object {
  const http = { publish_address: headers.host ?? '127.0.0.1:8080', max_content_length_in_bytes: bodyBytesMax }
  return {
    _nodes: { total: 1, successful: 1, failed: 0 },
    cluster_name: 'purser',
    nodes: { purser: { name: 'purser', version, build_flavor: 'default', roles: ['data', 'ingest', 'master'], http } },
  }
}

const kept = /^\/(_ilm\/policy|_index_template|_component_template|_template|_ingest|_data_stream|_alias)(\/.*)?$/

function handshake(path: string, o: ElasticOptions): IntakeRoute | undefined {
  for (const [pattern, label, body] of asked)
    if (pattern.test(path)) return reply(label, ['GET', 'HEAD'], target => json(target, body(target, o)))
  const label = kept.exec(path)?.[1]
  if (label === undefined) return undefined
  return reply(`/${label}`, ['GET', 'HEAD', 'PUT', 'POST'], target =>
    json(target, target.method === 'PUT' || target.method === 'POST' ? { acknowledged: true } : {}),
  )
}

function reply(label: string, methods: readonly string[], answer: (target: Target) => Answer): IntakeRoute {
  return { ...elastic(label, methods), reply: answer, decode: undecodable }
}

// biome-ignore lint/correctness/useYield: it never runs
function* undecodable(): Generator<void, never> {
  throw new Error('BUG: a route that only replies has nothing to decode')
}

function json(target: Target, body: object): Answer {
  return { status: 200, body: JSON.stringify(body), headers: headersFor(target) }
}

/** What clients of 7.x check before they trust a server: number, flavour, tagline. */
function greeting({ version }: ElasticOptions): object {
  return {
    name: 'purser',
    cluster_name: 'purser',
    cluster_uuid: 'cHVyc2VyLWxvZ3MtMDAwMQ',
    version: {
      number: version,
      build_flavor: 'default',
      build_type: 'docker',
      build_hash: '0000000000000000000000000000000000000000',
      build_date: '2026-01-01T00:00:00.000000000Z',
      build_snapshot: false,
      lucene_version: '9.12.2',
      minimum_wire_compatibility_version: '7.17.0',
      minimum_index_compatibility_version: '7.0.0',
    },
    tagline: 'You Know, for Search',
  }
}
