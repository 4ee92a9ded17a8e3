// Tokens of people who signed in: HS256, 24 hours, the claims that older instances on the same secret read too.

import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Clock } from '#platform/time'

export interface UserClaims {
  userId: number
  email: string
  name: string
  isAdmin: boolean
  /** Slug. Tokens of older instances carry none: public. */
  tenant: string
  isPlatformAdmin: boolean
}

export const tokenTtlS = 24 * 3_600
const issuer = 'cmd-log'
const header = encode({ alg: 'HS256', typ: 'JWT' })
const tokenBytesMax = 4_096
/** Clocks of two replicas. */
const leewayS = 30

/** Three base64url parts, the first a JSON object: no key of ours looks like this. */
export function looksLikeJwt(text: string): boolean {
  return text.length <= tokenBytesMax && /^eyJ[\w-]*\.[\w-]+\.[\w-]*$/.test(text)
}

export function mintJwt(secret: Buffer, claims: UserClaims, clock: Clock): string {
  const iat = Math.floor(clock.now() / 1_000)
  const body = encode({
    user_id: claims.userId,
    user_email: claims.email,
    user_name: claims.name,
    is_admin: claims.isAdmin,
    ...(claims.tenant === 'public' ? {} : { tenant: claims.tenant }),
    ...(claims.isPlatformAdmin ? { platform_admin: true } : {}),
    iss: issuer,
    iat,
    exp: iat + tokenTtlS,
  })
  return `${header}.${body}.${sign(secret, `${header}.${body}`).toString('base64url')}`
}

/** Undefined for anything but a token of ours that is still good; `alg` is never the sender's choice. */
export function verifyJwt(secret: Buffer, token: string, clock: Clock): UserClaims | undefined {
  if (!looksLikeJwt(token)) return undefined
  const [head = '', body = '', signature = ''] = token.split('.')
  const given = Buffer.from(signature, 'base64url')
  const expected = sign(secret, `${head}.${body}`)
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined
  const { alg } = decode(head)
  const claims = decode(body)
  const nowS = clock.now() / 1_000
  if (alg !== 'HS256' || claims.iss !== issuer) return undefined
  if (typeof claims.exp !== 'number' || claims.exp <= nowS) return undefined
  if (typeof claims.iat === 'number' && claims.iat > nowS + leewayS) return undefined
  const { user_id: userId, user_email: email, user_name: name, tenant } = claims
  if (typeof userId !== 'number' || !Number.isSafeInteger(userId) || typeof email !== 'string') return undefined
  return {
    userId,
    email,
    name: typeof name === 'string' ? name : '',
    isAdmin: claims.is_admin === true,
    tenant: typeof tenant === 'string' ? tenant : 'public',
    isPlatformAdmin: claims.platform_admin === true,
  }
}

function sign(secret: Buffer, text: string): Buffer {
  return createHmac('sha256', secret).update(text).digest()
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

function decode(part: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
    return typeof value === 'object' && value !== null ? { ...value } : {}
  } catch {
    return {}
  }
}
