// Who is calling the data plane. A gateway key may come in the place where each official client puts its key; a second
// one beside it is then the caller's own provider key for this call.

import type { FastifyRequest } from 'fastify'
import { mayDo, type Principal, type Tenancy, type Tenant } from '#platform/tenancy/tenancy'
import type { Clock } from '#platform/time'
import { keyInvalid, keyMissing, Refusal } from '../errors.ts'
import type { Metrics } from '../observe/metrics.ts'

export interface Caller {
  tenant: Tenant
  keyId: bigint | null
  /** First eight characters: enough to recognise a key, not to use it. */
  keyPrefix: string
  /** The caller's own provider keys for this call. */
  ownKeys: { openai: string | null; anthropic: string | null; google: string | null }
}

export type Authenticate = (request: FastifyRequest) => Caller

/** Above this many failures a minute from one address its failures are 429; known keys are recognised first. */
const failuresPerMinuteMax = 20
const addressesMax = 10_000

export function createAuthenticate(o: { tenancy: Tenancy; clock: Clock; metrics: Metrics }): Authenticate {
  const failures = createFailureLimit(o.clock)

  return request => {
    const bearer = bearerOf(request)
    const candidates = [
      bearer,
      text(request.headers['x-api-key']),
      text(request.headers['x-goog-api-key']),
      request.url.startsWith('/v1beta') || request.url.includes('/models/') ? queryKey(request) : null,
    ].filter(key => key !== null)
    let isUnavailable = false
    for (const key of candidates) {
      const principal = o.tenancy.authenticate(key)
      if (principal === 'unavailable') isUnavailable = true
      else if (principal !== 'unknown' && principal.tenant)
        return callerOf(request, principal, principal.tenant, key, bearer)
    }
    if (isUnavailable)
      throw new Refusal({
        status: 503,
        reason: 'KEY_STORE_UNAVAILABLE',
        message: 'This key is not known here and the key store cannot be reached; try again',
        headers: { 'retry-after': '5' },
      })
    o.metrics.authFailures.labels(candidates.length === 0 ? 'missing' : 'invalid').inc()
    failures.count(request.ip)
    throw candidates.length === 0 ? keyMissing() : keyInvalid()
  }
}

/** Failures of one address in one minute; a limit that is passed refuses failures only. */
export function createFailureLimit(clock: Clock) {
  const byAddress = new Map<string, { count: number; untilMs: number }>()
  return {
    /** @throws Refusal 429 */
    count(address: string): void {
      const nowMs = clock.monotonicMs()
      const entry = byAddress.get(address)
      if (!entry || entry.untilMs <= nowMs) {
        const [oldest] = byAddress.keys()
        if (byAddress.size >= addressesMax && oldest !== undefined) byAddress.delete(oldest)
        byAddress.delete(address)
        byAddress.set(address, { count: 1, untilMs: nowMs + 60_000 })
        return
      }
      entry.count += 1
      if (entry.count <= failuresPerMinuteMax) return
      const waitS = Math.ceil((entry.untilMs - nowMs) / 1_000)
      throw new Refusal({
        status: 429,
        reason: 'RATE_LIMIT_EXCEEDED',
        message: `Too many failed sign-ins from this address; try again in ${waitS} s`,
        headers: { 'retry-after': String(waitS) },
      })
    },
  }
}

function callerOf(
  request: FastifyRequest,
  principal: Principal,
  tenant: Tenant,
  key: string,
  bearer: string | null,
): Caller {
  if (!mayDo(principal, 'ai'))
    throw new Refusal({
      status: 403,
      reason: 'FORBIDDEN',
      message: 'This key may not call models: it lacks the scope "ai"',
    })
  // An official client sends its provider key as Bearer; with a gateway key elsewhere, that is the caller's own.
  const own = bearer !== null && bearer !== key ? bearer : null
  return {
    tenant,
    keyId: principal.keyId,
    keyPrefix: key.slice(0, 8),
    ownKeys: {
      openai: text(request.headers['x-openai-key']) ?? own,
      anthropic: text(request.headers['x-anthropic-key']) ?? own,
      google: text(request.headers['x-google-api-key']) ?? own,
    },
  }
}

function bearerOf(request: FastifyRequest): string | null {
  const match = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')
  return match?.[1] ?? null
}

function queryKey(request: FastifyRequest): string | null {
  const query = request.query
  const key = typeof query === 'object' && query !== null && 'key' in query ? query.key : null
  return typeof key === 'string' && key !== '' ? key : null
}

function text(value: string | string[] | undefined): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}
