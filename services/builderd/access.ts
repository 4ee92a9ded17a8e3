// Who calls, for which tenant, and what they may do. Decided once per call, the same for unary calls, streams and HTTP.

import { createHash, timingSafeEqual } from 'node:crypto'
import type { Principal, Role } from '#platform/tenancy/tenancy'
import { verifyToken } from '#platform/tenancy/token'
import type { Clock } from '#platform/time'
import { isTenantId } from './request.ts'

export type Scope = 'builds:read' | 'builds:write' | 'builds:admin'

/** A refusal; RPC and HTTP give it their own dress. */
export class AccessDenied extends Error {
  readonly kind: 'unauthenticated' | 'permission_denied' | 'unavailable'

  constructor(kind: AccessDenied['kind'], message: string) {
    super(message)
    this.kind = kind
  }
}

export interface Caller {
  /** The tenant the call is for; null only for operators who named none. */
  tenantId: string | null
  customerId: string
  /** May look across tenants. */
  isOperator: boolean
  isAdmin: boolean
  /** For the audit. */
  name: string
}

export interface AccessOptions {
  authenticate: (key: string) => Principal | 'unknown' | 'unavailable'
  /** Whether any living credential names a builds scope. */
  hasCredentials: () => boolean
  secret: Buffer
  authMode: 'auto' | 'required'
  /** `tenant:token` */
  authTokens: readonly string[]
  clock: Clock
}

export interface Access {
  /** @param header case-insensitive look-up @throws AccessDenied */
  identify(header: (name: string) => string | undefined, scope: Scope, o?: { tenantOptional?: boolean }): Caller
  mode(): 'open' | 'required'
}

interface Recognised {
  /** Null: not bound to one tenant. */
  tenantId: string | null
  scopes: ReadonlySet<string>
  /** A signed token or key of the operator, not merely the open door. */
  isOperator: boolean
  name: string
}

export function createAccess(o: AccessOptions): Access {
  const staticTokens = o.authTokens.map(entry => {
    const colon = entry.lastIndexOf(':')
    return { tenantId: entry.slice(0, colon), hash: sha256(entry.slice(colon + 1)) }
  })
  const mode = () => (o.authMode === 'required' || staticTokens.length > 0 || o.hasCredentials() ? 'required' : 'open')

  const recognise = (credential: string | undefined): Recognised => {
    if (credential?.startsWith('pit_')) {
      const claims = verifyToken(o.secret, credential, { audience: 'builderd', clock: o.clock })
      if (!claims) throw new AccessDenied('unauthenticated', 'the internal token is not valid (any more)')
      return {
        tenantId: claims.tenant,
        scopes: new Set(scopesOfRole[claims.role]),
        isOperator: claims.tenant === null,
        name: `${claims.subject} (${claims.role})`,
      }
    }
    if (mode() === 'open')
      return { tenantId: null, scopes: openScopes, isOperator: false, name: credential ?? 'anonymous' }
    if (credential === undefined) throw new AccessDenied('unauthenticated', 'a bearer token or API key is required')
    const hash = sha256(credential)
    const fixed = staticTokens.find(token => timingSafeEqual(token.hash, hash))
    if (fixed) return { tenantId: fixed.tenantId, scopes: openScopes, isOperator: false, name: 'static token' }
    const principal = o.authenticate(credential)
    if (principal === 'unknown') throw new AccessDenied('unauthenticated', 'the API key is not known')
    if (principal === 'unavailable')
      throw new AccessDenied('unavailable', 'the API key cannot be checked now; try again')
    return {
      tenantId: principal.tenant?.slug ?? null,
      scopes: principal.scopes,
      isOperator: principal.tenant === null,
      name: principal.keyName,
    }
  }

  return {
    mode,
    identify(header, scope, { tenantOptional = false } = {}) {
      const who = recognise(/^Bearer +(\S+)$/i.exec(header('authorization') ?? '')?.[1])
      if (!has(who.scopes, scope)) throw new AccessDenied('permission_denied', `this needs the scope ${scope}`)
      const named = header('x-tenant-id')
      if (named === undefined || named === '') {
        if (!tenantOptional || !(who.isOperator || mode() === 'open'))
          throw new AccessDenied('unauthenticated', 'tenant ID is required')
      } else if (!isTenantId(named))
        throw new AccessDenied('unauthenticated', 'tenant ID is required: X-Tenant-ID is not one')
      else if (who.tenantId !== null && who.tenantId !== named)
        throw new AccessDenied('permission_denied', `this credential does not speak for tenant ${named}`)
      return {
        tenantId: named || null,
        customerId: header('x-customer-id') ?? '',
        isOperator: who.isOperator,
        isAdmin: has(who.scopes, 'builds:admin'),
        name: who.name,
      }
    },
  }
}

const openScopes: ReadonlySet<string> = new Set(['builds:read', 'builds:write'])

const scopesOfRole: Readonly<Record<Role, readonly string[]>> = {
  owner: ['builds:*'],
  operator: ['builds:*'],
  finance: ['builds:read'],
  viewer: ['builds:read'],
  'tenant-admin': ['builds:read', 'builds:write'],
  'tenant-viewer': ['builds:read'],
}

function has(scopes: ReadonlySet<string>, scope: Scope): boolean {
  return scopes.has(scope) || scopes.has('builds:*') || scopes.has('admin') || scopes.has('builds:admin')
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
