// /admin/tenant/:id/budgets, /admin/budget/:id

import type { FastifyInstance } from 'fastify'
import { formatUsd, parseUsd } from '#platform/money'
import type { Tenant } from '#platform/tenancy/tenancy'
import { rfc3339 } from '#platform/time'
import type { Budget, BudgetState } from '../../api.ts'
import { isObject } from '../../dialects/openai/chat.ts'
import { invalidRequest } from '../../errors.ts'
import { type BudgetWrite, findBudget, listBudgets, removeBudget, storeBudget } from '../../store/budgets.ts'
import type { BudgetRule } from '../../store/catalog.ts'
import { type Period, periods, wholeDays, windowAt } from '../../window.ts'
import { type Admin, operatorOf, tenantOf } from './admin.ts'
import { amountOf, bodyOf, dateOf, idOf, notFound } from './input.ts'

const budgetsMax = 20

export function registerBudgets(scope: FastifyInstance, admin: Admin): void {
  const { sql } = admin
  const money = { config: { need: 'money' as const } }

  scope.get('/admin/tenant/:id/budgets', async (request): Promise<BudgetState[]> => {
    const tenant = tenantOf(admin, request)
    const rules = await listBudgets(sql, tenant.id)
    return stateOf(admin, tenant, rules)
  })

  scope.post('/admin/tenant/:id/budgets', money, async (request): Promise<Budget[]> => {
    const tenant = tenantOf(admin, request)
    const writes = budgetInputs(bodyOf(request), tenant.timezone)
    const rules = await sql.begin(async tx => {
      const stored: BudgetRule[] = []
      for (const write of writes) {
        const rule = await storeBudget(tx, tenant.id, write)
        stored.push(rule)
        const entry = {
          actor: operatorOf(request).actor,
          action: 'budget.store',
          object: `budget ${rule.id}`,
          after: rule,
        }
        await admin.tenancy.audit(entry, tx)
      }
      return stored
    })
    await admin.changed()
    return rules.map(shape)
  })

  scope.put('/admin/budget/:id', money, async (request): Promise<Budget> => {
    const before = await mustFind(admin, idOf(request, 'id', 'budget'))
    const tenant = admin.tenancy.tenants.byId(before.tenantId)
    if (!tenant) throw notFound('Budget')
    const body = bodyOf(request)
    const write = budgetInput(
      {
        period: before.period,
        amountUsd: formatUsd(before.amount),
        startDate: before.startsAt === null ? null : rfc3339(before.startsAt),
        endDate: before.endsAt === null ? null : rfc3339(before.endsAt - 1),
        ...(body.limitUsd === undefined ? {} : { amountUsd: body.limitUsd }),
        ...body,
      },
      tenant.timezone,
    )
    if (write.period !== before.period)
      throw invalidRequest(
        `period cannot change from ${before.period} to ${write.period}: its windows would be others. Store a budget of that period instead`,
        'period',
      )
    const rule = await sql.begin(async tx => {
      const stored = await storeBudget(tx, before.tenantId, write)
      const entry = {
        actor: operatorOf(request).actor,
        action: 'budget.update',
        object: `budget ${stored.id}`,
        before,
        after: stored,
      }
      await admin.tenancy.audit(entry, tx)
      return stored
    })
    await admin.changed()
    return shape(rule)
  })

  scope.delete('/admin/budget/:id', money, async request => {
    const rule = await mustFind(admin, idOf(request, 'id', 'budget'))
    const tenant = admin.tenancy.tenants.byId(rule.tenantId)
    if (!tenant) throw notFound('Budget')
    if (rule.isImplicit)
      throw invalidRequest(
        'This budget comes from DEFAULT_BUDGET_USD and BUDGET_PERIODS; store one of this period to replace it',
        'id',
      )
    await sql.begin(async tx => {
      await removeBudget(tx, rule, admin.implicitFor(tenant))
      const entry = {
        actor: operatorOf(request).actor,
        action: 'budget.remove',
        object: `budget ${rule.id}`,
        before: rule,
      }
      await admin.tenancy.audit(entry, tx)
    })
    await admin.changed()
    return { ok: true }
  })
}

async function mustFind(admin: Admin, id: number): Promise<BudgetRule> {
  const rule = await findBudget(admin.sql, id)
  if (!rule) throw notFound('Budget')
  return rule
}

