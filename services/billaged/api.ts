// The wire of the HTTP API, types only. Quantities and money are decimal strings in base units; times are RFC 3339 UTC.

export interface Customer {
  id: string
  name: string | null
  currency: string
  timeZone: string
  /** Day of the month on which its billing period begins; clamped to the month's last day. */
  anchorDay: number
  /** The plan it is on now. */
  planId: string | null
  vms: number
  firstSeen: string
}

export interface CustomerList {
  customers: Customer[]
  nextCursor: string | null
}

export type UsageBy = 'meter' | 'vm' | 'day' | 'hour'

export interface UsageRow {
  /** With `by=vm`. */
  vmId?: string
  /** With `by=day` and `by=hour`: the span of the row. */
  from?: string
  to?: string
  meter: string
  quantity: string
  unit: string
}

/** Nanoseconds of the lives of the customer's VMs, by how they are known. */
export interface Ledger {
  measuredNs: string
  estimatedNs: string
  unmeasuredNs: string
  hostDownNs: string
  disputedNs: string
}

export interface Usage {
  customerId: string
  from: string
  to: string
  asOf: string
  /** Everything that any replica acknowledged is in. */
  complete: boolean
  rows: UsageRow[]
  ledger: Ledger
}

export interface PricedLine {
  kind: 'usage' | 'flat' | 'minimum'
  priceId: string | null
  meter: string | null
  model: string
  group: Record<string, string>
  segment: { from: string; to: string }
  quantity: string
  amountNano: string
  /** dividend ÷ divisor = amountNano, remainder left over. */
  dividend: string
  divisor: string
  remainder: string
}

export interface Priced {
  customerId: string
  planId: string | null
  currency: string
  from: string
  to: string
  asOf: string
  complete: boolean
  totalNano: string
  lines: PricedLine[]
  /** Used, and no price takes it. */
  unrated: { meter: string; group: Record<string, string>; quantity: string; unit: string }[]
}

/** The running period so far. */
export type Spend = Priced

export interface PreviewRequest {
  customerId: string
  /** Whole UTC hours; both absent: the customer's running period. */
  from?: string
  to?: string
  /** Rate under this plan; absent: under the customer's own subscriptions. */
  planId?: string
}

export interface Stats {
  active_vms: number
  /** Go duration text. */
  aggregation_interval: string
  journal_bytes: number
}

export interface Health {
  status: 'ok' | 'degraded' | 'unhealthy'
  service: 'billaged'
  version: string
  uptime_seconds: number
  checks: Record<string, { status: string; detail?: string }>
}
