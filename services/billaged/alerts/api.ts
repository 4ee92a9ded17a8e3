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
