// The error tracker's faults, in the guide's shapes.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Clock } from '#platform/time'
import { storeUnavailable } from '../errors.ts'
import { FaultQueryError, parseFaultQuery } from '../faults/fault-query.ts'
import type { CommentRow, Fault, FaultPatch, Faults, HistoryRow, StoredNotice } from '../store/faults.ts'
import type { User, Users } from '../store/users.ts'
import { asking, guideError } from './admin-caller.ts'
import type { Access, Asker } from './caller.ts'
import { authorizeFaults } from './fault-caller.ts'
import { changesOf, type FaultChange, readTags } from './fault-change.ts'

export interface FaultsContext {
  access: Access
  clock: Clock
  /** Undefined until the database was there once. */
  faults: () => Faults | undefined
  users: () => Users | undefined
}

interface Asked {
  request: FastifyRequest
  reply: FastifyReply
  asker: Asker
  faults: Faults
  users: Users
  id: bigint
  /** Who acts; null for a key. */
  actor: bigint | null
}

const limitDefault = 50
const limitMax = 1_000
const commentMax = 10_000

export function addFaults(app: FastifyInstance, context: FaultsContext): void {
  const stores = () => {
    const faults = context.faults()
    const users = context.users()
    if (!faults || !users) throw storeUnavailable('the tables of faults were not reached yet')
    return { faults, users }
  }
  const on = (
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    answer: (asked: Asked) => Promise<unknown>,
  ) =>
    app.route({
      method,
      url: `/api/v1/faults/:id${path}`,
      handler: async (request, reply) => {
        const asker = authorizeFaults(context.access, request, method === 'GET' ? 'faults:read' : 'faults:write')
        const { id } = request.params as { id: string }
        if (!/^\d{1,18}$/.test(id)) return guideError(reply, 400, 'Invalid fault ID')
        const { user } = asker.caller
        const actor = user ? BigInt(user.userId) : null
        return await asking(() => answer({ request, reply, asker, ...stores(), id: BigInt(id), actor }))
      },
    })
  const notFound = ({ reply, id }: Asked) => guideError(reply, 404, 'Fault not found', `there is no fault ${id}`)
  const withFault = (answer: (asked: Asked, fault: Fault) => Promise<unknown>) => async (asked: Asked) => {
    const fault = await asked.faults.find(asked.asker.tenant, asked.id)
    return fault ? await answer(asked, fault) : notFound(asked)
  }
  const changing =
    (read: (asked: Asked, fault: Fault, users: Map<bigint, User>) => FaultChange) => async (asked: Asked) => {
      const { faults, users, asker, id, actor, reply } = asked
      const people = new Map((await users.list(asker.tenant)).map(user => [BigInt(user.id), user]))
      let refusal: string | undefined
      const changed = await faults.update(asker.tenant, id, actor, fault => {
        const change = read(asked, fault, people)
        if ('refusal' in change) {
          refusal = change.refusal
          return { patch: {}, actions: [] }
        }
        return { patch: change.patch, actions: actionsOf(fault, change.patch) }
      })
      if (refusal !== undefined) return guideError(reply, 400, 'Invalid request body', refusal)
      return changed ? faultJson(changed, people) : notFound(asked)
    }

  app.get('/api/v1/faults', async (request, reply) => {
    const { caller, tenant } = authorizeFaults(context.access, request, 'faults:read')
    const { q } = request.query as Record<string, unknown>
    const page = pageOf(request)
    if (typeof page === 'string') return guideError(reply, 400, 'Invalid pagination parameters', page)
    const { faults, users } = stores()
    try {
      const terms = parseFaultQuery(typeof q === 'string' ? q : '', {
        nowMs: context.clock.now(),
        me: caller.user?.userId,
      })
      return await asking(async () => {
        const found = await faults.search(tenant, terms, page)
        const people = new Map((await users.list(tenant)).map(user => [BigInt(user.id), user]))
        return { faults: found.faults.map(fault => faultJson(fault, people)), total: Number(found.total), ...page }
      })
    } catch (error) {
      if (error instanceof FaultQueryError) return guideError(reply, 400, 'Invalid search query', error.message)
      throw error
    }
  })

  on(
    'GET',
    '',
    withFault(async ({ users, asker }, fault) => faultJson(fault, await peopleOf(users, asker))),
  )
  on(
    'PATCH',
    '',
    changing(({ request }, fault, people) => changesOf(request.body, faultJson(fault, people), people)),
  )
  on('DELETE', '', async asked =>
    (await asked.faults.remove(asked.asker.tenant, asked.id))
      ? { message: 'Fault deleted successfully' }
      : notFound(asked),
  )
  on(
    'POST',
    '/resolve',
    changing(() => ({ patch: { isResolved: true } })),
  )
  on(
    'POST',
    '/unresolve',
    changing(() => ({ patch: { isResolved: false } })),
  )
  on(
    'POST',
    '/ignore',
    changing(() => ({ patch: { isIgnored: true } })),
  )
  on(
    'POST',
    '/assign',
    changing(({ request }, fault, people) => {
      const body = objectOf(request.body)
      if (!('user_id' in body)) return { refusal: 'user_id is required: the id of a user, or null' }
      return changesOf({ assignee_id: body.user_id }, faultJson(fault, people), people)
    }),
  )
  on(
    'POST',
    '/tags',
    changing(({ request }, fault) => {
      const tags = readTags(objectOf(request.body).tags)
      return typeof tags === 'string' ? { refusal: tags } : { patch: { tags: [...new Set([...fault.tags, ...tags])] } }
    }),
  )
  on(
    'PUT',
    '/tags',
    changing(({ request }) => {
      const tags = readTags(objectOf(request.body).tags)
      return typeof tags === 'string' ? { refusal: tags } : { patch: { tags } }
    }),
  )
  on('POST', '/merge', async asked => {
    const { request, reply, id, faults, asker, actor } = asked
    const target = objectOf(request.body).target_fault_id
    if (typeof target !== 'number' || !Number.isSafeInteger(target) || target < 1)
      return guideError(reply, 400, 'Invalid request body', 'target_fault_id must be the id of a fault')
    if (BigInt(target) === id)
      return guideError(reply, 400, 'Invalid request body', 'a fault cannot be merged into itself')
    if (await faults.merge(asker.tenant, id, BigInt(target), actor)) return { message: 'Faults merged successfully' }
    return guideError(reply, 404, 'Fault not found', `there is no fault ${id} or no fault ${target}`)
  })
  on(
    'GET',
    '/notices',
    withFault(async ({ request, reply, faults }, fault) => {
      const page = pageOf(request)
      if (typeof page === 'string') return guideError(reply, 400, 'Invalid pagination parameters', page)
      return { notices: (await faults.notices(fault.id, page)).map(noticeJson), ...page }
    }),
  )
  on(
    'GET',
    '/stats',
    withFault(async ({ faults }, fault) => {
      const stats = await faults.stats(fault)
      return {
        total_occurrences: Number(stats.total),
        first_occurred: stats.first.toISOString(),
        last_occurred: stats.last.toISOString(),
        one_hour_count: Number(stats.lastHour),
        one_day_count: Number(stats.lastDay),
      }
    }),
  )
  on(
    'GET',
    '/history',
    withFault(async ({ faults, users, asker }, fault) => {
      const people = await peopleOf(users, asker)
      return { history: (await faults.history(fault.id)).map(row => historyJson(row, people)) }
    }),
  )
  on(
    'GET',
    '/comments',
    withFault(async ({ faults, users, asker }, fault) => {
      const people = await peopleOf(users, asker)
      return { comments: (await faults.comments(fault.id)).map(row => commentJson(row, people)) }
    }),
  )
  on(
    'POST',
    '/comments',
    withFault(async ({ request, reply, faults, users, asker, actor }, fault) => {
      const { comment, user_id: given } = objectOf(request.body)
      const people = await peopleOf(users, asker)
      if (typeof comment !== 'string' || comment.trim() === '' || comment.length > commentMax)
        return guideError(reply, 400, 'Invalid request body', `comment must be a text of 1 to ${commentMax} characters`)
      const userId = actor ?? (typeof given === 'number' && Number.isSafeInteger(given) ? BigInt(given) : undefined)
      if (userId === undefined || !people.has(userId))
        return guideError(reply, 400, 'Invalid request body', 'user_id must be the id of a user')
      return reply.code(201).send(commentJson(await faults.comment(fault.id, userId, comment), people))
    }),
  )

  app.get('/api/v1/users', async request => {
    const { tenant } = authorizeFaults(context.access, request, 'faults:read')
    const { users } = stores()
    return { users: (await asking(() => users.list(tenant))).map(personJson) }
  })
}

