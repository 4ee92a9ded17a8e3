import type {
  ApiKey,
  Budget,
  BudgetInput,
  BudgetState,
  ConsoleService,
  CreatedApiKey,
  CreateTenant,
  Holds,
  LedgerPage,
  LoginRequest,
  Me,
  Tenant,
} from '../../../services/budgetguard/api.ts'
import { call } from './http.ts'

type Signal = AbortSignal | undefined
const service = 'budgetguard'

export const signIn = (body: LoginRequest) => call<Me>({ service, method: 'POST', path: '/admin/login', body })
export const signOut = () => call<unknown>({ service, method: 'POST', path: '/admin/logout', body: {} })
export const getMe = (signal?: Signal) => call<Me>({ service, path: '/admin/me', signal })
export const listServices = (signal: Signal) => call<ConsoleService[]>({ service, path: '/console/services', signal })

export const listTenants = (signal: Signal) => call<Tenant[]>({ service, path: '/admin/tenant', signal })
export const createTenant = (body: CreateTenant) =>
  call<Tenant>({ service, method: 'POST', path: '/admin/tenant', body })

export const listBudgets = (tenantId: number, signal: Signal) =>
  call<BudgetState[]>({ service, path: `/admin/tenant/${tenantId}/budgets`, signal })
export const setBudget = (tenantId: number, budget: BudgetInput) =>
  call<Budget[]>({ service, method: 'POST', path: `/admin/tenant/${tenantId}/budgets`, body: { budgets: [budget] } })
export const removeBudget = (budgetId: number) =>
  call<unknown>({ service, method: 'DELETE', path: `/admin/budget/${budgetId}` })

export const listKeys = (tenantId: number, signal: Signal) =>
  call<ApiKey[]>({ service, path: `/admin/tenant/${tenantId}/apikeys`, signal })
export const createKey = (tenantId: number, name: string) =>
  call<CreatedApiKey>({
    service,
    method: 'POST',
    path: `/admin/tenant/${tenantId}/apikeys`,
    body: name ? { name } : {},
  })
export const revokeKey = (keyId: number) => call<unknown>({ service, method: 'DELETE', path: `/admin/apikey/${keyId}` })

export interface LedgerQuery {
  tenantId?: number
  status?: string
  model?: string
  days?: number
  page?: number
  limit: number
}
export const listLedger = (query: LedgerQuery, signal: Signal) =>
  call<LedgerPage>({ service, path: '/admin/usage/ledger', params: { ...query }, signal })
export const listHolds = (signal: Signal) => call<Holds>({ service, path: '/admin/holds', signal })

export const liveAddress = '/admin/live'
