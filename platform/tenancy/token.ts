// Internal tokens: what one service shows another, and the one-time sign-in link.
//
//   pit_<base64url(payload JSON)>.<base64url(HMAC-SHA-256)>
//
// The key is derived from the platform's secret, so every process of one installation can make and check them and
// nobody else can. They live for a minute; there is nothing to store or revoke.

import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto'
import type { Clock } from '../time.ts'
import { deriveKey } from './secret.ts'

export type Role = 'owner' | 'operator' | 'finance' | 'viewer' | 'tenant-admin' | 'tenant-viewer'

export const roles: readonly Role[] = ['owner', 'operator', 'finance', 'viewer', 'tenant-admin', 'tenant-viewer']

export interface TokenClaims {
  role: Role
  /** Slug; null for operators of the whole installation. */
  tenant: string | null
  /** Who speaks: `console`, `supervisor`, `usage`, … */
  subject: string
  /** Unique per token, for those that may be used only once. */
  id: string
}

export interface MintOptions {
  /** The service that may accept it, or `console-login`. */
  audience: string
  role: Role
  tenant?: string
  subject: string
  ttlS?: number
  clock: Clock
}

const prefix = 'pit_'
const defaultTtlS = 60
/** Clocks of two machines may disagree by this much. */
const skewS = 5
const tokenBytesMax = 2_048

export function mintToken(secret: Buffer, o: MintOptions): string {
  const nowS = Math.floor(o.clock.now() / 1_000)
  const payload = JSON.stringify({
    aud: o.audience,
    role: o.role,
    ...(o.tenant === undefined ? {} : { ten: o.tenant }),
    sub: o.subject,
    iat: nowS,
    exp: nowS + (o.ttlS ?? defaultTtlS),
    jti: randomUUID(),
  })
  const body = prefix + Buffer.from(payload).toString('base64url')
  return `${body}.${sign(secret, body).toString('base64url')}`
}

/** The claims of a token that is ours, for this audience and still good; null otherwise, without saying why. */
export function verifyToken(secret: Buffer, token: string, o: { audience: string; clock: Clock }): TokenClaims | null {
  if (!token.startsWith(prefix) || token.length > tokenBytesMax) return null
  const dot = token.lastIndexOf('.')
  if (dot < 0) return null
  const body = token.slice(0, dot)
  const given = Buffer.from(token.slice(dot + 1), 'base64url')
  const wanted = sign(secret, body)
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) return null

  // The signature is ours, so the payload is what mintToken wrote.
  const payload = JSON.parse(Buffer.from(body.slice(prefix.length), 'base64url').toString('utf8')) as {
    aud: string
    role: Role
    ten?: string
    sub: string
    iat: number
    exp: number
    jti: string
  }
  const nowS = o.clock.now() / 1_000
  if (payload.aud !== o.audience || nowS >= payload.exp + skewS || nowS < payload.iat - skewS) return null
  return { role: payload.role, tenant: payload.ten ?? null, subject: payload.sub, id: payload.jti }
}

/** Deriving costs microseconds, signing less; one secret per process makes a one-entry memory enough. */
let derived: { secret: Buffer; key: Buffer } | undefined

function sign(secret: Buffer, body: string): Buffer {
  if (derived?.secret !== secret) derived = { secret, key: deriveKey(secret, 'internal token') }
  return createHmac('sha256', derived.key).update(body).digest()
}
