import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { CloseReport, ReplicaList, Retired } from '../api.ts'
import { closeMonth } from '../close/close.ts'
import type { CloseBy, CloseContext } from '../close/context.ts'
import { type Verification, verifyAll } from '../close/verify.ts'
import { notFound } from '../errors.ts'
import { listReplicas, retireReplica } from '../store/gate.ts'
import { callerOf, mustBeOperator } from './authorize.ts'
import { cursorTo, pageOf } from './cursor.ts'
import { limitOfShort, paramId, parseInput } from './query.ts'

export const month = z.string().regex(/^\d{4}-(0[1-9]|1[0-2])$/, 'is not a month such as 2026-10')
const reason = z.string().min(1).max(500)
export const closeBody = z.strictObject({
  customers: z.array(z.string().min(1).max(255)).min(1).max(10_000).optional(),
  dryRun: z.boolean().default(false),
  force: z.strictObject({ reason }).optional(),
})

const replicaQuery = z.object({
  cursor: cursorTo(z.strictObject({ firstSeen: z.iso.datetime(), id: z.uuid() })),
  limit: limitOfShort,
})

/** The month-close gate, and what is needed around it: replicas to retire, and the proof that all that is stored holds. */
export function closeRoutes(app: FastifyInstance, o: CloseContext) {
  app.get('/v1/close/:period', async (request): Promise<CloseReport> => {
    mustBeOperator(request)
    const query = parseInput(z.object({ customer: z.string().min(1).max(255).optional() }), request.query)
    return closeMonth(o, {
      month: monthOf(request),
      customers: query.customer === undefined ? null : [query.customer],
      dryRun: true,
      by: closeBy(request, null),
    })
  })

  app.post('/v1/close/:period', async (request): Promise<CloseReport> => {
    mustBeOperator(request)
    const body = parseInput(closeBody, request.body ?? {})
    return closeMonth(o, {
      month: monthOf(request),
      customers: body.customers ?? null,
      dryRun: body.dryRun,
      by: closeBy(request, body.force?.reason ?? null),
    })
  })

  app.get('/v1/replicas', async (request): Promise<ReplicaList> => {
    mustBeOperator(request)
    const { cursor, limit } = parseInput(replicaQuery, request.query)
    const rows = await listReplicas(o.sql, { after: cursor, limit: limit + 1 })
    const { page, nextCursor } = pageOf(rows, limit, ({ firstSeen, id }) => ({ firstSeen, id }))
    return {
      nextCursor,
      replicas: page.map(row => ({
        id: row.id,
        isThisOne: row.id === o.replica,
        lastSeen: row.lastSeen.toISOString(),
        foldedUntil: row.foldedUntil?.toISOString() ?? null,
        backlogBytes: `${row.backlogBytes}`,
        retiredAt: row.retiredAt?.toISOString() ?? null,
      })),
    }
  })

  app.post('/v1/replicas/:id/retire', async (request): Promise<Retired> => {
    mustBeOperator(request)
    const id = paramId(request)
    if (!(await retireReplica(o.sql, id))) throw notFound(`replica ${id} that is not retired`)
    await o.audit({ actor: closeBy(request, null).actor, action: 'replica.retire', object: `replica ${id}` })
    return { id, retired: true }
  })

  app.post('/v1/verify', async (request): Promise<Verification> => {
    mustBeOperator(request)
    return verifyAll(o)
  })
}

export function closeBy(request: FastifyRequest, forceReason: string | null): CloseBy {
  return { actor: { kind: 'key', name: callerOf(request).name, address: request.ip }, forceReason }
}

function monthOf(request: FastifyRequest): string {
  return parseInput(z.object({ period: month }), request.params).period
}
