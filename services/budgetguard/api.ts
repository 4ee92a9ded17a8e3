// The wire shapes that others import: the console, tests. Types only.
//
// The admin shapes are those of the operator guide; fields may be added, never removed or retyped. Amounts are plain
// decimal USD strings, or a number where the guide has one, and then an exact `…Nano` string stands beside it.

/** Decimal USD, at most nine fraction digits, no trailing zeros: "12.5". */
export type Usd = string
/** Whole nano-dollars as a decimal string. */
export type Nano = string
/** RFC 3339, UTC. */
export type Time = string

export type Period = 'daily' | 'weekly' | 'monthly' | 'custom'
export type CallStatus = 'success' | 'blocked' | 'failed'
export type Role = 'owner' | 'operator' | 'finance' | 'viewer' | 'tenant-admin' | 'tenant-viewer'

// --- /admin: sign-in -------------------------------------------------------------------------------------------

/** POST /admin/login: the admin key, or the token of a one-time sign-in link. */
export type LoginRequest = { adminKey: string } | { token: string }

/** POST /admin/login and GET /admin/me. */
export interface Me {
  role: Role
  via: 'admin-key' | 'session' | 'token'
  subject: string
  /** When the session ends; null for the admin key. */
  expiresAt: Time | null
  version: string
}

/** Every error of /admin, of /console and of unknown routes. */
export interface AdminError {
  error: string
  message: string
  statusCode: number
  reason: string
  requestId: string
}

// --- /admin: tenants, budgets, keys ----------------------------------------------------------------------------

export interface Tenant {
  id: number
  name: string
  displayName: string | null
  rateLimitPerMin: number | null
  defaultSessionBudgetUsd: number | null
  defaultSessionBudgetUsdNano: Nano | null
  createdAt: Time
  updatedAt: Time
  /** What every other service calls this tenant. */
  slug: string
  timezone: string
}

export interface CreateTenant {
  name: string
  displayName?: string | null
  rateLimitPerMin?: number | null
  defaultSessionBudgetUsd?: number | string | null
  timezone?: string
  budgets?: BudgetInput[]
}

export interface BudgetInput {
  period: Period
  amountUsd: number | string
  startDate?: string | null
  endDate?: string | null
}

export interface Budget {
  id: number
  tenantId: number
  period: Period
  amountUsd: Usd
  amountUsdNano: Nano
  startDate: Time | null
  endDate: Time | null
  createdAt: Time
  /** True: nobody stored it, DEFAULT_BUDGET_USD and BUDGET_PERIODS made it. */
  isImplicit: boolean
}

/** GET /admin/tenant/:id/budgets adds what the window of this moment holds. */
export interface BudgetState extends Budget {
  currentPeriodStartDate: Time | null
  /** Inclusive: the last millisecond of the window. */
  currentPeriodEndDate: Time | null
  currentUsage: number
  currentUsageNano: Nano
  isRecurring: boolean
  heldUsd: Usd
  remainingUsd: Usd
}

export interface ApiKey {
  id: number
  createdAt: Time
  isActive: boolean
  lastUsedAt?: Time
  keyPrefix: string
  name: string
  expiresAt: Time | null
}

export interface CreatedApiKey {
  id: number
  /** 64 hex digits, shown this once. */
  key: string
  keyPrefix: string
  createdAt: Time
  isActive: boolean
}

export interface RateLimit {
  rateLimitPerMin: number | null
}

// --- /admin: usage ---------------------------------------------------------------------------------------------

/** GET /admin/tenant/:id/usage: USD of the current window per period; every number has a `<period>Nano` beside it. */
export type UsageByPeriod = Record<string, number | Nano>

export interface UsageDay {
  /** YYYY-MM-DD in the tenant's zone. */
  date: string
  usage: number
  usageNano: Nano
}

export interface UsageOfModel {
  model: string
  usage: number
  usageNano: Nano
  percentage: number
}