/** `{budgets: […]}`, or one bare budget. */
export function budgetInputs(body: Record<string, unknown>, zone: string): BudgetWrite[] {
  const given = body.budgets === undefined ? [body] : body.budgets
  if (!Array.isArray(given)) throw invalidRequest('budgets must be an array', 'budgets')
  if (given.length === 0 || given.length > budgetsMax)
    throw invalidRequest(`budgets must hold 1 to ${budgetsMax} budgets`, 'budgets')
  return given.map((entry, i) => {
    if (!isObject(entry)) throw invalidRequest(`budgets[${i}] must be an object`, 'budgets')
    return budgetInput(entry, zone)
  })
}

function budgetInput(entry: Record<string, unknown>, zone: string): BudgetWrite {
  const period = periods.find(known => known === entry.period)
  if (!period) throw invalidRequest(`Invalid period. Allowed: ${periods.join(', ')}`, 'period')
  const amount = amountOf(entry.amountUsd ?? entry.limitUsd, 'amountUsd')
  const { startDate, endDate } = entry
  if (period === 'custom') {
    if (typeof startDate !== 'string' || typeof endDate !== 'string')
      throw invalidRequest('Custom period requires valid startDate and endDate', 'startDate')
    const from = dateOrCustomError(startDate, 'startDate', zone)
    const to = dateOrCustomError(endDate, 'endDate', zone)
    if (Temporal.PlainDate.compare(to, from) < 0)
      throw invalidRequest('endDate must be equal to or after startDate', 'endDate')
    const window = wholeDays(startDate, endDate, zone)
    return { period, amount, startsAt: window.start, endsAt: window.end }
  }
  // Dates on a recurring budget bound when it is in force; outside it is inert.
  const from = typeof startDate === 'string' ? dateOf(startDate, 'startDate', zone) : null
  const to = typeof endDate === 'string' ? dateOf(endDate, 'endDate', zone) : null
  if (from && to && Temporal.PlainDate.compare(to, from) < 0)
    throw invalidRequest('endDate must be equal to or after startDate', 'endDate')
  return {
    period,
    amount,
    startsAt: from === null ? null : from.toZonedDateTime(zone).startOfDay().epochMilliseconds,
    endsAt: to === null ? null : to.add({ days: 1 }).toZonedDateTime(zone).startOfDay().epochMilliseconds,
  }
}

function dateOrCustomError(text: string, name: string, zone: string): Temporal.PlainDate {
  try {
    return dateOf(text, name, zone)
  } catch (error) {
    const why = error instanceof Error ? ` (${error.message})` : ''
    throw invalidRequest(`Custom period requires valid startDate and endDate${why}`, name)
  }
}

async function stateOf(admin: Admin, tenant: Tenant, rules: readonly BudgetRule[]): Promise<BudgetState[]> {
  const atMs = admin.admission.now()
  const accounts = await admin.admission.accountsAt(rules, tenant.timezone, atMs, `tenant ${tenant.slug}`)
  await admin.leases.look(accounts)
  return rules.map(rule => {
    const window = windowAt({ ...rule, zone: rule.zone ?? tenant.timezone }, atMs)
    const account = accounts.find(candidate => candidate.budgetId === rule.id)
    const state = account && admin.admission.state(account)
    const spentUsd = state?.spentUsd ?? '0'
    return {
      ...shape(rule),
      currentPeriodStartDate: window && rfc3339(window.start),
      currentPeriodEndDate: window && rfc3339(window.end - 1),
      currentUsage: Number(spentUsd),
      currentUsageNano: parseUsd(spentUsd).toString(),
      isRecurring: rule.period !== 'custom',
      heldUsd: state?.heldUsd ?? '0',
      remainingUsd: state?.remainingUsd ?? formatUsd(rule.amount),
    }
  })
}

function shape(rule: BudgetRule): Budget {
  return {
    id: rule.id,
    tenantId: rule.tenantId,
    period: rule.period satisfies Period,
    amountUsd: formatUsd(rule.amount),
    amountUsdNano: rule.amount.toString(),
    startDate: rule.startsAt === null ? null : rfc3339(rule.startsAt),
    endDate: rule.endsAt === null ? null : rfc3339(rule.endsAt - 1),
    createdAt: rfc3339(rule.createdAtMs),
    isImplicit: rule.isImplicit,
  }
}
