// Accounts made by an administrator, beside the guide's sign-up: with a password that is shown once.

import { randomBytes } from 'node:crypto'
import bcrypt from 'bcryptjs'
import type { FastifyInstance } from 'fastify'
import { storeUnavailable } from '../errors.ts'
import { asking, authorizeAdmin, guideError } from './admin-caller.ts'
import { actorOf, type KeysContext } from './keys.ts'
import { faultOf, userJson } from './sign-in.ts'

const bcryptCost = 10

export function addUsers(app: FastifyInstance, context: KeysContext): void {
  app.post('/admin/api/users', async (request, reply) => {
    const { caller, tenant } = authorizeAdmin(context.access, request, 'logs:admin')
    const body = (request.body ?? {}) as Record<string, unknown>
    const email = typeof body.email === 'string' ? body.email.trim().toLowerCase() : ''
    const name =
      typeof body.name === 'string' && body.name.trim() !== '' ? body.name.trim() : (email.split('@')[0] ?? '')
    const isAdmin = body.is_admin === true
    const password = randomBytes(15).toString('base64url')
    const fault = faultOf(email, name, password)
    if (fault !== undefined) return guideError(reply, 400, 'Invalid request', fault)
    const users = context.users()
    const tenancy = context.tenancy()
    if (!users || !tenancy?.tenants.bySlug(tenant)) throw storeUnavailable('the table of users was not reached yet')
    const passwordHash = await bcrypt.hash(password, bcryptCost)
    const user = await asking(async () => {
      const made = await users.add({ email, name, passwordHash, isAdmin, tenant })
      if (made)
        await tenancy.audit({
          actor: actorOf(caller, request.ip),
          action: 'user.create',
          object: `user ${made.id} (${email}) of tenant ${tenant}`,
          after: { isAdmin },
        })
      return made
    })
    if (!user) return guideError(reply, 409, 'A user with this email already exists')
    return reply.code(201).send({ user: userJson(user), password })
  })
}
