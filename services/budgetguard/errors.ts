// The failures this service can name. One class: what happened, in the guide's own words where it has words, with the
// stable reason clients switch on. How it looks on the wire is the dialect's business (dialects/errors.ts).

import { formatUsd } from '#platform/money'
import type { BudgetOfError } from './api.ts'

export type Reason =
  | 'INVALID_API_KEY'
  | 'REQUEST_TOO_LARGE'
  | 'UNSUPPORTED_MEDIA_TYPE'
  | 'INVALID_REQUEST'
  | 'RATE_LIMIT_EXCEEDED'
  | 'TAG_NOT_FOUND'
  | 'MODEL_NOT_FOUND'
  | 'MODEL_NOT_PRICED'
  | 'UNSUPPORTED_PARAMETER'
  | 'UNBOUNDED_COST'
  | 'PROVIDER_NOT_CONFIGURED'
  | 'BUDGET_EXCEEDED'
  | 'POLICY_DENIED'
  | 'UPSTREAM_ERROR'
  | 'UPSTREAM_UNREACHABLE'
  | 'UPSTREAM_TIMEOUT'
  | 'UPSTREAM_MALFORMED'
  | 'UPSTREAM_CUT'
  | 'CLIENT_GONE'
  | 'BUDGET_STORE_UNAVAILABLE'
  | 'STARTING_OR_DRAINING'
  | 'KEY_STORE_UNAVAILABLE'
  | 'NOT_IMPLEMENTED'
  | 'NOT_FOUND'
  | 'UNAUTHORIZED'
  | 'FORBIDDEN'
  | 'CROSS_ORIGIN'
  | 'INTERNAL'

export class Refusal extends Error {
  readonly status: number
  readonly reason: Reason
  readonly param: string | null
  readonly budget: BudgetOfError | null
  readonly headers: Readonly<Record<string, string>>
  /** What a provider said, when it was not in the caller's dialect. */
  readonly upstream: unknown

  constructor(o: {
    status: number
    reason: Reason
    message: string
    param?: string | null
    budget?: BudgetOfError
    headers?: Record<string, string>
    upstream?: unknown
    cause?: unknown
  }) {
    super(o.message, o.cause === undefined ? {} : { cause: o.cause })
    this.name = 'Refusal'
    this.status = o.status
    this.reason = o.reason
    this.param = o.param ?? null
    this.budget = o.budget ?? null
    this.headers = o.headers ?? {}
    this.upstream = o.upstream
  }
}

export const keyMissing = () =>
  new Refusal({
    status: 401,
    reason: 'INVALID_API_KEY',
    message: 'Authentication required. Provide API key via Authorization header or X-API-Key header',
  })

/** Unknown, revoked and expired keys look alike. */
export const keyInvalid = () => new Refusal({ status: 401, reason: 'INVALID_API_KEY', message: 'Invalid API key' })

export const invalidRequest = (message: string, param: string | null = null) =>
  new Refusal({ status: 400, reason: 'INVALID_REQUEST', message, param })

export const bodyTooLarge = (bytesMax: number) =>
  new Refusal({
    status: 413,
    reason: 'REQUEST_TOO_LARGE',
    message: `The body is larger than ${bytesMax} bytes; send less or raise BUDGETGUARD_BODY_LIMIT`,
  })

export const unboundedCost = (param: string, why: string) =>
  new Refusal({
    status: 400,
    reason: 'UNBOUNDED_COST',
    message: `The cost of "${param}" cannot be bounded before the call: ${why}`,
    param,
  })

export const rateLimited = (limit: number, retryAfterS: number) =>
  new Refusal({
    status: 429,
    reason: 'RATE_LIMIT_EXCEEDED',
    message: `Rate limit exceeded: ${limit} requests per minute; try again in ${retryAfterS} s`,
    headers: { 'retry-after': String(retryAfterS) },
  })

export const tagsNotFound = (names: readonly string[]) =>
  new Refusal({
    status: 400,
    reason: 'TAG_NOT_FOUND',
    message: `Tags not found for this tenant: ${names.join(', ')}`,
    param: 'X-Tags',
  })

export const modelNotFound = (model: string) =>
  new Refusal({
    status: 400,
    reason: 'MODEL_NOT_FOUND',
    message: `No provider configured for model: ${model}`,
    param: 'model',
  })

export const modelNotPriced = (model: string) =>
  new Refusal({
    status: 400,
    reason: 'MODEL_NOT_PRICED',
    message: `Model ${model} has no known price, so no budget can be held for it. Set one with POST /admin/model-pricing, or BUDGETGUARD_UNKNOWN_PRICE=fallback:<in>/<out>`,
    param: 'model',
  })

export const providerNotConfigured = (provider: string, variable: string) =>
  new Refusal({
    status: 503,
    reason: 'PROVIDER_NOT_CONFIGURED',
    message: `${provider} API key not configured. Set ${variable} and restart, or send your own provider key`,
    headers: { 'x-should-retry': 'false' },
  })

export const budgetExceeded = (budget: BudgetOfError, isSpent: boolean) =>
  new Refusal({
    status: 402,
    reason: 'BUDGET_EXCEEDED',
    message: isSpent
      ? `Budget exceeded: ${budget.scope}, ${budget.period}: limit ${budget.limitUsd} USD is spent (${budget.spentUsd})${resets(budget)}`
      : `Budget exceeded: ${budget.scope}, ${budget.period}: limit ${budget.limitUsd} USD, spent ${budget.spentUsd}, held ${budget.heldUsd}, this call needs up to ${budget.requestedUsd}${resets(budget)}`,
    budget,
    headers: { 'x-should-retry': 'false' },
  })

export const storeUnavailable = (cause: unknown) =>
  new Refusal({
    status: 503,
    reason: 'BUDGET_STORE_UNAVAILABLE',
    message: 'The budget store cannot be reached, so no money can be held safely. Nothing was sent; try again',
    headers: { 'retry-after': '5' },
    cause,
  })

export const draining = () =>
  new Refusal({
    status: 503,
    reason: 'STARTING_OR_DRAINING',
    message: 'This process is stopping. Nothing was sent; try again',
    headers: { 'retry-after': '1' },
  })

export const notImplemented = (what: string) =>
  new Refusal({ status: 501, reason: 'NOT_IMPLEMENTED', message: what, headers: { 'x-should-retry': 'false' } })

export const upstreamFailed = (
  reason: 'UPSTREAM_UNREACHABLE' | 'UPSTREAM_TIMEOUT' | 'UPSTREAM_CUT' | 'UPSTREAM_MALFORMED',
  message: string,
  o: { upstream?: unknown; cause?: unknown } = {},
) => new Refusal({ status: reason === 'UPSTREAM_TIMEOUT' ? 504 : 502, reason, message, ...o })

function resets(budget: BudgetOfError): string {
  return budget.resetsAt === null ? '' : `; it resets at ${budget.resetsAt}`
}

/** The whole hold a provider broke: for logs, never for callers. */
export const overrunMessage = (model: string, actual: bigint, held: bigint) =>
  `${model} cost ${formatUsd(actual)} USD, more than the ${formatUsd(held)} held for it; the provider exceeded the limit it was given`