export interface LedgerRow {
  id: string
  /** When the call was admitted or refused. */
  ts: Time
  tenant: string
  route: string
  model: string
  usd: Usd
  usdNano: Nano
  promptTok: number
  compTok: number
  tenantId: number | null
  sessionId: string | null
  status: CallStatus
  tags: { id: number; name: string; path: string | null; weight: number }[]
  requestId: string
  /** Stable reason of a refusal or failure; null for a success. */
  reason: string | null
  /** Identical refusals of one key within a second share a row. */
  count: number
  provider: string | null
  heldUsd: Usd
  /** 10⁻²¹ USD, before the one rounding up to nano-dollars. */
  costExact: string
  usageSource: UsageSource
  cachedTok: number
  latencyMs: number | null
  keyId: number | null
  kind: 'call' | 'adjust' | 'late'
}

/** Who said how many tokens: the provider, our bound on what was seen, the whole hold, or nobody (no call was made). */
export type UsageSource = 'reported' | 'estimated' | 'hold' | 'none'

export interface LedgerPage {
  data: LedgerRow[]
  total: number
  page: number
  limit: number
}

// --- /admin: prices, holds, live -------------------------------------------------------------------------------

export interface ModelPrice {
  id: number
  model: string
  versionTag: string
  /** USD per 1 M tokens. */
  inputPrice: Usd
  cachedInputPrice: Usd
  outputPrice: Usd
  provider: string
  createdAt: Time
  updatedAt: Time
  source: 'guide' | 'operator' | 'built-in'
  /** A row of zeros is unknown, not free, unless this says so. */
  isFree: boolean
  effectiveFrom: Time
}

export interface Hold {
  id: string
  requestId: string
  tenant: string
  tenantId: number
  keyId: number | null
  route: string
  provider: string
  model: string
  amountUsd: Usd
  amountUsdNano: Nano
  openedAt: Time
  deadline: Time
  ageMs: number
  /** The process that owns it, and whether that is the one answering. */
  node: string
  isLocal: boolean
  accounts: { id: string; budgetId: number; scope: string; period: Period }[]
}

export interface Holds {
  holds: Hold[]
  open: number
  heldUsd: Usd
}

/** Headroom of one scope; GET /v1/budget and the `budget` events of /admin/live. */
export interface ScopeState {
  scope: string
  budgetId: number
  period: Period
  limitUsd: Usd
  spentUsd: Usd
  heldUsd: Usd
  remainingUsd: Usd
  resetsAt: Time | null
}

/** GET /v1/budget */
export interface BudgetOfKey {
  tenant: string
  scopes: ScopeState[]
  limits: { rpm: number | null; tpm: number | null }
}

/** `event: call`, `event: budget`, `event: holds` and `event: gap` of GET /admin/live. */
export type LiveEvent =
  | { event: 'call'; data: LiveCall }
  | { event: 'budget'; data: ScopeState & { tenant: string; tenantId: number } }
  | { event: 'holds'; data: { open: number; heldUsd: Usd; overspendUsd: Usd } }
  /** This listener was too slow and missed that many events. */
  | { event: 'gap'; data: { missed: number } }

/** A call the moment it ended, before its ledger row has an id. */
export interface LiveCall {
  ts: Time
  requestId: string
  tenant: string
  tenantId: number
  route: string
  provider: string | null
  model: string
  status: CallStatus
  reason: string | null
  usd: Usd
  heldUsd: Usd
  promptTok: number
  compTok: number
  latencyMs: number
}

// --- /console --------------------------------------------------------------------------------------------------

/** GET /console/services. Requests to `path` are forwarded with a 60 s internal token. */
export interface ConsoleService {
  name: string
  /** Prefix on this origin, "/console/logs"; for budgetguard itself "". */
  path: string
  /** False: no URL is configured, the integration is off. */
  isConfigured: boolean
  status: 'ok' | 'degraded' | 'down' | 'off'
  detail: string | null
  latencyMs: number | null
  version: string | null
}

// --- /v1 -------------------------------------------------------------------------------------------------------

/** `budget` of a 402. */
export interface BudgetOfError {
  scope: string
  budgetId: number
  period: Period
  limitUsd: Usd
  spentUsd: Usd
  heldUsd: Usd
  requestedUsd: Usd
  resetsAt: Time | null
}

/** Body of every error on an OpenAI-dialect route. */
export interface OpenAiError {
  error: {
    message: string
    type: string
    param: string | null
    code: string | null
    reason: string
    request_id: string
    budget?: BudgetOfError
    /** What the provider said, when it was not an OpenAI-type error. */
    upstream?: unknown
  }
}
