import { createHash, timingSafeEqual } from 'node:crypto'
import type { Principal, Role } from '#platform/tenancy/tenancy'
import { verifyToken } from '#platform/tenancy/token'
import type { Clock } from '#platform/time'

export type Scope = 'billaged:ingest' | 'billaged:read' | 'billaged:bill' | 'billaged:admin'

/** Who calls, once recognised. */
export interface Caller {
  /** Slug; null for an operator of the whole installation. */
  tenant: string | null
  scopes: ReadonlySet<string>
  /** For the audit. */
  name: string
}

export type Recognised = Caller | 'none' | 'unknown' | 'unavailable'

/** From an Authorization header to a caller. `authenticate` is tenancy's, from memory. */
export function createRecogniser(o: {
  authenticate: (key: string) => Principal | 'unknown' | 'unavailable'
  secret: Buffer
  apiKey: string
  clock: Clock
}): (authorization: string | undefined) => Recognised {
  const operatorHash = sha256(o.apiKey)
  return authorization => {
    const credential = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    // The guide's command line sends this label with every call; it names a person and proves nothing.
    if (credential === undefined || credential.startsWith('dev_user_')) return 'none'
    if (timingSafeEqual(sha256(credential), operatorHash))
      return { tenant: null, scopes: new Set(['admin']), name: 'operator key' }
    if (credential.startsWith('pit_')) {
      const claims = verifyToken(o.secret, credential, { audience: 'billaged', clock: o.clock })
      if (claims === null) return 'unknown'
      const scopes = scopesOf(claims.role, claims.subject)
      return { tenant: claims.tenant, scopes, name: `${claims.subject} (${claims.role})` }
    }
    const principal = o.authenticate(credential)
    if (typeof principal === 'string') return principal
    return { tenant: principal.tenant?.slug ?? null, scopes: principal.scopes, name: principal.keyName }
  }
}

export function may(caller: Caller, scope: Scope): boolean {
  return caller.scopes.has(scope) || caller.scopes.has('billaged:*') || caller.scopes.has('admin')
}

/** An operator acts for everyone, a tenant for itself. */
export function actsFor(caller: Caller, customerId: string): boolean {
  return caller.tenant === null || caller.tenant === customerId
}

const scopesOfRole: Readonly<Record<Role, readonly string[]>> = {
  owner: ['admin'],
  operator: ['admin'],
  finance: ['billaged:read', 'billaged:bill'],
  viewer: ['billaged:read'],
  'tenant-admin': ['billaged:read'],
  'tenant-viewer': ['billaged:read'],
}

function scopesOf(role: Role, subject: string): ReadonlySet<string> {
  // The platform's services report usage with a token of this subject: it posts events and does nothing else.
  return new Set(subject === 'usage' ? ['billaged:ingest'] : scopesOfRole[role])
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
