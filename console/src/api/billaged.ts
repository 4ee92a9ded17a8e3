import type {
  Customer,
  CustomerList,
  PreviewRequest,
  Priced,
  Usage,
  UsageBy,
  UsageRow,
} from '../../../services/billaged/api.ts'
import { call } from './http.ts'

export type { Customer, Priced, Usage, UsageRow }

const service = 'billaged'

export const listCustomers = (signal?: AbortSignal) =>
  call<CustomerList>({ service, path: '/v1/customers', params: { limit: 200 }, signal })

export const getUsage = (customer: string, o: { from: string; to: string; by: UsageBy }, signal?: AbortSignal) =>
  call<Usage>({ service, path: `/v1/customers/${encodeURIComponent(customer)}/usage`, params: { ...o }, signal })

/** What a span costs under the customer's own plan. Nothing is stored. */
export const preview = (body: PreviewRequest, signal?: AbortSignal) =>
  call<Priced>({ service, method: 'POST', path: '/v1/preview', body, signal })
