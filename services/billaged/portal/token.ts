import { createHash, randomBytes } from 'node:crypto'

// A portal token is 256 random bits. We keep its SHA-256, which is enough to know it by and not to make it from.

/** As OpenMeter's SDK knows them. */
const prefix = 'om_portal_'

export function newPortalToken(): { token: string; hash: Buffer } {
  const token = prefix + randomBytes(32).toString('base64url')
  return { token, hash: hashPortalToken(token) }
}

export function isPortalToken(credential: string): boolean {
  return credential.length <= 200 && credential.startsWith(prefix)
}

export function hashPortalToken(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
