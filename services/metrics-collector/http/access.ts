// Who may read /api/v1. Health and metrics are open to everyone who can reach the port.

import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { type Role, verifyToken } from '#platform/tenancy/token'
import type { Clock } from '#platform/time'
import { HttpError } from './reply.ts'

export interface AccessOptions {
  /** Content of api.token_file. */
  apiToken: string | undefined
  /** Root secret of the platform, for tokens of its other services. */
  secret: Buffer | undefined
  clock: Clock
}

/** A host's metrics are the operators' business; a tenant's own roles end at the tenant's data. */
const rolesAllowed: readonly Role[] = ['owner', 'operator', 'finance', 'viewer']

/** @throws HttpError 401 or 403 */
export function requireAccess(req: IncomingMessage, o: AccessOptions): void {
  const token = /^Bearer (\S+)$/i.exec(req.headers.authorization ?? '')?.[1]
  // A token of the platform speaks for its bearer wherever it comes from: the console's proxy is on this machine too.
  if (token?.startsWith('pit_')) {
    const claims = o.secret ? verifyToken(o.secret, token, { audience: 'metrics-collector', clock: o.clock }) : null
    if (!claims) throw unauthorized('the token is not one this service accepts, or it has expired')
    if (claims.tenant !== null || !rolesAllowed.includes(claims.role))
      throw new HttpError(403, 'forbidden', `the role ${claims.role} may not read the metrics of hosts`)
    return
  }
  if (isLocal(req)) return
  if (o.apiToken === undefined) throw unauthorized('this route is only for this machine until api.token_file is set')
  if (token === undefined || !isSame(token, o.apiToken))
    throw unauthorized('send the token of api.token_file as Authorization: Bearer')
}

function unauthorized(detail: string): HttpError {
  return new HttpError(401, 'unauthorized', detail, { 'WWW-Authenticate': 'Bearer' })
}

/**
 * From this machine and meant for this machine. A proxy on this machine forwards other people's requests, and a page
 * may point a name of its own at 127.0.0.1; both show in the headers.
 */
function isLocal(req: IncomingMessage): boolean {
  if (req.headers.forwarded !== undefined || req.headers['x-forwarded-for'] !== undefined) return false
  const peer = req.socket.remoteAddress ?? ''
  if (!/^(::1|(::ffff:)?127\.\d+\.\d+\.\d+)$/.test(peer)) return false
  const host = (req.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  return host === 'localhost' || isIP(host) !== 0
}

function isSame(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}
