import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import type { DeliveryList, WebhookDelivery, WebhookEndpoint, WebhookList, WebhookTest } from '../alerts/api.ts'
import { badRequest, notFound } from '../errors.ts'
import {
  countEndpoints,
  type DeliveryRow,
  deleteEndpoint,
  type Endpoint,
  findEndpoint,
  insertEndpoint,
  listDeliveries,
  listEndpoints,
  replayDelivery,
  updateEndpoint,
} from '../store/webhooks.ts'
import { attemptOf, type WebhookContext } from '../webhooks/deliver.ts'
import { endpointSecret, type Message, messageBody, messageId, messageTypes } from '../webhooks/message.ts'
import { callerOf, mustActFor } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { limit, paramId, parseInput } from './query.ts'

const endpointsMax = 20

const url = z
  .string()
  .max(2048)
  .refine(text => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol), 'is not an http or https URL')
const types = z.array(z.enum(messageTypes)).max(messageTypes.length)
export const endpointBody = z.strictObject({
  /** Absent: all customers, for operators. */
  customerId: z.string().min(1).max(255).nullish(),
  url,
  description: z.string().max(500).nullable().default(null),
  types: types.default([]),
  enabled: z.boolean().default(true),
})
export const patchBody = z.strictObject({
  url: url.optional(),
  description: z.string().max(500).nullable().optional(),
  types: types.optional(),
  enabled: z.boolean().optional(),
  /** A new secret; the old one signs nothing from then on. */
  rotateSecret: z.literal(true).optional(),
})
const deliveryQuery = z.object({
  webhook: z.string().max(64).optional(),
  state: z.enum(['pending', 'delivered', 'failed']).optional(),
  cursor: z.string().max(100).default(''),
  limit,
})

