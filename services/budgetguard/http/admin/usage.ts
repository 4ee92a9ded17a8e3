// /admin/tenant/:id/usage, its history, models and ledger, and /admin/usage/ledger of all tenants

import type { FastifyInstance } from 'fastify'
import { formatUsd } from '#platform/money'
import { rfc3339 } from '#platform/time'
import { sum } from '../../amount.ts'
import type { CallStatus, LedgerPage, LedgerRow, UsageByPeriod, UsageDay, UsageOfModel } from '../../api.ts'
import { invalidRequest } from '../../errors.ts'
import { type LedgerFilter, listRows, type StoredRow, sumByDay, sumByModel, sumSettled } from '../../store/ledger.ts'
import { type WindowRule, windowAt } from '../../window.ts'
import { type Admin, tenantOf } from './admin.ts'
import { countOf, queryOf, rangeOf } from './input.ts'

const statuses: readonly CallStatus[] = ['success', 'blocked', 'failed']
const rowsMax = 1_000
/** Pages beyond this read the table from its start each time; narrow the filter instead. */
const offsetMax = 1_000_000

export function registerUsage(scope: FastifyInstance, admin: Admin): void {
  const { sql, config, clock } = admin

  scope.get('/admin/tenant/:id/usage', async (request): Promise<UsageByPeriod> => {
    const tenant = tenantOf(admin, request)
    const usage: UsageByPeriod = {}
    const stored = admin.catalog.current.budgets.get(tenant.id) ?? []
    for (const rule of rulesShown(config.budgetPeriods, stored)) {
      const window = windowAt({ ...rule, zone: rule.zone ?? tenant.timezone }, clock.now())
      const nano = window ? await sumSettled(sql, tenant.id, window.start, window.end) : 0n
      usage[rule.period] = Number(formatUsd(nano))
      usage[`${rule.period}Nano`] = nano.toString()
    }
    return usage
  })

  scope.get('/admin/tenant/:id/usage/history', async (request): Promise<UsageDay[]> => {
    const tenant = tenantOf(admin, request)
    const range = rangeOf(queryOf(request), { zone: tenant.timezone, nowMs: clock.now() })
    const byDay = await sumByDay(sql, tenant.id, { ...range, zone: tenant.timezone })
    const days: UsageDay[] = []
    for (let day = range.firstDay; Temporal.PlainDate.compare(day, range.lastDay) <= 0; day = day.add({ days: 1 })) {
      const nano = byDay.get(day.toString()) ?? 0n
      days.push({ date: day.toString(), usage: Number(formatUsd(nano)), usageNano: nano.toString() })
    }
    return days
  })

  scope.get('/admin/tenant/:id/usage/models', async (request): Promise<UsageOfModel[]> => {
    const tenant = tenantOf(admin, request)
    const range = rangeOf(queryOf(request), { zone: tenant.timezone, nowMs: clock.now() })
    const models = await sumByModel(sql, tenant.id, range)
    const total = sum(models.map(({ nano }) => nano))
    return models.map(({ model, nano }) => ({
      model,
      usage: Number(formatUsd(nano)),
      usageNano: nano.toString(),
      // Hundredths of a percent are enough for a chart.
      percentage: total === 0n ? 0 : Number((nano * 10_000n) / total) / 100,
    }))
  })

  scope.get('/admin/tenant/:id/usage/ledger', async (request): Promise<LedgerPage> => {
    const tenant = tenantOf(admin, request)
    return page(admin, { ...queryOf(request), tenantId: String(tenant.id) }, tenant.timezone)
  })

  scope.get(
    '/admin/usage/ledger',
    async (request): Promise<LedgerPage> => page(admin, queryOf(request), config.timezone),
  )
}

async function page(admin: Admin, query: Record<string, string | undefined>, zone: string): Promise<LedgerPage> {
  const limit = countOf(query.limit, 'limit', { standard: 100, min: 1, max: rowsMax })
  const index = countOf(query.page, 'page', { standard: 0, min: 0, max: Math.floor(offsetMax / limit) })
  const filter = filterOf(admin, query, zone)
  if (filter === null) return { data: [], total: 0, page: index, limit }
  const { rows, total } = await listRows(admin.sql, filter, { offset: index * limit, limit })
  return { data: rows.map(row => shape(admin, row)), total, page: index, limit }
}

/** Null when nothing can match: a tenant name that nobody has. */
function filterOf(admin: Admin, query: Record<string, string | undefined>, zone: string): LedgerFilter | null {
  const { fromMs, toMs } = rangeOf(query, { zone, nowMs: admin.clock.now() })
  const status = query.status === undefined ? undefined : statuses.find(known => known === query.status)
  if (query.status !== undefined && !status)
    throw invalidRequest(`status must be one of ${statuses.join(', ')}`, 'status')
  const named =
    query.tenant === undefined
      ? undefined
      : admin.tenancy.tenants.list().find(tenant => [tenant.name, tenant.slug].includes(query.tenant ?? ''))
  if (query.tenant !== undefined && !named) return null
  const tenantId =
    query.tenantId === undefined
      ? named?.id
      : countOf(query.tenantId, 'tenantId', { standard: 0, min: 1, max: 999_999_999 })
  return {
    fromMs,
    toMs,
    ...(tenantId === undefined ? {} : { tenantId }),
    ...(query.model === undefined ? {} : { model: query.model.slice(0, 256) }),
    ...(query.route === undefined ? {} : { route: query.route.slice(0, 256) }),
    ...(status === undefined ? {} : { status }),
  }
}

function shape({ tenancy }: Admin, row: StoredRow): LedgerRow {
  const tenant = tenancy.tenants.byId(row.tenantId)
  return {
    id: row.id.toString(),
    ts: rfc3339(row.tsMs),
    // The rows of a deleted tenant stay, without its name.
    tenant: tenant?.name ?? '',
    route: row.route,
    model: row.model,
    usd: formatUsd(row.settled),
    usdNano: row.settled.toString(),
    promptTok: Number(row.input + row.cacheRead + row.cacheWrite),
    compTok: Number(row.output),
    tenantId: tenant ? row.tenantId : null,
    sessionId: row.sessionId,
    status: row.status,
    tags: [],
    requestId: row.requestId,
    reason: row.reason,
    count: row.count,
    provider: row.provider,
    heldUsd: formatUsd(row.held),
    costExact: row.exact,
    usageSource: row.usageSource,
    cachedTok: Number(row.cacheRead),
    latencyMs: row.latencyMs,
    keyId: row.keyId === null ? null : Number(row.keyId),
    kind: row.kind,
  }
}

/** BUDGET_PERIODS and whatever is stored; a period nobody stored is shown in the tenant's zone from day 1. */
function rulesShown(
  configured: readonly string[],
  stored: readonly (Omit<WindowRule, 'zone'> & { zone: string | null })[],
): (Omit<WindowRule, 'zone'> & { zone: string | null })[] {
  const missing = (['daily', 'weekly', 'monthly'] as const).filter(
    period => configured.includes(period) && stored.every(rule => rule.period !== period),
  )
  return [...stored, ...missing.map(period => ({ period, zone: null, anchor: 1, startsAt: null, endsAt: null }))]
}
