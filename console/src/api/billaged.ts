import { call } from './http.ts'

const service = 'billaged'

export interface Customer {
  id: string
  name?: string | null
  planId?: string | null
}

export interface UsageRow {
  meter: string
  quantity: string
  unit: string
  vmId?: string
}

export interface Usage {
  customerId: string
  from: string
  to: string
  asOf: string
  complete: boolean
  rows: UsageRow[]
  ledger?: Record<string, string>
}

export interface PreviewLine {
  priceId: string
  meter: string | null
  quantity: string
  amountNano: string
}

export interface Preview {
  customerId: string
  totalNano: string
  currency: string
  lines: PreviewLine[]
  unrated?: { meter: string; quantity: string; unit?: string }[]
}

export const listCustomers = (signal?: AbortSignal) =>
  call<{ customers: Customer[] }>({ service, path: '/v1/customers', params: { limit: 200 }, signal })

export const getUsage = (customer: string, o: { from: string; to: string; by: 'meter' | 'vm' }, signal?: AbortSignal) =>
  call<Usage>({ service, path: `/v1/customers/${encodeURIComponent(customer)}/usage`, params: { ...o }, signal })

export const preview = (body: { customerId: string; from: string; to: string }, signal?: AbortSignal) =>
  call<Preview>({ service, method: 'POST', path: '/v1/preview', body, signal })
