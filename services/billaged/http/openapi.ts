import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { routeScopes } from './authorize.ts'
import { parameters, type RouteDoc, routeDocs } from './route-docs.ts'
import wireSchemas from './wire-schemas.json' with { type: 'json' }

// GET /openapi.json, from the table of routes: it is never short of one. Bodies are the schemas that parse them, answers the
// types that handlers return (test/wire-schemas.ts).

export function openapiRoute(app: FastifyInstance, o: { version: string }) {
  let document: object | undefined
  app.get('/openapi.json', async () => (document ??= openapi(o.version)))
}

function openapi(version: string) {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const [route, scope] of Object.entries(routeScopes)) {
    const [method = '', pattern = ''] = route.split(' ')
    if (pattern.includes('*')) continue
    const path = pattern.replace(/:(\w+)/g, '{$1}')
    const doc = routeDocs[route] ?? { summary: route }
    paths[path] = { ...paths[path], [method.toLowerCase()]: operation(doc, method, pattern, scope) }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'billaged',
      version,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      description:
        'Times are RFC 3339 UTC; money and quantities are decimal strings in base units. Lists take cursor and limit (1000 at most). A POST with an Idempotency-Key is done once.',
    },
    paths,
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer' }, portal: { type: 'http', scheme: 'bearer' } },
      schemas: { ...wireSchemas, ...ownSchemas },
    },
  }
}

/** What is in no type of the wire. */
const ownSchemas = {
  Any: {},
  Text: { type: 'string' },
  State: { type: 'object', required: ['status'], properties: { status: { type: 'string' } } },
  Problem: {
    type: 'object',
    required: ['type', 'title', 'status', 'detail', 'reason', 'requestId'],
    properties: {
      type: { type: 'string' },
      title: { type: 'string' },
      status: { type: 'integer' },
      detail: { type: 'string' },
      reason: { type: 'string', description: 'Stable; see docs/errors.md.' },
      requestId: { type: 'string' },
    },
  },
}

function operation(doc: RouteDoc, method: string, pattern: string, scope: string) {
  const taken = [
    ...[...pattern.matchAll(/:(\w+)/g)].map(([, name]) => ({
      name,
      in: 'path',
      required: true,
      schema: { type: 'string' },
    })),
    ...(doc.query?.split(' ') ?? []).map(queryParameter),
  ]
  return {
    operationId: operationId(method, pattern),
    tags: [pattern.split('/').find(part => part !== '' && !/^(api|v1)$/.test(part)) ?? 'billaged'],
    summary: doc.summary,
    ...(taken.length === 0 ? {} : { parameters: taken }),
    ...(doc.body === undefined ? {} : { requestBody: requestBody(doc.body) }),
    security: scope === 'open' ? [] : [scope === 'portal' ? { portal: [] } : { key: [scope] }],
    responses: {
      [doc.status ?? 200]: { description: doc.status === 204 ? 'Done.' : doc.summary, ...content(doc) },
      default: {
        description: 'A refusal, with what to do about it.',
        content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
      },
    },
  }
}

function queryParameter(name: string) {
  const known = parameters[name]
  if (known === undefined) throw new Error(`BUG: there is no parameter ${name}`)
  return { name, in: 'query', ...known }
}

function requestBody(schema: z.ZodType) {
  const { $schema, ...plain } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  // Where nothing is as good as an empty object, nothing may be sent.
  const required = !schema.safeParse({}).success
  return { required, content: { 'application/json': { schema: plain } } }
}

function content({ answer, media, status }: RouteDoc) {
  if (status === 204 || status === 303) return {}
  const others = Object.fromEntries((media?.split(' ') ?? []).map(type => [type, { schema: { type: 'string' } }]))
  if (answer === undefined) return { content: others }
  const [one = {}, ...more] = answer
    .replace('[]', '')
    .split('|')
    .map(name => ({ $ref: `#/components/schemas/${name}` }))
  const schema =
    more.length > 0 ? { anyOf: [one, ...more] } : answer.endsWith('[]') ? { type: 'array', items: one } : one
  return { content: { 'application/json': { schema }, ...others } }
}

/** `GET /v1/customers/:id/usage` is getCustomersByIdUsage; OpenMeter's begin with Api, pages for browsers with Page. */
function operationId(method: string, pattern: string): string {
  const words = pattern
    .split(/[/.]/)
    .filter(part => part !== '' && part !== 'v1')
    .flatMap(part => (part.startsWith(':') ? ['by', part.slice(1)] : part.split(/[-_]/)))
  if (pattern.startsWith('/portal')) words.unshift('page')
  return method.toLowerCase() + words.map(word => word.charAt(0).toUpperCase() + word.slice(1)).join('')
}
