import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import type { IngestedEvent, VoidedEvent } from '../events/api.ts'
import { listEvents, voidEvent } from '../store/events.ts'
import { callerOf, mustBeOperator } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { cursorTo, linkNext, pageOf } from './cursor.ts'
import { timeOf } from './meters.ts'
import { instant, limit, parseInput } from './query.ts'

const listQuery = z.object({
  from: instant.optional(),
  to: instant.optional(),
  cursor: cursorTo(
    z.strictObject({
      atNs: z.string().regex(/^-?\d{1,19}$/),
      source: z.string(),
      id: z.string(),
      digest: z.string().regex(/^[0-9a-f]{64}$/),
    }),
  ),
  limit,
  subject: z.string().max(1024).optional(),
  id: z.string().max(1024).optional(),
  hasError: z.enum(['true', 'false']).optional(),
})
export const voidBody = z.strictObject({
  source: z.string().min(1).max(1024),
  id: z.string().min(1).max(1024),
  reason: z.string().min(1).max(1000),
})

const listedMs = 32 * 86_400_000

/** What was sent, with what is wrong with it; and voids, the way to correct it. */
export function eventListRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/api/v1/events', async (request, reply): Promise<IngestedEvent[]> => {
    const query = parseInput(listQuery, request.query)
    const nowMs = o.clock.now()
    const events = await listEvents(o.sql, {
      fromNs: BigInt(query.from ?? nowMs - listedMs) * 1_000_000n,
      toNs: BigInt(query.to ?? nowMs + 86_400_000) * 1_000_000n,
      subject: query.subject ?? null,
      id: query.id ?? null,
      hasError: query.hasError === undefined ? null : query.hasError === 'true',
      only: callerOf(request).tenant,
      after: query.cursor === null ? null : { ...query.cursor, atNs: BigInt(query.cursor.atNs) },
      limit: query.limit + 1,
    })
    const { page, nextCursor } = pageOf(events, query.limit, ({ atNs, source, id, digest }) => {
      return { atNs: `${atNs}`, source, id, digest }
    })
    linkNext(request, reply, nextCursor)
    return page.map(event => ({
      event: {
        specversion: '1.0',
        id: event.id,
        source: event.source,
        type: event.type,
        subject: event.subject ?? undefined,
        time: timeOf(event.atNs),
        data: event.data,
      },
      customerId: event.customerId ?? undefined,
      validationError: event.voidReason === null ? (event.validationError ?? undefined) : `voided: ${event.voidReason}`,
      ingestedAt: event.receivedAt.toISOString(),
      storedAt: event.receivedAt.toISOString(),
    }))
  })

  app.post('/v1/events/void', async (request): Promise<VoidedEvent> => {
    mustBeOperator(request)
    const body = parseInput(voidBody, request.body)
    const { name } = callerOf(request)
    const { isKnown } = await voidEvent(o.sql, { ...body, by: name })
    const object = `event ${body.source} ${body.id}`
    await o.audit({ actor: { kind: 'key', name }, action: 'event.void', object, after: { reason: body.reason } })
    // An event may arrive after its void: both are set elements.
    return { ...body, isKnown }
  })

  const missing = async () => {
    throw new Problem({
      status: 501,
      reason: 'NOT_IMPLEMENTED',
      detail:
        'This area of the OpenMeter API is not part of billaged; it has events, meters, subjects and portal tokens. Plans, subscriptions and invoices are under /v1.',
    })
  }
  for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const)
    for (const url of ['/api/v1/*', '/api/v2/*']) app.route({ method, url, handler: missing })
}