async function peopleOf(users: Users, { tenant }: Asker): Promise<Map<bigint, User>> {
  return new Map((await users.list(tenant)).map(user => [BigInt(user.id), user]))
}

function actionsOf(before: Fault, patch: FaultPatch): string[] {
  const actions: string[] = []
  if (patch.isResolved !== undefined && patch.isResolved !== before.isResolved)
    actions.push(patch.isResolved ? 'resolved' : 'unresolved')
  if (patch.isIgnored !== undefined && patch.isIgnored !== before.isIgnored)
    actions.push(patch.isIgnored ? 'ignored' : 'unignored')
  if (patch.assigneeId !== undefined && patch.assigneeId !== before.assigneeId)
    actions.push(patch.assigneeId === null ? 'unassigned' : 'assigned')
  if (patch.tags !== undefined && JSON.stringify(patch.tags) !== JSON.stringify(before.tags)) actions.push('tagged')
  if (patch.isPublic !== undefined && patch.isPublic !== before.isPublic)
    actions.push(patch.isPublic ? 'published' : 'unpublished')
  return actions
}

function pageOf(request: FastifyRequest): { limit: number; offset: number } | string {
  const query = request.query as Record<string, unknown>
  const read = (name: string, standard: number, min: number, max: number) => {
    const text = query[name]
    if (text === undefined || text === '') return standard
    const n = typeof text === 'string' && /^\d{1,9}$/.test(text) ? Number(text) : -1
    return n >= min && n <= max ? n : `${name} must be a whole number from ${min} to ${max}`
  }
  const limit = read('limit', limitDefault, 1, limitMax)
  const offset = read('offset', 0, 0, 999_999_999)
  if (typeof limit === 'string') return limit
  return typeof offset === 'string' ? offset : { limit, offset }
}

