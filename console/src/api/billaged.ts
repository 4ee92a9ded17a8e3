// Customers of billaged: what they used, what it costs so far, one VM at a time. Prices are in billing-plans.ts, invoices
// in billing-invoices.ts, meters and events in billing-meters.ts.

import type {
  Comparison,
  CreditView,
  Customer,
  CustomerList,
  Health,
  PreviewRequest,
  Priced,
  Spend,
  Usage,
  UsageBy,
  UsageRow,
  VmDetail,
  VmTimeline,
} from '../../../services/billaged/api.ts'
import { call, send } from './http.ts'

export type { Comparison, CreditView, Customer, Health, Priced, Spend, Usage, UsageBy, UsageRow, VmDetail, VmTimeline }

type Signal = AbortSignal | undefined
const service = 'billaged'
const customerPath = (id: string) => `/v1/customers/${encodeURIComponent(id)}`

export const listCustomers = (signal?: Signal) =>
  call<CustomerList>({ service, path: '/v1/customers', params: { limit: 200 }, signal })
export const getCustomer = (id: string, signal: Signal) => call<Customer>({ service, path: customerPath(id), signal })

export type CustomerSettings = Partial<
  Pick<Customer, 'name' | 'timeZone' | 'anchorDay' | 'intervalMonths' | 'taxPpm' | 'taxName' | 'budgetNano'>
>
export const updateCustomer = (id: string, body: CustomerSettings) =>
  call<Customer>({ service, method: 'PUT', path: customerPath(id), body })

interface UsageQuery {
  from: string
  to: string
  by: UsageBy
  /** Only this VM. */
  vm?: string
}
export const getUsage = (customer: string, query: UsageQuery, signal?: Signal) =>
  call<Usage>({ service, path: `${customerPath(customer)}/usage`, params: { ...query }, signal })

/** The running period so far, with its forecast; `hasBand`: and how far off that may be, which costs as much again. */
export const getSpend = (customer: string, signal: Signal, hasBand = false) =>
  call<Spend>({
    service,
    path: `${customerPath(customer)}/spend`,
    params: hasBand ? { band: 'true' } : {},
    signal,
  })

const vmPath = (customer: string, vm: string) => `/v1/vms/${encodeURIComponent(customer)}/${encodeURIComponent(vm)}`
export const getVm = (customer: string, vm: string, span: { from: string; to: string }, signal: Signal) =>
  call<VmDetail>({ service, path: vmPath(customer, vm), params: span, signal })
export const getTimeline = (customer: string, vm: string, span: { from: string; to: string }, signal: Signal) =>
  call<VmTimeline>({ service, path: `${vmPath(customer, vm)}/timeline`, params: span, signal })

/** What a span costs under the customer's own plan or another one. Nothing is stored. */
export const preview = (body: PreviewRequest & { version?: unknown; currency?: string }, signal?: Signal) =>
  call<Priced>({ service, method: 'POST', path: '/v1/preview', body, signal })
/** Every customer under its own plan and under another one. Nothing is stored. */
export const compare = (
  body: { planId?: string; version?: unknown; currency?: string; from?: string; to?: string },
  signal?: Signal,
) => call<Comparison>({ service, method: 'POST', path: '/v1/preview/compare', body, signal })

export const listCredits = (customerId: string, signal: Signal) =>
  call<{ credits: CreditView[] }>({ service, path: '/v1/credits', params: { customerId }, signal })
export const grantCredit = (body: {
  customerId: string
  kind: CreditView['kind']
  amountNano: string
  expires?: string
  note?: string
}) => call<CreditView>({ service, method: 'POST', path: '/v1/credits', body })

/** The service's own numbers, as Prometheus reads them. */
export const getMetrics = async (signal: Signal) => {
  const response = await send({ service, path: '/metrics', headers: { accept: 'text/plain' }, signal })
  return response.text()
}
export const getHealth = (signal: Signal) => call<Health>({ service, path: '/health', signal })
