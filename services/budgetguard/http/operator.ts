// Who may administrate: the admin key, a console session, or an internal token; and what each role may do.

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Sql } from '#platform/postgres'
import type { Actor } from '#platform/tenancy/tenancy'
import { verifyToken } from '#platform/tenancy/token'
import type { Clock } from '#platform/time'
import type { Role } from '../api.ts'
import { Refusal } from '../errors.ts'
import {
  type ConsoleSession,
  findSession,
  insertSession,
  removeSession,
  spendToken,
} from '../store/console-sessions.ts'
import { createFailureLimit } from './caller.ts'

export interface Operator {
  role: Role
  via: 'admin-key' | 'session' | 'token'
  subject: string
  expiresAtMs: number | null
  actor: Actor
}

declare module 'fastify' {
  interface FastifyRequest {
    operator: Operator | null
  }
}

export interface Operators {
  /** @throws Refusal 401, or 403 when the role or the origin does not allow this request */
  authorize(request: FastifyRequest, need: Need): Promise<Operator>
  login(
    request: FastifyRequest,
    reply: FastifyReply,
    credential: { adminKey: string } | { token: string },
  ): Promise<Operator>
  logout(request: FastifyRequest, reply: FastifyReply): Promise<void>
}

/** `read`: any role of the installation. `money`: budgets and prices. `administer`: the rest. */
export type Need = 'read' | 'money' | 'administer'

const allowed: Readonly<Record<Need, ReadonlySet<Role>>> = {
  read: new Set<Role>(['owner', 'operator', 'finance', 'viewer']),
  money: new Set<Role>(['owner', 'operator', 'finance']),
  administer: new Set<Role>(['owner', 'operator']),
}

const cookieName = 'bg_session'
const sessionS = 12 * 3_600
/** A revoked session is noticed after this. */
const sessionCacheMs = 2_000
/** Longer than a sign-in link lives. */
const rememberTokenMs = 15 * 60_000

export function createOperators(o: {
  sql: Sql
  secret: Buffer
  /** Undefined: the admin API is closed. */
  adminKey: string | undefined
  clock: Clock
  onFailure: () => void
}): Operators {
  const { sql, clock } = o
  const failures = createFailureLimit(clock)
  const cache = new Map<string, { session: ConsoleSession | undefined; untilMs: number }>()
  const adminKeyHash = o.adminKey === undefined ? undefined : sha256(o.adminKey)

  const isAdminKey = (given: string) => adminKeyHash !== undefined && timingSafeEqual(sha256(given), adminKeyHash)

  const failed = (request: FastifyRequest): Refusal => {
    o.onFailure()
    try {
      failures.count(request.ip)
    } catch (error) {
      if (error instanceof Refusal) return error
    }
    return unauthorized()
  }

  const identify = async (request: FastifyRequest): Promise<Operator | null> => {
    const adminKey = request.headers['x-admin-key']
    if (typeof adminKey === 'string') {
      if (!isAdminKey(adminKey)) throw failed(request)
      return operator('owner', 'admin-key', 'admin key', null, request)
    }
    const bearer = /^Bearer +(pit_\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
    if (bearer !== undefined) {
      const claims = verifyToken(o.secret, bearer, { audience: 'budgetguard', clock })
      if (!claims) throw failed(request)
      return operator(claims.role, 'token', claims.subject, null, request)
    }
    const id = sessionIdOf(request)
    if (id === null || adminKeyHash === undefined) return null
    const session = await loadSession(id)
    return session ? operator(session.role, 'session', session.subject, session.expiresAtMs, request) : null
  }

  const loadSession = async (id: string): Promise<ConsoleSession | undefined> => {
    const hash = sha256(id)
    const name = hash.toString('base64')
    const nowMs = clock.monotonicMs()
    const known = cache.get(name)
    if (known && known.untilMs > nowMs) return known.session
    const session = await findSession(sql, hash)
    if (cache.size >= 1_000) cache.clear()
    cache.set(name, { session, untilMs: nowMs + sessionCacheMs })
    return session
  }

  return {
    async authorize(request, need) {
      const found = await identify(request)
      if (!found) throw unauthorized()
      if (found.via === 'session' && changesState(request)) requireSameOrigin(request)
      if (!allowed[need].has(found.role))
        throw new Refusal({
          status: 403,
          reason: 'FORBIDDEN',
          message: `The role ${found.role} may not do this; it needs ${[...allowed[need]].join(', ')}`,
        })
      return found
    },

    async login(request, reply, credential) {
      if (request.headers.origin !== undefined || request.headers['sec-fetch-site'] !== undefined)
        requireSameOrigin(request)
      if (adminKeyHash === undefined) throw unauthorized()
      let role: Role
      let subject: string
      if ('adminKey' in credential) {
        if (!isAdminKey(credential.adminKey)) throw failed(request)
        role = 'owner'
        subject = 'admin key'
      } else {
        const claims = verifyToken(o.secret, credential.token, { audience: 'console-login', clock })
        if (!claims || !(await spendToken(sql, claims.id, clock.now() + rememberTokenMs))) throw failed(request)
        role = claims.role
        subject = 'sign-in link'
      }
      const id = randomBytes(32).toString('base64url')
      const expiresAtMs = clock.now() + sessionS * 1_000
      await insertSession(sql, sha256(id), { role, subject, expiresAtMs })
      reply.header('set-cookie', cookie(request, id, sessionS))
      return operator(role, 'session', subject, expiresAtMs, request)
    },

    async logout(request, reply) {
      const id = sessionIdOf(request)
      if (id !== null) {
        requireSameOrigin(request)
        const hash = sha256(id)
        cache.delete(hash.toString('base64'))
        await removeSession(sql, hash)
      }
      reply.header('set-cookie', cookie(request, '', 0))
    },
  }
}

function operator(
  role: Role,
  via: Operator['via'],
  subject: string,
  expiresAtMs: number | null,
  request: FastifyRequest,
): Operator {
  const kind = via === 'admin-key' ? 'key' : via
  return { role, via, subject, expiresAtMs, actor: { kind, name: subject, address: request.ip } }
}

function changesState(request: FastifyRequest): boolean {
  return request.method !== 'GET' && request.method !== 'HEAD'
}

/** A cookie rides along on requests that other pages start; those carry another origin, or none. */
function requireSameOrigin(request: FastifyRequest): void {
  const site = request.headers['sec-fetch-site']
  if (site === 'same-origin') return
  const origin = request.headers.origin
  if (site === undefined && origin !== undefined && URL.canParse(origin) && new URL(origin).host === request.host)
    return
  throw new Refusal({
    status: 403,
    reason: 'CROSS_ORIGIN',
    message: 'A session cookie changes things only from the console’s own pages; use X-Admin-Key elsewhere',
  })
}

export function unauthorized(): Refusal {
  return new Refusal({ status: 401, reason: 'UNAUTHORIZED', message: 'Unauthorized' })
}

function sessionIdOf(request: FastifyRequest): string | null {
  const match = new RegExp(`(?:^|;\\s*)${cookieName}=([A-Za-z0-9_-]{43})(?:;|$)`).exec(request.headers.cookie ?? '')
  return match?.[1] ?? null
}

function cookie(request: FastifyRequest, value: string, maxAgeS: number): string {
  const secure = request.protocol === 'https' ? '; Secure' : ''
  return `${cookieName}=${value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${maxAgeS}${secure}`
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
