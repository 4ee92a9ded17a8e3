import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { AlertList, Budget, BudgetList } from '../alerts/api.ts'
import { alertPercentMax, alertPercentsMax } from '../alerts/thresholds.ts'
import { alertView } from '../alerts/watch.ts'
import { notFound } from '../errors.ts'
import { hourMs, periodAt } from '../rating/periods.ts'
import { type BudgetRow, firedPercents, listAlerts, listBudgets, removeBudget, setBudget } from '../store/budgets.ts'
import { callerOf, mustActFor, mustBeOperator } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { limit, paramId, parseInput } from './query.ts'

const percents = z
  .array(z.int().min(1).max(alertPercentMax))
  .max(alertPercentsMax)
  .transform(list => [...new Set(list)].sort((a, b) => a - b))
export const budgetBody = z.strictObject({
  customerId: z.string().min(1).max(255),
  budgetNano: z.string().regex(/^[1-9]\d{0,29}$/, 'is not a whole number above 0, written as a string'),
  alertPercents: percents.optional(),
  stopRequestedAtFull: z.boolean().optional(),
})

/** What customers mean to spend in a period, and the thresholds of it that were reached. */
export function budgetRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/v1/budgets', async (request): Promise<BudgetList> => {
    const query = parseInput(z.object({ cursor: z.string().max(255).default(''), limit }), request.query)
    const only = callerOf(request).tenant
    const rows = await listBudgets(o.sql, { only, after: query.cursor, limit: query.limit + 1 })
    const budgets: Budget[] = []
    for (const row of rows.slice(0, query.limit)) budgets.push(await view(row))
    return { budgets, nextCursor: rows.length > query.limit ? (budgets.at(-1)?.customerId ?? null) : null }
  })

  app.post('/v1/budgets', async (request, reply): Promise<Budget> => {
    mustBeOperator(request)
    const body = parseInput(budgetBody, request.body)
    const before = await load(body.customerId)
    const { customerId, ...patch } = { alertPercents: undefined, stopRequestedAtFull: undefined, ...body }
    if (!(await setBudget(o.sql, customerId, patch, new Date(o.clock.now())))) throw notFound(`customer ${customerId}`)
    const after = await load(customerId)
    if (after === null) throw new Error('BUG: a budget that was set is there')
    await audit(callerOf(request).name, 'budget.set', customerId, before, body)
    reply.code(201)
    return view(after)
  })

  app.delete('/v1/budgets/:id', async (request, reply) => {
    mustBeOperator(request)
    const id = paramId(request)
    const before = await load(id)
    if (!(await removeBudget(o.sql, id))) throw notFound(`budget of ${id}`)
    await audit(callerOf(request).name, 'budget.remove', id, before, null)
    return reply.code(204).send()
  })

  app.get('/v1/alerts', async (request): Promise<AlertList> => {
    const query = parseInput(
      z.object({
        customer: z.string().min(1).max(255).optional(),
        cursor: z
          .string()
          .regex(/^\d{1,18}$/, 'is not one that a list gave')
          .default('0'),
        limit,
      }),
      request.query,
    )
    const customerId = query.customer ?? callerOf(request).tenant
    if (customerId !== null) mustActFor(request, customerId)
    const rows = await listAlerts(o.sql, {
      customerId,
      after: BigInt(query.cursor),
      from: null,
      limit: query.limit + 1,
    })
    const page = rows.slice(0, query.limit)
    const last = rows.length > query.limit ? page.at(-1) : undefined
    return { alerts: page.map(alertView), nextCursor: last === undefined ? null : `${last.no}` }
  })

  async function load(customerId: string): Promise<BudgetRow | null> {
    const [row] = await listBudgets(o.sql, { only: customerId, after: '', limit: 1 })
    return row ?? null
  }

  async function view(row: BudgetRow): Promise<Budget> {
    const period = periodAt(row, o.clock.now())
    const from = new Date(period.from * hourMs)
    return {
      customerId: row.customerId,
      currency: row.currency,
      budgetNano: `${row.budgetNano}`,
      alertPercents: row.alertPercents,
      stopRequestedAtFull: row.stopRequestedAtFull,
      period: { from: from.toISOString(), to: new Date(period.to * hourMs).toISOString() },
      firedPercents: [...(await firedPercents(o.sql, row.customerId, from))].sort((a, b) => a - b),
    }
  }

  const audit = (name: string, action: string, customerId: string, before: BudgetRow | null, after: unknown) =>
    o.audit({
      actor: { kind: 'key', name },
      action,
      object: `customer ${customerId}`,
      before: before && { budgetNano: `${before.budgetNano}`, alertPercents: before.alertPercents },
      after,
    })
}
