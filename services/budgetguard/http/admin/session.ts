// POST /admin/login, POST /admin/logout, GET /admin/me

import type { FastifyInstance } from 'fastify'
import { rfc3339 } from '#platform/time'
import type { Me } from '../../api.ts'
import { invalidRequest } from '../../errors.ts'
import type { Operator } from '../operator.ts'
import type { Admin } from './admin.ts'
import { operatorOf } from './admin.ts'
import { bodyOf } from './input.ts'

export function registerSession(scope: FastifyInstance, admin: Admin): void {
  scope.post('/admin/login', { config: { need: 'public' } }, async (request, reply): Promise<Me> => {
    const { adminKey, token } = bodyOf(request)
    const credential = typeof adminKey === 'string' ? { adminKey } : typeof token === 'string' ? { token } : undefined
    if (!credential) throw invalidRequest('Send {"adminKey": "…"} or {"token": "…"} of a sign-in link')
    const operator = await admin.operators.login(request, reply, credential)
    await admin.tenancy.audit({ actor: operator.actor, action: 'console.login', object: `role ${operator.role}` })
    return me(operator, admin.version)
  })
  scope.post('/admin/logout', { config: { need: 'public' } }, async (request, reply) => {
    await admin.operators.logout(request, reply)
    return { ok: true }
  })
  scope.get('/admin/me', async (request): Promise<Me> => me(operatorOf(request), admin.version))
}

function me(operator: Operator, version: string): Me {
  return {
    role: operator.role,
    via: operator.via,
    subject: operator.subject,
    expiresAt: operator.expiresAtMs === null ? null : rfc3339(operator.expiresAtMs),
    version,
  }
}
