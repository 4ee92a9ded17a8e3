// Who asks on the query routes, and for which tenant.

import type { FastifyRequest } from 'fastify'
import type { RequestBuckets } from '../access/buckets.ts'
import { nativeCredential } from '../access/credentials.ts'
import type { Caller, Directory, Scope } from '../access/directory.ts'
import type { Guesses } from '../access/guesses.ts'
import { badParameter, directoryUnavailable, keyInvalid, keyRequired, scopeMissing } from '../errors.ts'
import { admitCaller, refuseGuess } from './admit-request.ts'
import { cookieToken } from './cookie.ts'

export interface Access {
  directory: Directory
  /** Of query routes; undefined when RATELIMIT_ENABLED=false. */
  buckets: RequestBuckets | undefined
  guesses: Guesses
}

export interface Asker {
  caller: Caller
  /** Goes into every statement. */
  tenant: string
}

/** `credential` is for routes that carry it in a way of their own. @throws Problem */
export function authorize(
  access: Access,
  request: FastifyRequest,
  scope: Scope,
  credential: string | undefined = nativeCredential(request.headers) ?? cookieToken(request),
): Asker {
  const caller = credential === undefined ? 'none' : access.directory.authenticate(credential)
  if (typeof caller === 'string') {
    refuseGuess(access, request)
    throw caller === 'none' ? keyRequired() : caller === 'unavailable' ? directoryUnavailable() : keyInvalid()
  }
  admitCaller(access, request, caller.key)
  if (!caller.scopes.has(scope)) throw scopeMissing(scope)
  return { caller, tenant: tenantOf(caller, request) }
}

/** `?tenant=` is for callers of no single tenant; for others it changes nothing they may see. */
export function tenantOf(caller: Caller, request: FastifyRequest): string {
  const { tenant } = request.query as Record<string, unknown>
  if (tenant === undefined || !caller.anyTenant) return caller.tenant
  if (typeof tenant !== 'string' || !/^[a-z0-9][a-z0-9._-]{0,62}$/.test(tenant))
    throw badParameter('tenant', 'is not the slug of a tenant')
  return tenant
}
