// /admin/tenant and its rate limit

import type { FastifyInstance } from 'fastify'
import { formatUsd } from '#platform/money'
import { type Tenant as TenancyTenant, TenantNameTaken } from '#platform/tenancy/tenancy'
import { rfc3339 } from '#platform/time'
import type { RateLimit, Tenant } from '../../api.ts'
import { invalidRequest } from '../../errors.ts'
import { endBudgets, storeBudget, syncImplicitBudgets } from '../../store/budgets.ts'
import { removeSettings, storeSettings } from '../../store/settings.ts'
import { isZone } from '../../window.ts'
import { type Admin, operatorOf, tenantOf } from './admin.ts'
import { budgetInputs } from './budgets.ts'
import { amountOf, bodyOf, notFound, optionalTextOf, textOf } from './input.ts'

const nameCharsMax = 200
const rateLimitMax = 1_000_000

export function registerTenants(scope: FastifyInstance, admin: Admin): void {
  const { tenancy, sql } = admin

  scope.get('/admin/tenant', async (): Promise<Tenant[]> => tenancy.tenants.list().map(tenant => shape(admin, tenant)))
  scope.get('/admin/tenant/:id', async (request): Promise<Tenant> => shape(admin, tenantOf(admin, request)))

  scope.post('/admin/tenant', async (request): Promise<Tenant> => {
    const body = bodyOf(request)
    const name = body.name === undefined ? '' : textOf(body.name, 'name', nameCharsMax)
    if (name === '') throw invalidRequest('Missing name', 'name')
    const displayName = optionalTextOf(body.displayName, 'displayName', nameCharsMax)
    const timezone = zoneOf(body.timezone) ?? admin.config.timezone
    const rateLimitPerMin = rateOf(body.rateLimitPerMin)
    const session = sessionBudgetOf(body.defaultSessionBudgetUsd)
    const budgets = body.budgets === undefined ? [] : budgetInputs(body, timezone)
    const tenant = await tenancy.tenants
      .create({ name, timezone, ...(displayName ? { displayName } : {}) }, operatorOf(request).actor)
      .catch(nameTaken)
    await storeSettings(sql, tenant.id, {
      rateLimitPerMin: rateLimitPerMin ?? admin.config.requestsPerMinute,
      ...(session === undefined ? {} : { defaultSessionBudget: session }),
    })
    await syncImplicitBudgets(sql, [{ tenantId: tenant.id, implicit: admin.implicitFor(tenant) }])
    await sql.begin(async tx => {
      for (const budget of budgets) await storeBudget(tx, tenant.id, budget)
    })
    await admin.changed()
    return shape(admin, tenant)
  })

  scope.put('/admin/tenant/:id', async (request): Promise<Tenant> => {
    const tenant = tenantOf(admin, request)
    const body = bodyOf(request)
    const name = body.name === undefined ? undefined : textOf(body.name, 'name', nameCharsMax)
    if (name === '') throw invalidRequest('Name cannot be empty', 'name')
    const displayName = optionalTextOf(body.displayName, 'displayName', nameCharsMax)
    const timezone = zoneOf(body.timezone)
    const rateLimitPerMin = rateOf(body.rateLimitPerMin)
    const session = sessionBudgetOf(body.defaultSessionBudgetUsd)
    const updated = await tenancy.tenants
      .update(
        tenant.id,
        {
          ...(name === undefined ? {} : { name }),
          ...(displayName === undefined ? {} : { displayName }),
          ...(timezone === undefined ? {} : { timezone }),
        },
        operatorOf(request).actor,
      )
      .catch(nameTaken)
    if (!updated) throw notFound('Tenant')
    if (rateLimitPerMin !== undefined || session !== undefined)
      await storeSettings(sql, tenant.id, {
        ...(rateLimitPerMin === undefined ? {} : { rateLimitPerMin }),
        ...(session === undefined ? {} : { defaultSessionBudget: session }),
      })
    await admin.changed()
    return shape(admin, updated)
  })

  scope.delete('/admin/tenant/:id', async request => {
    const tenant = tenantOf(admin, request)
    await tenancy.tenants.remove(tenant.id, operatorOf(request).actor)
    await sql.begin(async tx => {
      await endBudgets(tx, tenant.id)
      await removeSettings(tx, tenant.id)
    })
    await admin.changed()
    return { ok: true }
  })

  scope.get('/admin/tenant/:id/ratelimit', async (request): Promise<RateLimit> => {
    const tenant = tenantOf(admin, request)
    return { rateLimitPerMin: admin.catalog.current.settings.get(tenant.id)?.rateLimitPerMin ?? null }
  })

  scope.put('/admin/tenant/:id/ratelimit', async (request): Promise<RateLimit> => {
    const tenant = tenantOf(admin, request)
    const rateLimitPerMin = rateOf(bodyOf(request).rateLimitPerMin)
    if (rateLimitPerMin === undefined) throw invalidRequest('rateLimitPerMin must be >= 0, or null', 'rateLimitPerMin')
    await storeSettings(sql, tenant.id, { rateLimitPerMin })
    await admin.tenancy.audit({
      actor: operatorOf(request).actor,
      action: 'ratelimit.update',
      object: `tenant ${tenant.slug}`,
      after: { rateLimitPerMin },
    })
    await admin.changed()
    return { rateLimitPerMin }
  })
}

function shape({ catalog }: Admin, tenant: TenancyTenant): Tenant {
  const settings = catalog.current.settings.get(tenant.id)
  const session = settings?.defaultSessionBudget ?? null
  const updatedMs = Math.max(tenant.updatedAt.getTime(), settings?.updatedAtMs ?? 0)
  return {
    id: tenant.id,
    name: tenant.name,
    displayName: tenant.displayName,
    rateLimitPerMin: settings?.rateLimitPerMin ?? null,
    defaultSessionBudgetUsd: session === null ? null : Number(formatUsd(session)),
    defaultSessionBudgetUsdNano: session === null ? null : session.toString(),
    createdAt: tenant.createdAt.toISOString(),
    updatedAt: rfc3339(updatedMs),
    slug: tenant.slug,
    timezone: tenant.timezone,
  }
}

function rateOf(value: unknown): number | null | undefined {
  if (value === undefined || value === null) return value
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0)
    throw invalidRequest('rateLimitPerMin must be >= 0 and whole', 'rateLimitPerMin')
  if (value > rateLimitMax) throw invalidRequest(`rateLimitPerMin must be <= ${rateLimitMax}`, 'rateLimitPerMin')
  return value
}

function sessionBudgetOf(value: unknown): bigint | null | undefined {
  return value === undefined || value === null ? value : amountOf(value, 'defaultSessionBudgetUsd')
}

function zoneOf(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined
  const zone = textOf(value, 'timezone', 100)
  if (!isZone(zone)) throw invalidRequest(`timezone ${zone} is not an IANA time zone such as Europe/Berlin`, 'timezone')
  return zone
}

function nameTaken(error: unknown): never {
  if (error instanceof TenantNameTaken) throw invalidRequest('Tenant already exists', 'name')
  throw error
}
