// GET /api/v1/openapi.json, from one table of the read routes. A test compares the table with the routes that exist, asks
// every one of them with its example, and holds the parameters to what the routes take. Routes of other files are in the
// document by method and path, as they were registered: it is never short of one.

import type { FastifyInstance } from 'fastify'

export interface RouteDoc {
  methods: readonly ('get' | 'post')[]
  path: string
  summary: string
  scope: 'logs:read' | 'logs:write'
  parameters: readonly ParameterName[]
  /** A query string that works. */
  example: string
  answer: keyof typeof schemas | 'ndjson' | 'events'
}

const both = ['get', 'post'] as const

export const readRoutes: readonly RouteDoc[] = [
  {
    methods: both,
    path: '/api/v1/logs/search',
    summary: 'Entries that match, in order of time, page by page.',
    scope: 'logs:read',
    parameters: ['q', 'from', 'to', 'limit', 'cursor', 'order', 'fields', 'timeout', 'tenant'],
    example: 'q=level>=warn service:api-*&from=-15m&limit=10&order=asc&fields=timestamp,message&timeout=5s',
    answer: 'Search',
  },
  {
    methods: both,
    path: '/api/v1/logs/histogram',
    summary: 'How many match, per stretch of time; buckets begin at UTC multiples of the interval.',
    scope: 'logs:read',
    parameters: ['q', 'from', 'to', 'interval', 'by', 'timeout', 'tenant'],
    example: 'q=timeout&from=-1h&to=now&interval=5m&by=level',
    answer: 'Histogram',
  },
  {
    methods: both,
    path: '/api/v1/logs/fields',
    summary: 'Names of fields in the newest matches, with their types and the share of entries that have them.',
    scope: 'logs:read',
    parameters: ['q', 'from', 'to', 'timeout', 'tenant'],
    example: 'q=service:api-*&from=-1h',
    answer: 'Fields',
  },
  {
    methods: both,
    path: '/api/v1/logs/fields/{name}/values',
    summary: 'Values of one field, the most frequent first.',
    scope: 'logs:read',
    parameters: ['name', 'q', 'from', 'to', 'prefix', 'limit', 'timeout', 'tenant'],
    example: 'from=-1h&prefix=GET&limit=20',
    answer: 'FieldValues',
  },
  {
    methods: ['get'],
    path: '/api/v1/logs/{id}',
    summary: 'One entry.',
    scope: 'logs:read',
    parameters: ['id', 'tenant'],
    example: '',
    answer: 'Entry',
  },
  {
    methods: ['get'],
    path: '/api/v1/logs/{id}/context',
    summary: 'What the same service said just before and after an entry.',
    scope: 'logs:read',
    parameters: ['id', 'before', 'after', 'timeout', 'tenant'],
    example: 'before=5&after=5',
    answer: 'Context',
  },
  {
    methods: ['get'],
    path: '/api/v1/logs/tail',
    summary: 'Matches as they are accepted: server-sent events log, gap and heartbeat, or the same over WebSocket.',
    scope: 'logs:read',
    parameters: ['q', 'last_event_id', 'tenant'],
    example: 'q=level>=error',
    answer: 'events',
  },
  {
    methods: both,
    path: '/api/v1/logs/export',
    summary: 'Every match as NDJSON or CSV; the trailer X-Export-Rows says how many, and its absence that it was cut.',
    scope: 'logs:read',
    parameters: ['q', 'from', 'to', 'order', 'format', 'fields', 'tenant'],
    example: 'from=-1h&format=csv&order=asc&fields=timestamp,level,message',
    answer: 'ndjson',
  },
  {
    methods: both,
    path: '/api/v1/logs/patterns',
    summary: 'Messages grouped into templates, with counts, first seen, and which are new since the day before.',
    scope: 'logs:read',
    parameters: ['q', 'from', 'to', 'limit', 'timeout', 'tenant'],
    example: 'q=level>=warn&from=-1h&limit=20',
    answer: 'Patterns',
  },
  {
    methods: ['get'],
    path: '/api/v1/receipts/{id}',
    summary: 'What became of the entries of one acknowledged request.',
    scope: 'logs:write',
    parameters: ['id'],
    example: '',
    answer: 'Receipt',
  },
]

