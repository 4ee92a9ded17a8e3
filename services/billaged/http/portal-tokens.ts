import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { parseDuration } from '#platform/time'
import type { Invalidated } from '../api.ts'
import { badRequest } from '../errors.ts'
import type { PortalTokenList, PortalTokenView } from '../events/api.ts'
import { newPortalToken } from '../portal/token.ts'
import { insertPortalToken, listPortalTokens, type PortalToken, revokePortalTokens } from '../store/portal-tokens.ts'
import { customersOfSubjects } from '../store/subjects.ts'
import { callerOf, mustActFor } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { cursorTo, linkNext, pageOf } from './cursor.ts'
import { mustLoad } from './customers.ts'
import { limit, parseInput, timeAndId } from './query.ts'

const defaultTtlMs = 24 * 3_600_000
const ttlMsMax = 31 * 24 * 3_600_000

const ttl = z.string().transform((text, context) => {
  try {
    const ms = parseDuration(text)
    if (ms >= 60_000 && ms <= ttlMsMax) return ms
    context.addIssue({ code: 'custom', message: `is ${text}; a token lives from 1m to 744h` })
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : 'is not a duration' })
  }
  return z.NEVER
})
const slugs = z.array(z.string().min(1).max(63)).min(1).max(100)
export const tokenBody = z.strictObject({
  customerId: z.string().min(1).max(255).optional(),
  ttl: ttl.optional(),
  allowedMeterSlugs: slugs.optional(),
})
export const openMeterBody = z.object({
  subject: z.string().min(1).max(255),
  allowedMeterSlugs: slugs.nullish(),
})
export const invalidateBody = z.object({
  id: z.string().max(64).nullish(),
  subject: z.string().max(255).nullish(),
})

const tokenQuery = z.object({
  customer: z.string().min(1).max(255).optional(),
  cursor: timeAndId,
  limit,
})

const openMeterQuery = z.object({ cursor: cursorTo(z.strictObject({ at: z.iso.datetime(), id: z.string() })), limit })

/** Tokens for the read-only portal, in our own words and in OpenMeter's. */
export function portalTokenRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/v1/portal/tokens', async (request): Promise<PortalTokenList> => {
    const query = parseInput(tokenQuery, request.query)
    const only = query.customer ?? callerOf(request).tenant
    if (only !== null) mustActFor(request, only)
    const rows = await listPortalTokens(o.sql, { only, before: query.cursor, limit: query.limit + 1 })
    const page = rows.slice(0, query.limit)
    const last = rows.length > query.limit ? page.at(-1) : undefined
    return {
      tokens: page.map(view),
      nextCursor: last === undefined ? null : `${last.createdAt.toISOString()}/${last.id}`,
    }
  })

  app.post('/v1/portal/tokens', async (request, reply): Promise<PortalTokenView> => {
    const body = parseInput(tokenBody, request.body ?? {})
    const customerId = body.customerId ?? callerOf(request).tenant
    if (customerId === null) throw badRequest('INVALID_FIELD', 'customerId: is required; it names whose portal it is.')
    mustActFor(request, customerId)
    await mustLoad(o, customerId)
    const { row, token } = await create(request, {
      customerId,
      subject: customerId,
      ttlMs: body.ttl ?? defaultTtlMs,
      allowedMeters: body.allowedMeterSlugs ?? null,
    })
    // Not in the path: what comes behind # is not sent with the request, and in no log.
    reply.code(201)
    return { ...view(row), token, link: `/portal#${token}` }
  })

  app.post(
    '/v1/portal/tokens/invalidate',
    async (request): Promise<Invalidated> => ({ invalidated: await invalidate(request) }),
  )

  app.get('/api/v1/portal/tokens', async (request, reply): Promise<PortalTokenView[]> => {
    const { cursor, limit: most } = parseInput(openMeterQuery, request.query)
    const before = cursor === null ? null : { at: new Date(cursor.at), id: cursor.id }
    const rows = await listPortalTokens(o.sql, { only: callerOf(request).tenant, before, limit: most + 1 })
    const { page, nextCursor } = pageOf(rows, most, ({ createdAt, id }) => ({ at: createdAt, id }))
    linkNext(request, reply, nextCursor)
    return page.map(row => view(row))
  })

  app.post('/api/v1/portal/tokens', async (request): Promise<PortalTokenView> => {
    const body = parseInput(openMeterBody, request.body)
    const customerId = (await customersOfSubjects(o.sql, [body.subject])).get(body.subject) ?? body.subject
    mustActFor(request, customerId)
    const { row, token } = await create(request, {
      customerId,
      subject: body.subject,
      ttlMs: defaultTtlMs,
      allowedMeters: body.allowedMeterSlugs ?? null,
    })
    return { ...view(row), token }
  })

  app.post('/api/v1/portal/tokens/invalidate', async (request, reply) => {
    await invalidate(request)
    return reply.code(204).send()
  })

  async function create(
    request: FastifyRequest,
    wanted: { customerId: string; subject: string; ttlMs: number; allowedMeters: string[] | null },
  ) {
    const nowMs = o.clock.now()
    const { token, hash } = newPortalToken()
    const { ttlMs, ...rest } = wanted
    const row = {
      ...rest,
      id: `pt_${randomUUID().replaceAll('-', '')}`,
      createdBy: callerOf(request).name,
      createdAt: new Date(nowMs),
      expiresAt: new Date(nowMs + ttlMs),
    }
    await insertPortalToken(o.sql, { ...row, hash })
    await audit(request, 'portal_token.create', row.id, { customerId: row.customerId, expiresAt: row.expiresAt })
    return { row: { ...row, revokedAt: null }, token }
  }

  async function invalidate(request: FastifyRequest): Promise<number> {
    const { id, subject } = parseInput(invalidateBody, request.body ?? {})
    if (id === undefined && subject === undefined)
      throw badRequest('INVALID_FIELD', 'id: id or subject says which tokens to invalidate.')
    const ids = await revokePortalTokens(o.sql, {
      id: id ?? null,
      subject: subject ?? null,
      only: callerOf(request).tenant,
      now: new Date(o.clock.now()),
    })
    for (const one of ids) await audit(request, 'portal_token.revoke', one, null)
    return ids.length
  }

  function view(row: PortalToken): PortalTokenView {
    return {
      id: row.id,
      subject: row.subject,
      customerId: row.customerId,
      expiresAt: row.expiresAt.toISOString(),
      expired: row.revokedAt !== null || row.expiresAt.getTime() <= o.clock.now(),
      createdAt: row.createdAt.toISOString(),
      allowedMeterSlugs: row.allowedMeters ?? undefined,
    }
  }

  const audit = (request: FastifyRequest, action: string, id: string, after: unknown) =>
    o.audit({ actor: { kind: 'key', name: callerOf(request).name }, action, object: `portal token ${id}`, after })
}
