// Who asks the error tracker: a key, bare or in X-API-Key; else a person's token in Bearer or the cookie.

import type { FastifyRequest } from 'fastify'
import { Problem } from '#platform/http'
import type { Scope } from '../access/directory.ts'
import { directoryUnavailable, scopeMissing } from '../errors.ts'
import { admitCaller, refuseGuess } from './admit-request.ts'
import { type Access, type Asker, tenantOf } from './caller.ts'
import { cookieToken } from './cookie.ts'

/** @throws Problem */
export function authorizeFaults(access: Access, request: FastifyRequest, scope: Scope): Asker {
  const caller = callerOf(access, request)
  if (typeof caller === 'string') {
    refuseGuess(access, request)
    if (caller === 'unavailable') throw directoryUnavailable()
    const error = 'Valid API key or authentication token required'
    throw new Problem({ status: 401, reason: 'UNAUTHENTICATED', detail: error, extra: { error } })
  }
  admitCaller(access, request, caller.key)
  if (!caller.scopes.has(scope)) throw scopeMissing(scope)
  return { caller, tenant: tenantOf(caller, request) }
}

function callerOf(access: Access, request: FastifyRequest) {
  const { authorization = '', 'x-api-key': own } = request.headers
  const bearer = /^bearer +(\S+)$/i.exec(authorization)?.[1]
  const key = authorization !== '' && bearer === undefined ? authorization : typeof own === 'string' ? own : undefined
  let isUnavailable = false
  // Behind Bearer is a token, of a person or of the platform, and never a key.
  const token = bearer !== undefined && /^(eyJ|pit_)/.test(bearer) ? bearer : undefined
  for (const credential of [key, token, cookieToken(request)]) {
    if (!credential) continue
    const found = access.directory.authenticate(credential)
    if (typeof found !== 'string') return found
    isUnavailable ||= found === 'unavailable'
  }
  return isUnavailable ? 'unavailable' : 'unknown'
}
