import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import { notFound } from '../errors.ts'
import type { SubjectView } from '../events/api.ts'
import { listSubjects, mapSubject, type SubjectRow, unmapSubject } from '../store/subjects.ts'
import { callerOf, mustBeOperator } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { cursorTo, linkNext, pageOf } from './cursor.ts'
import { limitOfShort, paramId, parseInput } from './query.ts'

const subjectsMax = 1_000

const subject = z.object({
  key: z.string().min(1).max(255),
  displayName: z.string().max(256).nullish(),
  metadata: z.record(z.string().max(100), z.unknown()).nullish(),
  /** Ours: whose usage the subject's events are. Without it a subject is a customer of its own. */
  customerId: z.string().min(1).max(255).optional(),
})
export const subjectsBody = z.array(subject).min(1).max(subjectsMax)

const listQuery = z.object({ cursor: cursorTo(z.strictObject({ key: z.string() })), limit: limitOfShort })

/** The subjects of the OpenMeter API: customers, and other names under which a customer's events are sent. */
export function subjectRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/api/v1/subjects', async (request, reply): Promise<SubjectView[]> => {
    const { cursor, limit } = parseInput(listQuery, request.query)
    const only = callerOf(request).tenant
    const rows = await listSubjects(o.sql, { only, key: null, after: cursor?.key ?? '', limit: limit + 1 })
    const { page, nextCursor } = pageOf(rows, limit, ({ key }) => ({ key }))
    linkNext(request, reply, nextCursor)
    return page.map(toSubject)
  })

  app.get('/api/v1/subjects/:id', async (request): Promise<SubjectView> => {
    const key = paramId(request)
    const [row] = await listSubjects(o.sql, { only: callerOf(request).tenant, key, limit: 1 })
    if (row === undefined) throw notFound(`subject ${key}`)
    return toSubject(row)
  })

  app.post('/api/v1/subjects', async (request): Promise<SubjectView[]> => {
    mustBeOperator(request)
    const body = parseInput(subjectsBody, request.body)
    const rows: SubjectRow[] = []
    for (const { key, customerId, displayName, metadata } of body) {
      if (customerId !== undefined && customerId !== key)
        await map({ key, customerId, displayName, metadata: metadata ?? undefined })
      else
        await o.sql`
        insert into billaged.customer as c (id, name) values (${key}, ${displayName ?? null})
        on conflict (id) do update set name = coalesce(excluded.name, c.name)`
      const [row] = await listSubjects(o.sql, { only: null, key, limit: 1 })
      if (row === undefined) throw new Error('BUG: a subject that was written is there')
      rows.push(row)
      await audit(callerOf(request).name, 'subject.set', key, { customerId: row.customerId, displayName })
    }
    return rows.map(toSubject)
  })

  app.delete('/api/v1/subjects/:id', async (request, reply) => {
    mustBeOperator(request)
    const key = paramId(request)
    if (!(await unmapSubject(o.sql, key))) throw notFound(`mapped subject ${key}`)
    await audit(callerOf(request).name, 'subject.remove', key, null)
    return reply.code(204).send()
  })

  async function map(wanted: Parameters<typeof mapSubject>[1]) {
    const outcome = await mapSubject(o.sql, wanted)
    if (outcome === 'no_such_customer') throw notFound(`customer ${wanted.customerId}`)
    if (outcome === 'is_customer')
      throw new Problem({
        status: 409,
        reason: 'SUBJECT_IS_CUSTOMER',
        detail: `${wanted.key} has VMs, plans or invoices of its own, or ${wanted.customerId} is a mapped subject itself.`,
      })
  }

  const audit = (name: string, action: string, key: string, after: unknown) =>
    o.audit({ actor: { kind: 'key', name }, action, object: `subject ${key}`, after })
}

function toSubject(row: SubjectRow): SubjectView {
  return {
    id: row.key,
    key: row.key,
    displayName: row.displayName ?? undefined,
    metadata: row.metadata,
    customerId: row.customerId,
    createdAt: row.createdAt.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
  }
}