type ParameterName = keyof typeof parameters

const inPath = new Set(['id', 'name'])

const parameters = {
  q: ['The query: words, "phrases", /regex/, field:value, level>=warn, AND OR NOT.', 'level>=warn service:api-*'],
  from: ['Inclusive: RFC 3339, or relative to now. Default: an hour before `to`.', '-15m'],
  to: ['Exclusive. Default: now.', 'now'],
  limit: ['Most items in the answer.', '100'],
  cursor: ['From the page before; belongs to one query.', ''],
  order: ['desc (newest first) or asc.', 'desc'],
  fields: ['Members of entries, separated by commas.', 'timestamp,message'],
  timeout: ['Longest the query may take, at most 60s. Default 10s.', '5s'],
  interval: ['Width of a bucket. Default: about sixty buckets.', '5m'],
  by: ['Counts also per level or per service.', 'level'],
  prefix: ['Only values that begin with it.', 'GET'],
  before: ['Entries before, at most 500.', '20'],
  after: ['Entries after, at most 500.', '20'],
  format: ['ndjson or csv.', 'csv'],
  last_event_id: ['Go on behind this entry; as the header Last-Event-ID.', ''],
  tenant: ['Slug of another tenant; without scope tenants:any it changes nothing.', ''],
  id: ['As in the entry, or as in X-Receipt.', '1234'],
  name: ['Of a field; paths into objects are dotted.', 'http.status'],
} as const satisfies Record<string, readonly [string, string]>

