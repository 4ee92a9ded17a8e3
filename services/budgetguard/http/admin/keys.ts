// /admin/tenant/:id/apikeys, DELETE /admin/apikey/:id

import type { FastifyInstance } from 'fastify'
import type { ApiKey as StoredKey } from '#platform/tenancy/tenancy'
import type { ApiKey, CreatedApiKey } from '../../api.ts'
import { invalidRequest } from '../../errors.ts'
import { type Admin, operatorOf, tenantOf } from './admin.ts'
import { bodyOf, idOf, notFound, textOf } from './input.ts'

/** The one scope that calls models. */
export const aiScope = 'ai'

export function registerKeys(scope: FastifyInstance, admin: Admin): void {
  const { keys } = admin.tenancy

  scope.post('/admin/tenant/:id/apikeys', async (request): Promise<CreatedApiKey> => {
    const tenant = tenantOf(admin, request)
    const body = bodyOf(request)
    const name = body.name === undefined || body.name === null ? '' : textOf(body.name, 'name', 100)
    const expiresAt = expiryOf(body.expiresAt, admin.clock.now())
    const created = await keys.create(
      { tenantId: tenant.id, name, scopes: [aiScope], format: 'hex64', ...(expiresAt ? { expiresAt } : {}) },
      operatorOf(request).actor,
    )
    return {
      id: Number(created.id),
      key: created.key,
      keyPrefix: created.prefix,
      createdAt: created.createdAt.toISOString(),
      isActive: true,
    }
  })

  scope.get('/admin/tenant/:id/apikeys', async (request): Promise<ApiKey[]> => {
    const tenant = tenantOf(admin, request)
    const nowMs = admin.clock.now()
    return (await keys.list(tenant.id)).filter(mayCallModels).map(key => shape(key, nowMs))
  })

  scope.delete('/admin/apikey/:id', async request => {
    const id = idOf(request, 'id', 'API key')
    if (!(await keys.revoke(BigInt(id), operatorOf(request).actor))) throw notFound('API key')
    return { ok: true }
  })
}

/** A tenant may have keys for other services; they are not shown here. */
function mayCallModels(key: StoredKey): boolean {
  return key.scopes.includes(aiScope) || key.scopes.includes('admin')
}

function shape(key: StoredKey, nowMs: number): ApiKey {
  const isExpired = key.expiresAt !== null && key.expiresAt.getTime() <= nowMs
  return {
    id: Number(key.id),
    createdAt: key.createdAt.toISOString(),
    isActive: key.revokedAt === null && !isExpired,
    ...(key.lastUsedOn === null ? {} : { lastUsedAt: key.lastUsedOn.toISOString() }),
    keyPrefix: key.prefix,
    name: key.name,
    expiresAt: key.expiresAt?.toISOString() ?? null,
  }
}

function expiryOf(value: unknown, nowMs: number): Date | undefined {
  if (value === undefined || value === null) return undefined
  const at = typeof value === 'string' && /^\d{4}-\d{2}-\d{2}T/.test(value) ? Date.parse(value) : Number.NaN
  if (Number.isNaN(at))
    throw invalidRequest('expiresAt must be an RFC 3339 time such as 2027-01-31T00:00:00Z', 'expiresAt')
  if (at <= nowMs) throw invalidRequest('expiresAt must lie in the future', 'expiresAt')
  return new Date(at)
}
