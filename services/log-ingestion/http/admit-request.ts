// The request bucket of query and admin routes. Routes find out who asks without waiting for anybody; where replicas share
// their buckets, the token is fetched before the route begins.

import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { RequestBuckets, Verdict } from '../access/buckets.ts'
import { adminCredential, nativeCredential, protocolCredential } from '../access/credentials.ts'
import type { Directory } from '../access/directory.ts'
import type { Guesses } from '../access/guesses.ts'
import { rateLimited } from '../errors.ts'
import { cookieToken } from './cookie.ts'

interface Limited {
  directory: Directory
  /** Undefined when RATELIMIT_ENABLED=false. */
  buckets: RequestBuckets | undefined
  guesses: Guesses
}

const fetched = new WeakMap<FastifyRequest, { key: string; verdict: Verdict }>()

/** @throws Problem: this address failed too often */
export function refuseGuess({ guesses }: Limited, request: FastifyRequest): void {
  const waitS = guesses.failed(request.ip)
  if (waitS > 0) throw rateLimited(waitS)
}

/** @throws Problem: this address failed too often, or this key has no token left */
export function admitCaller({ buckets, guesses }: Limited, request: FastifyRequest, key: string): void {
  const waitS = guesses.admit(request.ip, key)
  if (waitS > 0) throw rateLimited(waitS)
  if (!buckets) return
  const known = fetched.get(request)
  const verdict = known?.key === key ? known.verdict : buckets.takeNow(key)
  if (!verdict.allowed) throw rateLimited(verdict.retryAfterS)
}

export function fetchTokens(app: FastifyInstance, limited: Limited): void {
  app.addHook('onRequest', async request => {
    const { buckets } = limited
    if (!buckets) return
    const key = keyOf(limited.directory, request)
    if (key !== undefined) fetched.set(request, { key, verdict: await buckets.take(key) })
  })
}

/** Each family of routes has a ladder of its own; the first credential that is one is as a rule the one they end at. */
function keyOf(directory: Directory, request: FastifyRequest): string | undefined {
  const { headers } = request
  const parameters = new URLSearchParams(request.url.split('?', 2)[1] ?? '')
  const found = [
    nativeCredential(headers),
    adminCredential(headers),
    protocolCredential({ headers, parameters }),
    cookieToken(request),
  ]
  for (const credential of new Set(found)) {
    const caller = credential === undefined ? 'unknown' : directory.authenticate(credential)
    if (typeof caller === 'object') return caller.key
  }
  return undefined
}