/** Endpoints that are told of alerts and invoices, and what they were told. A tenant's key has its own only. */
export function webhookRoutes(app: FastifyInstance, o: ReadContext & { webhooks: WebhookContext }) {
  app.get('/v1/webhooks', async (request): Promise<WebhookList> => {
    const query = parseInput(z.object({ cursor: z.string().max(64).default(''), limit }), request.query)
    const only = callerOf(request).tenant
    const rows = await listEndpoints(o.sql, { only, after: query.cursor, limit: query.limit + 1 })
    const page = rows.slice(0, query.limit)
    return {
      webhooks: page.map(toEndpoint),
      nextCursor: rows.length > query.limit ? (page.at(-1)?.id ?? null) : null,
    }
  })

  app.post('/v1/webhooks', async (request, reply): Promise<WebhookEndpoint> => {
    const body = parseInput(endpointBody, request.body)
    const customerId = body.customerId ?? callerOf(request).tenant
    if (customerId !== null) mustActFor(request, customerId)
    if ((await countEndpoints(o.sql, customerId)) >= endpointsMax)
      throw new Problem({
        status: 409,
        reason: 'TOO_MANY_WEBHOOKS',
        detail: `There are ${endpointsMax} webhooks already, which is the most; delete one first.`,
      })
    const made = await insertEndpoint(o.sql, {
      id: `wh_${randomUUID().replaceAll('-', '')}`,
      customerId,
      url: body.url,
      description: body.description,
      types: body.types,
      isEnabled: body.enabled,
      byTenant: callerOf(request).tenant !== null,
      createdAt: new Date(o.clock.now()),
    })
    if (made === 'no_such_customer') throw notFound(`customer ${customerId}`)
    await audit(request, 'webhook.create', made, { types: made.types, customerId })
    reply.code(201)
    return { ...toEndpoint(made), secret: secretOf(made) }
  })

  app.get('/v1/webhooks/:id', async (request): Promise<WebhookEndpoint> => toEndpoint(await mustFind(request)))

  app.put('/v1/webhooks/:id', async (request): Promise<WebhookEndpoint> => {
    const before = await mustFind(request)
    const patch = parseInput(patchBody, request.body)
    const after = await updateEndpoint(o.sql, {
      ...before,
      url: patch.url ?? before.url,
      byTenant: patch.url === undefined ? before.byTenant : callerOf(request).tenant !== null,
      description: patch.description === undefined ? before.description : patch.description,
      types: patch.types ?? before.types,
      isEnabled: patch.enabled ?? before.isEnabled,
      secretVersion: before.secretVersion + (patch.rotateSecret ? 1 : 0),
    })
    if (after === null) throw notFound(`webhook ${before.id}`)
    await audit(request, 'webhook.update', after, { ...patch, url: undefined })
    return patch.rotateSecret ? { ...toEndpoint(after), secret: secretOf(after) } : toEndpoint(after)
  })

  app.delete('/v1/webhooks/:id', async (request, reply) => {
    const endpoint = await mustFind(request)
    await deleteEndpoint(o.sql, endpoint.id)
    await audit(request, 'webhook.delete', endpoint, null)
    return reply.code(204).send()
  })

  // One attempt, here and now, whose outcome is the answer; nothing is kept and nothing tried again.
  app.post('/v1/webhooks/:id/test', async (request): Promise<WebhookTest> => {
    const endpoint = await mustFind(request)
    const message: Message = {
      type: 'webhook.test',
      key: [endpoint.id, request.id],
      customerId: endpoint.customerId,
      atMs: o.clock.now(),
      data: { webhookId: endpoint.id },
    }
    const { status, problem } = await attemptOf(o.webhooks, {
      endpointId: endpoint.id,
      url: endpoint.url,
      secretVersion: endpoint.secretVersion,
      byTenant: endpoint.byTenant,
      messageId: messageId(message),
      body: messageBody(message),
    })
    await audit(request, 'webhook.test', endpoint, { delivered: problem === null })
    return { delivered: problem === null, status, problem }
  })

  app.get('/v1/webhooks/deliveries', async (request): Promise<DeliveryList> => {
    const query = parseInput(deliveryQuery, request.query)
    const rows = await listDeliveries(o.sql, {
      only: callerOf(request).tenant,
      endpointId: query.webhook ?? null,
      state: query.state ?? null,
      id: null,
      before: parseCursor(query.cursor),
      limit: query.limit + 1,
    })
    const page = rows.slice(0, query.limit)
    const last = rows.length > query.limit ? page.at(-1) : undefined
    return {
      deliveries: page.map(toDelivery),
      nextCursor: last === undefined ? null : `${last.createdAt.toISOString()}/${last.id}`,
    }
  })

  app.get(
    '/v1/webhooks/deliveries/:id',
    async (request): Promise<WebhookDelivery> => toDelivery(await mustFindDelivery(request)),
  )

  app.post('/v1/webhooks/deliveries/:id/replay', async (request): Promise<WebhookDelivery> => {
    const { id } = await mustFindDelivery(request)
    await replayDelivery(o.sql, id, o.clock.now())
    await o.audit({ actor: actorOf(request), action: 'webhook.replay', object: `delivery ${id}` })
    return toDelivery(await mustFindDelivery(request))
  })

  async function mustFind(request: FastifyRequest): Promise<Endpoint> {
    const id = paramId(request)
    const endpoint = await findEndpoint(o.sql, id)
    const { tenant } = callerOf(request)
    if (endpoint === null || (tenant !== null && endpoint.customerId !== tenant)) throw notFound(`webhook ${id}`)
    return endpoint
  }

  async function mustFindDelivery(request: FastifyRequest): Promise<DeliveryRow> {
    const id = paramId(request)
    const only = callerOf(request).tenant
    const [row] = await listDeliveries(o.sql, { only, endpointId: null, state: null, id, before: null, limit: 1 })
    if (row === undefined) throw notFound(`delivery ${id}`)
    return row
  }

  const secretOf = (endpoint: Endpoint) => endpointSecret(o.webhooks.key, endpoint.id, endpoint.secretVersion)
  const actorOf = (request: FastifyRequest) => ({ kind: 'key' as const, name: callerOf(request).name })
  // Without the URL: its path may be a secret of the receiver's.
  const audit = (request: FastifyRequest, action: string, endpoint: Endpoint, after: unknown) =>
    o.audit({ actor: actorOf(request), action, object: `webhook ${endpoint.id}`, after })
}

function toEndpoint(row: Endpoint): WebhookEndpoint {
  return {
    id: row.id,
    customerId: row.customerId,
    url: row.url,
    description: row.description,
    types: row.types,
    enabled: row.isEnabled,
    createdAt: row.createdAt.toISOString(),
  }
}

function toDelivery(row: DeliveryRow): WebhookDelivery {
  return {
    id: row.id,
    webhookId: row.endpointId,
    messageId: row.messageId,
    type: row.type,
    customerId: row.customerId,
    state: row.state,
    attempts: row.attempts,
    nextAt: row.state === 'pending' ? row.nextAt.toISOString() : null,
    lastStatus: row.lastStatus,
    lastProblem: row.lastProblem,
    createdAt: row.createdAt.toISOString(),
    endedAt: row.endedAt?.toISOString() ?? null,
    payload: JSON.parse(row.body),
  }
}

function parseCursor(text: string): { at: Date; id: string } | null {
  if (text === '') return null
  const [at = '', id = ''] = text.split('/')
  if (Number.isNaN(Date.parse(at)) || id === '')
    throw badRequest('INVALID_FIELD', 'cursor: is not one that a list gave.')
  return { at: new Date(at), id }
}
