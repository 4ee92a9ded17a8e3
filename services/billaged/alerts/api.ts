// The wire of budgets, alerts, webhooks and the cost stream, types only. Money and quantities are strings in base units.

export interface Budget {
  customerId: string
  currency: string
  budgetNano: string
  /** Percents at which an alert fires, once a period each. */
  alertPercents: number[]
  /** From 100 % on the alert carries `action: stop_requested`. */
  stopRequestedAtFull: boolean
  /** The running one. */
  period: { from: string; to: string }
  firedPercents: number[]
}

export interface BudgetList {
  budgets: Budget[]
  nextCursor: string | null
}

export interface SpendAlert {
  customerId: string
  period: { from: string; to: string }
  thresholdPercent: number
  budgetNano: string
  spentNano: string
  currency: string
  firedAt: string
  action?: 'stop_requested'
}

export interface AlertList {
  alerts: SpendAlert[]
  nextCursor: string | null
}

export interface WebhookEndpoint {
  id: string
  /** Null: told about every customer. */
  customerId: string | null
  url: string
  description: string | null
  /** Empty: all. */
  types: string[]
  enabled: boolean
  createdAt: string
  /** `whsec_…`; only where it was just made. */
  secret?: string
}

export interface WebhookList {
  webhooks: WebhookEndpoint[]
  nextCursor: string | null
}

export interface DeliveryList {
  deliveries: WebhookDelivery[]
  nextCursor: string | null
}

export interface WebhookDelivery {
  id: string
  webhookId: string
  /** The `webhook-id` header: the same on every attempt. */
  messageId: string
  type: string
  customerId: string | null
  state: 'pending' | 'delivered' | 'failed'
  attempts: number
  nextAt: string | null
  lastStatus: number | null
  lastProblem: string | null
  createdAt: string
  endedAt: string | null
  payload: { type: string; timestamp: string; data: Record<string, unknown> }
}

export interface WebhookTest {
  delivered: boolean
  status: number | null
  problem: string | null
}

/** `event: cost` of `/v1/stream/costs`: the running period so far. */
export interface CostSnapshot {
  customerId: string
  period: { from: string; to: string }
  asOf: string
  currency: string
  planId: string | null
  totalNano: string
  /** The whole period, if the rest runs as the part that is over did. */
  forecastNano: string
  /** The slope of the last minutes somebody looked; null until there are some. */
  nanoPerHour: string | null
  budgetNano: string | null
  lines: { kind: string; priceId: string | null; meter: string | null; quantity: string; amountNano: string }[]
  /** The hundred that cost most; each line of a VM meter is shared by quantity. */
  vms: { vmId: string; amountNano: string; quantities: Record<string, string> }[]
  otherVms: { count: number; amountNano: string }
}

/** `event: gap`: time of a VM that is not billed has grown, or shrunk by late readings. Totals of the period. */
export interface CostGap {
  customerId: string
  vmId: string
  unmeasuredNs: string
  hostDownNs: string
}
