// Who reads the log screens that this service serves by itself: somebody with an admin key, for twelve hours, by cookie.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { mintToken } from '#platform/tenancy/token'
import { type Clock, rfc3339 } from '#platform/time'
import type { Caller } from '../access/directory.ts'
import { authorizeAdmin } from './admin-caller.ts'
import { admitCaller, refuseGuess } from './admit-request.ts'
import type { Access } from './caller.ts'
import { setCookie } from './cookie.ts'

export interface OwnSession {
  access: Access
  secret: Buffer
  clock: Clock
  version: string
}

const sessionS = 12 * 3_600

/** Undefined: no key was given, it is about something else. */
export function signInByKey(
  { access, secret, clock, version }: OwnSession,
  request: FastifyRequest,
  reply: FastifyReply,
  adminKey: string,
): FastifyReply {
  const caller = access.directory.authenticate(adminKey)
  if (typeof caller === 'string' || !caller.scopes.has('logs:admin')) {
    refuseGuess(access, request)
    return reply.code(401).send({ success: false, error: 'Invalid admin key' })
  }
  admitCaller(access, request, caller.key)
  // No more than the key may: one tenant's administrator.
  const claims = { audience: 'log-ingestion', role: 'tenant-admin', tenant: caller.tenant, subject: 'console' } as const
  const token = mintToken(secret, { ...claims, ttlS: sessionS, clock })
  return reply.header('set-cookie', setCookie(request, token)).send({
    ...meOf(caller, version),
    expiresAt: rfc3339(clock.now() + sessionS * 1_000),
  })
}

export function addOwnSession(app: FastifyInstance, o: OwnSession): void {
  app.get('/admin/me', async request => meOf(authorizeAdmin(o.access, request, 'any').caller, o.version))
  app.post('/admin/logout', async (request, reply) => {
    const ended = setCookie(request, '').replace(/Max-Age=\d+/, 'Max-Age=0')
    return await reply.header('set-cookie', ended).send({ success: true })
  })
}

/** As the console knows it from budgetguard. */
function meOf(caller: Caller, version: string) {
  return { role: 'tenant-admin', via: 'session', subject: caller.keyName, expiresAt: null, version }
}
