// Keys of the tenant, in the guide's shapes. Who is not an administrator sees and withdraws what he made himself.

import type { FastifyInstance } from 'fastify'
import type { Actor, Tenancy } from '#platform/tenancy/tenancy'
import { writeScopes } from '../access/directory.ts'
import type { KeysAnswer } from '../api.ts'
import { storeUnavailable } from '../errors.ts'
import type { ApiKeys, ListedKey } from '../store/api-keys.ts'
import type { Users } from '../store/users.ts'
import { asking, authorizeAdmin, guideError } from './admin-caller.ts'
import type { Access, Asker } from './caller.ts'

export interface KeysContext {
  access: Access
  tenancy: () => Tenancy | undefined
  /** Undefined until the database was there once. */
  apiKeys: () => ApiKeys | undefined
  users: () => Users | undefined
}

export function addKeys(app: FastifyInstance, context: KeysContext): void {
  const open = (slug: string) => {
    const keys = context.apiKeys()
    const tenant = context.tenancy()?.tenants.bySlug(slug)
    if (!keys || !tenant) throw storeUnavailable('the directory of keys was not reached yet')
    return { keys, tenantId: tenant.id }
  }

  app.get('/admin/api/keys', async (request): Promise<KeysAnswer> => {
    const { caller, tenant } = authorizeAdmin(context.access, request, 'any')
    const { keys, tenantId } = open(tenant)
    const all = await asking(() => keys.list(tenantId))
    return { keys: all.filter(key => maySee(caller, key)).map(keyJson) }
  })

  app.post('/admin/api/keys', async (request, reply) => {
    const { caller, tenant } = authorizeAdmin(context.access, request, 'any')
    const { name, description = '' } = (request.body ?? {}) as Record<string, unknown>
    if (typeof name !== 'string' || name.trim() === '' || name.length > 200)
      return guideError(reply, 400, 'Invalid request', 'name must be a text of 1 to 200 characters')
    if (typeof description !== 'string' || description.length > 2_000)
      return guideError(reply, 400, 'Invalid request', 'description must be a text of at most 2000 characters')
    const { keys, tenantId } = open(tenant)
    const made = await asking(() =>
      keys.create(
        { tenantId, name: name.trim(), description, scopes: writeScopes, userId: caller.user?.userId ?? null },
        actorOf(caller, request.ip),
      ),
    )
    const { id, ...rest } = keyJson(made)
    return {
      id,
      key: made.key,
      ...rest,
      message: 'API key created successfully. Save this key - it will not be shown again!',
    }
  })

  app.post('/admin/api/keys/seal', async (request, reply) => {
    const { caller } = authorizeAdmin(context.access, request, 'logs:admin')
    // The table of older installations belongs to the default tenant.
    if (caller.tenant !== 'public' && !caller.anyTenant) return guideError(reply, 403, 'Not of this tenant')
    const { keys } = open('public')
    const tenancy = context.tenancy()
    const sealed = await asking(async () => {
      await keys.adopt()
      const count = await keys.seal()
      if (count > 0)
        await tenancy?.audit({
          actor: actorOf(caller, request.ip),
          action: 'keys.seal',
          object: 'public.api_keys',
          after: { count },
        })
      return count
    })
    return { sealed, readable: await asking(() => keys.countPlain()) }
  })

  app.delete('/admin/api/keys/:id', async (request, reply) => {
    const { caller, tenant } = authorizeAdmin(context.access, request, 'any')
    const { id } = request.params as { id: string }
    if (!/^\d{1,18}$/.test(id)) return guideError(reply, 400, 'Invalid API key ID')
    const { keys, tenantId } = open(tenant)
    const isGone = await asking(async () => {
      const key = (await keys.list(tenantId)).find(key => key.id === BigInt(id) && maySee(caller, key))
      return key !== undefined && (await keys.revoke(key, actorOf(caller, request.ip)))
    })
    if (!isGone) return guideError(reply, 404, 'Failed to delete API key', `there is no active key ${id}`)
    return { message: 'API key deleted successfully' }
  })
}

function maySee(caller: Asker['caller'], key: ListedKey): boolean {
  return caller.scopes.has('logs:admin') || key.createdByUserId === caller.user?.userId
}

export function actorOf({ user, keyName }: Asker['caller'], address: string): Actor {
  return user ? { kind: 'session', name: user.email, address } : { kind: 'key', name: keyName, address }
}

function keyJson(key: ListedKey) {
  return {
    id: Number(key.id),
    name: key.name,
    description: key.description,
    created_at: key.createdAt.toISOString(),
    is_active: key.isActive,
    created_by_user_id: key.createdByUserId,
  }
}
