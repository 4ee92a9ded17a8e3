import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import { errorCode } from '#platform/postgres'
import { rfc3339 } from '#platform/time'
import type {
  PlanList,
  PlanVersionList,
  PlanVersionView,
  PlanView,
  SubscriptionList,
  SubscriptionView,
} from '../api.ts'
import { badRequest, notFound } from '../errors.ts'
import { planSchema, versionJson, versionSchema } from '../rating/plan.ts'
import {
  endSubscription,
  insertPlan,
  insertSubscription,
  insertVersion,
  listPlans,
  listSubscriptions,
  loadPlan,
} from '../store/plans.ts'
import { callerOf, mustActFor, mustBeOperator } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { cursorTo, pageOf } from './cursor.ts'
import { limit, limitOfShort, paramId, parseInput, wholeHour } from './query.ts'

export const subscriptionBody = z.strictObject({
  customerId: z.string().min(1).max(255),
  planId: z.string().min(1).max(63),
  from: wholeHour,
  to: wholeHour.nullable().default(null),
})

/** A time and a customer, as lists give it. */
const subscriptionCursor = z
  .string()
  .regex(/^\d{1,14}\/.{1,255}$/s, 'is not one that a list gave')
  .transform(text => {
    const cut = text.indexOf('/')
    return { fromMs: Number(text.slice(0, cut)), customerId: text.slice(cut + 1) }
  })
const subscriptionQuery = z.object({
  customerId: z.string().max(255).optional(),
  cursor: subscriptionCursor.nullable().default(null),
  limit,
})
const versionQuery = z.object({ cursor: cursorTo(z.strictObject({ version: z.int() })), limit: limitOfShort })
export const endBody = z.strictObject({ at: wholeHour })

/** Plans, their versions, and who is on which. */
export function planRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/v1/plans', async (request): Promise<PlanList> => {
    const query = parseInput(z.object({ cursor: z.string().max(63).default(''), limit }), request.query)
    const plans = await listPlans(o.sql, query.cursor, query.limit + 1)
    const page = plans.slice(0, query.limit)
    return { plans: page, nextCursor: plans.length > query.limit ? (page.at(-1)?.id ?? null) : null }
  })

  app.post('/v1/plans', async (request, reply): Promise<PlanView> => {
    mustBeOperator(request)
    const plan = parseInput(planSchema, request.body)
    if (!(await insertPlan(o.sql, plan))) throw conflict('PLAN_EXISTS', `There is a plan ${plan.id} already.`)
    await audit(callerOf(request).name, 'plan.create', `plan ${plan.id}`, plan)
    reply.code(201)
    return plan
  })

  app.get('/v1/plans/:id/versions', async (request): Promise<PlanVersionList> => {
    const plan = await loadPlan(o.sql, paramId(request))
    if (plan === null) throw notFound(`plan ${paramId(request)}`)
    const { cursor, limit } = parseInput(versionQuery, request.query)
    const later = plan.versions.filter(({ version }) => version > (cursor?.version ?? 0))
    const { page, nextCursor } = pageOf(later, limit, ({ version }) => ({ version }))
    return { versions: page.map(({ version, ...body }) => ({ version, ...versionJson(body) })), nextCursor }
  })

  app.post('/v1/plans/:id/versions', async (request, reply): Promise<PlanVersionView> => {
    mustBeOperator(request)
    const id = paramId(request)
    const body = parseInput(versionSchema, request.body)
    const outcome = await o.sql.begin(async tx => ({ made: await insertVersion(tx, id, body) }))
    if (outcome.made === 'no_such_plan') throw notFound(`plan ${id}`)
    if (outcome.made === 'already_effective')
      throw conflict(
        'VERSION_NOT_LATER',
        `effectiveFrom must be after that of every version plan ${id} has; versions never change.`,
      )
    await audit(callerOf(request).name, 'plan.version', `plan ${id}`, versionJson(body))
    reply.code(201)
    return { version: outcome.made.version, ...versionJson(body) }
  })

  app.get('/v1/subscriptions', async (request): Promise<SubscriptionList> => {
    const query = parseInput(subscriptionQuery, request.query)
    const customerId = query.customerId ?? callerOf(request).tenant
    if (customerId !== null) mustActFor(request, customerId)
    const rows = await listSubscriptions(o.sql, customerId, { limit: query.limit + 1, after: query.cursor })
    const page = rows.slice(0, query.limit)
    const last = rows.length > query.limit ? page.at(-1) : undefined
    return {
      subscriptions: page.map(toSubscription),
      nextCursor: last === undefined ? null : `${last.fromMs}/${last.customerId}`,
    }
  })

  app.post('/v1/subscriptions', async (request, reply): Promise<SubscriptionView> => {
    mustBeOperator(request)
    const body = parseInput(subscriptionBody, request.body)
    if (body.to !== null && body.to <= body.from) throw badRequest('INVALID_SPAN', 'to must be after from.')
    const row = { customerId: body.customerId, planId: body.planId, fromMs: body.from, toMs: body.to }
    const made = await o.sql
      .begin(async tx => ({ id: await insertSubscription(tx, row) }))
      .catch((error: unknown) => {
        if (errorCode(error) === '23P01')
          throw conflict(
            'SUBSCRIPTION_OVERLAPS',
            `${body.customerId} has a subscription in this span; end it first: billaged unsubscribe ${body.customerId} --at ${rfc3339(body.from)}`,
          )
        throw error
      })
    if (made.id === null) throw notFound(`plan ${body.planId}`)
    await audit(callerOf(request).name, 'subscription.create', `customer ${body.customerId}`, body)
    reply.code(201)
    return toSubscription({ id: made.id, ...row })
  })

  app.post('/v1/subscriptions/:id/end', async (request): Promise<SubscriptionView> => {
    mustBeOperator(request)
    const id = paramId(request)
    const { at } = parseInput(endBody, request.body)
    if (!/^\d{1,18}$/.test(id)) throw notFound(`subscription ${id}`)
    const outcome = await o.sql.begin(async tx => ({ ended: await endSubscription(tx, BigInt(id), at) }))
    if (outcome.ended === null) throw notFound(`subscription ${id}`)
    if (outcome.ended === 'not_within')
      throw conflict(
        'SUBSCRIPTION_NOT_RUNNING',
        `${new Date(at).toISOString()} is not after the start of subscription ${id} and up to its end.`,
      )
    const { customerId } = outcome.ended
    await audit(callerOf(request).name, 'subscription.end', `customer ${customerId}`, { id, at: rfc3339(at) })
    return toSubscription(outcome.ended)
  })

  const audit = (name: string, action: string, object: string, after: unknown) =>
    o.audit({ actor: { kind: 'key', name }, action, object, after })
}

function toSubscription(row: {
  id: bigint
  customerId: string
  planId: string
  fromMs: number
  toMs: number | null
}): SubscriptionView {
  return {
    id: `${row.id}`,
    customerId: row.customerId,
    planId: row.planId,
    from: new Date(row.fromMs).toISOString(),
    to: row.toMs === null ? null : new Date(row.toMs).toISOString(),
  }
}

function conflict(reason: string, detail: string): Problem {
  return new Problem({ status: 409, reason, detail })
}