const text = { type: 'string' }
const flag = { type: 'boolean' }
const decimal = { type: 'string', pattern: '^\\d+$', description: 'a whole number; may exceed 2^53' }
const time = { type: 'string', format: 'date-time' }
const listOf = (items: object) => ({ type: 'array', items })
const object = (properties: Record<string, object>) => ({
  type: 'object',
  required: Object.keys(properties),
  properties,
})
const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` })

export const schemas = {
  Entry: object({
    id: decimal,
    timestamp: time,
    service: text,
    level: text,
    message: text,
    metadata: { type: ['object', 'null'] },
    created_at: time,
  }),
  Search: object({
    // With `fields`, entries have those members only.
    logs: listOf({ type: 'object', properties: {} }),
    cursor: { type: ['string', 'null'] },
    partial: flag,
    stats: object({
      scanned_rows: { type: 'integer' },
      scanned_blocks: { type: 'integer' },
      skipped_blocks: { type: 'integer' },
      took_ms: { type: 'integer' },
    }),
    watermark: time,
  }),
  Histogram: object({
    interval: text,
    buckets: listOf({ ...object({ time, count: decimal }), additionalProperties: true }),
    partial: flag,
  }),
  Fields: object({
    fields: listOf(object({ name: text, types: listOf(text), count: decimal, share: { type: 'number' } })),
    complete: flag,
  }),
  FieldValues: object({ values: listOf(object({ value: text, count: decimal })), complete: flag }),
  Context: object({ before: listOf(ref('Entry')), entry: ref('Entry'), after: listOf(ref('Entry')), partial: flag }),
  Patterns: object({
    patterns: listOf(
      object({
        template: text,
        count: decimal,
        first_seen: time,
        last_seen: time,
        new_since_yesterday: { type: ['boolean', 'null'] },
        services: listOf(text),
        levels: listOf(text),
        sample: text,
      }),
    ),
    matches: decimal,
    complete: flag,
  }),
  Receipt: object({
    id: text,
    received_at: time,
    accepted: { type: 'integer' },
    pending: { type: 'integer' },
    stored: { type: 'integer' },
    quarantined: { type: 'integer' },
    duplicates: { type: 'integer' },
    state: text,
  }),
  Problem: object({
    type: text,
    title: text,
    status: { type: 'integer' },
    detail: text,
    reason: text,
    requestId: text,
    error: text,
  }),
} as const

interface Registered {
  method: string
  path: string
}

/** Before all other routes: it hears of those that follow. */
export function addOpenApi(app: FastifyInstance, version: string): void {
  const registered: Registered[] = []
  app.addHook('onRoute', ({ method, url }) => {
    if (!/^\/(api|admin|auth)\//.test(url)) return
    for (const one of [method].flat())
      if (one !== 'HEAD') registered.push({ method: one.toLowerCase(), path: url.replaceAll(/:(\w+)/g, '{$1}') })
  })
  let document: string | undefined
  app.get('/api/v1/openapi.json', async (_, reply) => {
    document ??= JSON.stringify(openApi(version, registered))
    return reply.type('application/json; charset=utf-8').send(document)
  })
}

/** Intake does not pass through the framework; these are its native routes. */
const intakeRoutes: readonly (Registered & { summary: string })[] = [
  {
    method: 'post',
    path: '/api/v1/logs',
    summary: 'One entry: {"log":{timestamp, service, level, message, metadata?}}.',
  },
  { method: 'post', path: '/api/v1/logs/batch', summary: 'Many entries: {"logs":[…]}.' },
  { method: 'post', path: '/api/v1/logs/ndjson', summary: 'Lines of JSON or text.' },
]

function pathsOf(registered: readonly Registered[]): Record<string, Record<string, object>> {
  const paths: Record<string, Record<string, object>> = {}
  const add = (path: string, method: string, described: object) => {
    paths[path] = { [method]: described, ...paths[path] }
  }
  for (const route of readRoutes) for (const method of route.methods) add(route.path, method, operation(route, method))
  for (const { method, path, summary } of intakeRoutes) add(path, method, plainOperation(path, summary))
  for (const { method, path } of registered) add(path, method, plainOperation(path, `${method.toUpperCase()} ${path}`))
  return paths
}

/** What is known of a route without a description of its own. */
function plainOperation(path: string, summary: string): object {
  return {
    summary,
    parameters: [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
      name,
      in: 'path',
      required: true,
      schema: text,
    })),
    responses: { default: { description: 'see the README' } },
  }
}

function openApi(version: string, registered: readonly Registered[]): object {
  return {
    openapi: '3.1.0',
    info: { title: 'log-ingestion', version },
    security: [{ key: [] }, { bearer: [] }],
    paths: pathsOf(registered),
    components: {
      securitySchemes: {
        key: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
        bearer: { type: 'http', scheme: 'bearer' },
      },
      schemas,
    },
  }
}

function operation(route: RouteDoc, method: 'get' | 'post'): object {
  const examples = new URLSearchParams(route.example)
  const names = route.parameters.filter(name => method === 'get' || inPath.has(name) || name === 'tenant')
  const body = route.parameters.filter(name => !names.includes(name))
  return {
    summary: route.summary,
    description: `Needs scope ${route.scope}.`,
    parameters: names.map(name => ({
      name,
      in: inPath.has(name) ? 'path' : 'query',
      required: inPath.has(name),
      description: parameters[name][0],
      schema: text,
      ...(parameters[name][1] === '' ? {} : { example: examples.get(name) ?? parameters[name][1] }),
    })),
    ...(method === 'post'
      ? {
          requestBody: {
            content: {
              'application/json': {
                schema: {
                  type: 'object',
                  properties: Object.fromEntries(
                    body.map(name => [name, { type: 'string', description: parameters[name][0] }]),
                  ),
                },
                example: Object.fromEntries(examples),
              },
            },
          },
        }
      : {}),
    responses: {
      200: { description: 'the answer', content: contentOf(route.answer) },
      '4XX': {
        description: 'what is wrong with the request, and how to mend it',
        content: { 'application/problem+json': { schema: ref('Problem') } },
      },
    },
  }
}

function contentOf(answer: RouteDoc['answer']): object {
  if (answer === 'ndjson') return { 'application/x-ndjson': { schema: text }, 'text/csv': { schema: text } }
  if (answer === 'events') return { 'text/event-stream': { schema: text } }
  return { 'application/json': { schema: ref(answer) } }
}