function faultJson(fault: Fault, people: Map<bigint, User>) {
  const assignee = fault.assigneeId === null ? undefined : people.get(fault.assigneeId)
  return {
    id: Number(fault.id),
    ...(fault.projectId === null ? {} : { project_id: Number(fault.projectId) }),
    error_class: fault.errorClass,
    message: fault.message,
    ...(fault.location ? { location: fault.location } : {}),
    environment: fault.environment,
    resolved: fault.isResolved,
    ignored: fault.isIgnored,
    ...(fault.assigneeId === null ? {} : { assignee_id: Number(fault.assigneeId) }),
    ...(assignee ? { assignee: personJson(assignee) } : {}),
    tags: fault.tags,
    public: fault.isPublic,
    occurrence_count: Number(fault.occurrences),
    first_seen_at: fault.firstSeenAt.toISOString(),
    last_seen_at: fault.lastSeenAt.toISOString(),
    created_at: fault.createdAt.toISOString(),
    updated_at: fault.updatedAt.toISOString(),
  }
}

function personJson(user: User) {
  return {
    id: user.id,
    email: user.email,
    name: user.name,
    ...(user.avatarUrl ? { avatar_url: user.avatarUrl } : {}),
    is_admin: user.isAdmin,
    created_at: user.createdAt.toISOString(),
  }
}

function noticeJson(notice: StoredNotice) {
  return {
    id: notice.id,
    fault_id: Number(notice.faultId),
    ...(notice.projectId === null ? {} : { project_id: Number(notice.projectId) }),
    message: notice.message,
    ...notice.details,
    ...(notice.revision ? { revision: notice.revision } : {}),
    ...(notice.hostname ? { hostname: notice.hostname } : {}),
    created_at: notice.createdAt.toISOString(),
  }
}

function historyJson(row: HistoryRow, people: Map<bigint, User>) {
  const user = row.userId === null ? undefined : people.get(row.userId)
  return {
    id: Number(row.id),
    fault_id: Number(row.faultId),
    action: row.action,
    ...(row.userId === null ? {} : { user_id: Number(row.userId) }),
    ...(user ? { user: personJson(user) } : {}),
    ...(row.revision ? { revision: row.revision } : {}),
    created_at: row.createdAt.toISOString(),
  }
}

function commentJson(row: CommentRow, people: Map<bigint, User>) {
  const user = people.get(row.userId)
  return {
    id: Number(row.id),
    fault_id: Number(row.faultId),
    user_id: Number(row.userId),
    ...(user ? { user: personJson(user) } : {}),
    comment: row.comment,
    created_at: row.createdAt.toISOString(),
  }
}

function objectOf(body: unknown): Record<string, unknown> {
  return typeof body === 'object' && body !== null ? { ...body } : {}
}
