// Budgets that warn, the alerts that fired, and the webhooks that were told.

import type {
  AlertList,
  Budget,
  BudgetList,
  SpendAlert,
  WebhookDelivery,
  WebhookEndpoint,
  WebhookTest,
} from '../../../services/billaged/alerts/api.ts'
import type { MessageType } from '../../../services/billaged/webhooks/message.ts'
import { call } from './http.ts'

export type { Budget, MessageType, SpendAlert, WebhookDelivery, WebhookEndpoint, WebhookTest }

type Signal = AbortSignal | undefined
const service = 'billaged'

export const listBudgets = (signal: Signal) =>
  call<BudgetList>({ service, path: '/v1/budgets', params: { limit: 200 }, signal })
export const setBudget = (
  body: Pick<Budget, 'customerId' | 'budgetNano'> & Partial<Pick<Budget, 'alertPercents' | 'stopRequestedAtFull'>>,
) => call<Budget>({ service, method: 'POST', path: '/v1/budgets', body })
export const removeBudget = (customer: string) =>
  call<unknown>({ service, method: 'DELETE', path: `/v1/budgets/${encodeURIComponent(customer)}` })
export const listAlerts = (signal: Signal) =>
  call<AlertList>({ service, path: '/v1/alerts', params: { limit: 100 }, signal })

const webhookPath = (id: string) => `/v1/webhooks/${encodeURIComponent(id)}`
export const listWebhooks = (signal: Signal) =>
  call<{ webhooks: WebhookEndpoint[] }>({ service, path: '/v1/webhooks', params: { limit: 200 }, signal })
export const createWebhook = (
  body: Pick<WebhookEndpoint, 'url' | 'types'> & { customerId?: string; description?: string },
) => call<WebhookEndpoint>({ service, method: 'POST', path: '/v1/webhooks', body })
export const updateWebhook = (id: string, body: { enabled?: boolean; rotateSecret?: true }) =>
  call<WebhookEndpoint>({ service, method: 'PUT', path: webhookPath(id), body })
export const removeWebhook = (id: string) => call<unknown>({ service, method: 'DELETE', path: webhookPath(id) })
export const testWebhook = (id: string) =>
  call<WebhookTest>({ service, method: 'POST', path: `${webhookPath(id)}/test`, body: {} })

export const listDeliveries = (state: string, signal: Signal) =>
  call<{ deliveries: WebhookDelivery[]; nextCursor: string | null }>({
    service,
    path: '/v1/webhooks/deliveries',
    params: { state, limit: 50 },
    signal,
  })
export const replayDelivery = (id: string) =>
  call<WebhookDelivery>({
    service,
    method: 'POST',
    path: `/v1/webhooks/deliveries/${encodeURIComponent(id)}/replay`,
    body: {},
  })
