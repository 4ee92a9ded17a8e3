// The cookie of people who signed in with a browser.

import type { FastifyRequest } from 'fastify'

const name = 'auth_token'
/** The token inside ends after a day; the cookie's own age is what older clients were told. */
const maxAgeS = 604_800

/** Undefined without one, and for changes asked for by a page of another origin: the browser sends cookies for it too. */
export function cookieToken(request: FastifyRequest): string | undefined {
  const match = /(?:^|;\s*)auth_token=([\w.-]+)/.exec(request.headers.cookie ?? '')
  if (!match?.[1]) return undefined
  if (request.method === 'GET' || request.method === 'HEAD') return match[1]
  const site = request.headers['sec-fetch-site']
  if (site !== undefined) return site === 'same-origin' || site === 'none' ? match[1] : undefined
  const { origin } = request.headers
  if (origin === undefined) return match[1]
  return URL.canParse(origin) && new URL(origin).host === request.headers.host ? match[1] : undefined
}

/** `Secure` when the browser came by TLS, as a trusted proxy says. */
export function setCookie(request: FastifyRequest, token: string): string {
  const secure = request.protocol === 'https' ? '; Secure' : ''
  return `${name}=${token}; Path=/; Max-Age=${maxAgeS}; HttpOnly; SameSite=Lax${secure}`
}
