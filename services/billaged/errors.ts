import { Code, type ConnectError } from '@connectrpc/connect'
import { Problem } from '#platform/http'
import { rpcError } from '#platform/rpc'

// The failures this service can name, in both dialects: RPC callers get Connect codes, HTTP callers problem details.
// `reason` is stable; each has a heading in docs/errors.md.

const domain = 'billaged'

export const invalidArgument = (message: string): ConnectError =>
  rpcError({ code: Code.InvalidArgument, message, reason: 'INVALID_ARGUMENT', domain })

export const tenantRequired = (): ConnectError =>
  rpcError({ code: Code.Unauthenticated, message: 'tenant ID is required', reason: 'TENANT_REQUIRED', domain })

export const keyRequired = (): ConnectError =>
  rpcError({
    code: Code.Unauthenticated,
    message: 'an API key is required: Authorization: Bearer <key>',
    reason: 'KEY_REQUIRED',
    domain,
  })

export const keyUnknown = (): ConnectError =>
  rpcError({ code: Code.Unauthenticated, message: 'unknown or revoked key', reason: 'KEY_UNKNOWN', domain })

export const tenantMismatch = (tenant: string, customerId: string): ConnectError =>
  rpcError({
    code: Code.PermissionDenied,
    message: `X-Tenant-ID ${tenant} does not match customer_id ${customerId}`,
    reason: 'TENANT_MISMATCH',
    domain,
  })

export const keyOfAnotherTenant = (customerId: string): ConnectError =>
  rpcError({
    code: Code.PermissionDenied,
    message: `this key may not send for customer_id ${customerId}`,
    reason: 'KEY_OF_ANOTHER_TENANT',
    domain,
  })

export const operatorKeyRequired = (): ConnectError =>
  rpcError({
    code: Code.PermissionDenied,
    message: 'a heartbeat speaks for all VMs of a host; it needs the operator key',
    reason: 'OPERATOR_KEY_REQUIRED',
    domain,
  })

export const batchTooLarge = (samples: number, samplesMax: number): ConnectError =>
  rpcError({
    code: Code.ResourceExhausted,
    message: `batch has ${samples} samples; at most ${samplesMax} are taken at once`,
    reason: 'BATCH_TOO_LARGE',
    domain,
  })

export const rateLimited = (customerId: string, retryAfterS: number): ConnectError =>
  rpcError({
    code: Code.ResourceExhausted,
    message: `customer_id ${customerId} sends more samples a second than it may; try again in ${retryAfterS} s`,
    reason: 'RATE_LIMITED',
    domain,
    retryAfterS,
  })

/** Nothing was stored; sending the same again is right. */
export const notAcknowledged = (why: Unacknowledged): ConnectError =>
  rpcError({ code: Code.Unavailable, message: why.message, reason: why.reason, domain, retryAfterS: why.retryAfterS })

export interface Unacknowledged {
  reason: 'JOURNAL_FULL' | 'DISK_FULL' | 'DISK_ERROR' | 'DATABASE_AWAY' | 'STOPPING'
  message: string
  retryAfterS: number
}

export const notAcknowledgedProblem = (why: Unacknowledged): Problem =>
  new Problem({
    status: 503,
    reason: why.reason,
    detail: why.message,
    headers: { 'retry-after': String(why.retryAfterS) },
  })

export const badRequest = (reason: string, detail: string): Problem => new Problem({ status: 400, reason, detail })

/** Also what a caller gets for something of another tenant. */
export const notFound = (what: string): Problem =>
  new Problem({ status: 404, reason: 'NOT_FOUND', detail: `There is no ${what}.` })
