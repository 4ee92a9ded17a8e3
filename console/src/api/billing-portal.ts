// Tokens for the read-only portal of one customer.

import { call } from './http.ts'

type Signal = AbortSignal | undefined
const service = 'billaged'

export interface PortalToken {
  id: string
  customerId: string
  createdAt: string
  expiresAt: string
  /** Or revoked. */
  expired: boolean
}

export const listPortalTokens = (customer: string, signal: Signal) =>
  call<{ tokens: PortalToken[] }>({ service, path: '/v1/portal/tokens', params: { customer, limit: 100 }, signal })
/** `ttl`: Go text. `link`: a path on billaged, with the token behind its `#`. */
export const createPortalToken = (body: { customerId: string; ttl: string }) =>
  call<PortalToken & { token: string; link: string }>({ service, method: 'POST', path: '/v1/portal/tokens', body })
export const revokePortalToken = (id: string) =>
  call<unknown>({ service, method: 'POST', path: '/v1/portal/tokens/invalidate', body: { id } })
