// Who asks under /admin: a person's token in Bearer, X-API-Key or the cookie, or an admin key; answers in the guide's shape.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { Problem } from '#platform/http'
import { isUnavailable } from '#platform/postgres'
import { adminCredential } from '../access/credentials.ts'
import type { Scope } from '../access/directory.ts'
import { directoryUnavailable, storeUnavailable } from '../errors.ts'
import { admitCaller, refuseGuess } from './admit-request.ts'
import { type Access, type Asker, tenantOf } from './caller.ts'
import { cookieToken } from './cookie.ts'

const json = 'application/json; charset=utf-8'

/** @throws Problem in the words of the guide's middleware */
export function authorizeAdmin(access: Access, request: FastifyRequest, scope: Scope | 'any'): Asker {
  const credential = adminCredential(request.headers) ?? cookieToken(request)
  if (credential === undefined) throw unauthenticated('Authentication required')
  const caller = access.directory.authenticate(credential)
  if (caller === 'unavailable') throw directoryUnavailable()
  const isEnough =
    caller !== 'unknown' &&
    (scope === 'any' ? caller.user !== undefined || caller.scopes.has('logs:admin') : caller.scopes.has(scope))
  if (!isEnough) {
    refuseGuess(access, request)
    throw unauthenticated('Invalid or expired token')
  }
  admitCaller(access, request, caller.key)
  return { caller, tenant: tenantOf(caller, request) }
}

function unauthenticated(error: string): Problem {
  return new Problem({ status: 401, reason: 'UNAUTHENTICATED', detail: error, extra: { error } })
}

export function guideError(reply: FastifyReply, status: number, error: string, details?: string): FastifyReply {
  return reply
    .code(status)
    .type(json)
    .send(JSON.stringify({ error, ...(details === undefined ? {} : { details }) }))
}

/** An absent database is a 503 that says so. */
export async function asking<T>(query: () => Promise<T>): Promise<T> {
  try {
    return await query()
  } catch (error) {
    if (isUnavailable(error)) throw storeUnavailable(error instanceof Error ? error.message : String(error))
    throw error
  }
}
