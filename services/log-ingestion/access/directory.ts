// Who is calling. Keys of the environment are known from the start; keys of the directory once the database was there,
// and from then on from memory; internal tokens by their signature. Never a query per request.

import { createHmac } from 'node:crypto'
import { deriveKey } from '#platform/tenancy/secret'
import type { Principal, Tenancy } from '#platform/tenancy/tenancy'
import { type Role, verifyToken } from '#platform/tenancy/token'
import type { Clock } from '#platform/time'
import { looksLikeJwt, type UserClaims, verifyJwt } from './jwt.ts'
import type { KeySnapshot, KnownKey } from './key-snapshot.ts'

export const scopes = ['logs:write', 'logs:read', 'logs:admin', 'faults:write', 'faults:read', 'tenants:any'] as const
export type Scope = (typeof scopes)[number]

export interface Caller {
  /** Slug the caller belongs to. */
  tenant: string
  /** May name another tenant with ?tenant=. */
  anyTenant: boolean
  scopes: ReadonlySet<string>
  /** Of the ledger and of limits: id of a stored key, name of an environment key, subject of a token. */
  key: string
  /** For metrics and logs. */
  keyName: string
  /** Somebody who signed in. */
  user?: UserClaims
}

export interface StaticKey {
  key: string
  tenant: string
  /** Undefined: `env-` and the first six hex digits of its hash. */
  name?: string
  scopes: readonly Scope[]
}

export interface Directory {
  /** `unavailable`: not known here, and the database that might know it cannot be asked. */
  authenticate(credential: string): Caller | 'unknown' | 'unavailable'
  /** Whose key of the environment that is. */
  named(keyName: string): Caller | undefined
  /** From here on stored keys are known too. */
  connect(tenancy: Tenancy): void
  /** From here on tokens of people who signed in are known. */
  trustTokens(secret: Buffer): void
  /** Replaces the keys of the environment; the next request is judged by the new ones. */
  setStatic(keys: readonly StaticKey[]): void
}

export const writeScopes: readonly Scope[] = ['logs:write', 'faults:write', 'faults:read']
export const adminScopes: readonly Scope[] = ['logs:write', 'logs:read', 'logs:admin', 'faults:write', 'faults:read']

export function createDirectory(o: {
  secret: Buffer
  clock: Clock
  staticKeys: readonly StaticKey[]
  /** Who was known when the database was last there. */
  snapshot?: Pick<KeySnapshot, 'find'>
}): Directory {
  const hashKey = deriveKey(o.secret, 'log key')
  const hashOf = (key: string) => createHmac('sha256', hashKey).update(key).digest('hex')
  let fixed = fixedOf(o.staticKeys, hashOf)
  const callers = new WeakMap<Principal, Caller>()
  let tenancy: Tenancy | undefined
  let jwtSecret: Buffer | undefined

  return {
    authenticate(credential) {
      if (credential.startsWith('pit_')) {
        const claims = verifyToken(o.secret, credential, { audience: 'log-ingestion', clock: o.clock })
        if (!claims) return 'unknown'
        const isOperator = claims.tenant === null
        return {
          tenant: claims.tenant ?? 'public',
          anyTenant: isOperator,
          scopes: scopesOf(claims.role),
          key: `token:${claims.subject}`,
          keyName: claims.subject,
        }
      }
      if (looksLikeJwt(credential)) {
        if (!jwtSecret) return 'unavailable'
        const user = verifyJwt(jwtSecret, credential, o.clock)
        return user ? callerOf(user) : 'unknown'
      }
      const known = fixed.get(hashOf(credential))
      if (known) return known
      if (!tenancy) {
        const key = o.snapshot?.find(credential)
        return key ? callerOfKey(key) : 'unavailable'
      }
      const principal = tenancy.authenticate(credential)
      if (principal === 'unknown' || principal === 'unavailable') return principal
      const before = callers.get(principal)
      if (before) return before
      const caller: Caller = {
        tenant: principal.tenant?.slug ?? 'public',
        anyTenant: principal.scopes.has('tenants:any') || principal.tenant === null,
        scopes: principal.scopes.has('admin') ? new Set(scopes) : principal.scopes,
        key: principal.keyId === null ? principal.keyName : String(principal.keyId),
        keyName: principal.keyName,
      }
      callers.set(principal, caller)
      return caller
    },
    named: keyName => [...fixed.values()].find(caller => caller.keyName === keyName),
    connect(opened) {
      tenancy = opened
    },
    trustTokens(secret) {
      jwtSecret = secret
    },
    setStatic(keys) {
      fixed = fixedOf(keys, hashOf)
    },
  }
}

function fixedOf(keys: readonly StaticKey[], hashOf: (key: string) => string): ReadonlyMap<string, Caller> {
  const fixed = new Map<string, Caller>()
  for (const { key, tenant, name, scopes: granted } of keys) {
    const hash = hashOf(key)
    const keyName = name ?? `env-${hash.slice(0, 6)}`
    // One key given twice has the rights of both.
    const before = fixed.get(hash)
    fixed.set(hash, {
      tenant,
      anyTenant: false,
      scopes: new Set([...granted, ...(before?.scopes ?? [])]),
      key: keyName,
      keyName,
    })
  }
  return fixed
}

function callerOfKey({ tenant, scopes: granted, id, name }: KnownKey): Caller {
  return {
    tenant,
    anyTenant: granted.includes('tenants:any'),
    scopes: new Set(granted.includes('admin') ? scopes : granted),
    key: id,
    keyName: name,
  }
}

/** People read, administrators administer; sending is what keys are for. */
function callerOf(user: UserClaims): Caller {
  return {
    tenant: user.tenant,
    anyTenant: user.isPlatformAdmin,
    scopes: user.isAdmin ? userAdmin : userOnly,
    key: `user:${user.userId}`,
    keyName: `user ${user.userId}`,
    user,
  }
}
const userOnly: ReadonlySet<string> = new Set(['logs:read', 'faults:write', 'faults:read'])
const userAdmin: ReadonlySet<string> = new Set([...userOnly, 'logs:admin'])

function scopesOf(role: Role): ReadonlySet<string> {
  switch (role) {
    case 'owner':
    case 'operator':
      return all
    case 'tenant-admin':
      return tenantAdmin
    case 'viewer':
    case 'tenant-viewer':
      return readOnly
    case 'finance':
      return none
    default:
      return role satisfies never
  }
}
const all: ReadonlySet<string> = new Set(scopes)
const tenantAdmin: ReadonlySet<string> = new Set(adminScopes)
const readOnly: ReadonlySet<string> = new Set(['logs:read', 'faults:read'])
const none: ReadonlySet<string> = new Set()

/** `slug=key` gives a key to that tenant; anything else is a key of `public`. Generated keys end in `=`, which is no slug. */
export function parseStaticKey(text: string): { key: string; tenant: string } {
  const match = /^([a-z0-9][a-z0-9._-]{0,62})=(.+)$/.exec(text)
  return match?.[1] !== undefined && match[2] !== undefined && !/^=*$/.test(match[2])
    ? { tenant: match[1], key: match[2] }
    : { tenant: 'public', key: text }
}
