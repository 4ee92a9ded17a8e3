// Plans, their versions and who is on which, as billaged's routes answer them.

import type { z } from 'zod'
import type { priceSchema, versionSchema } from '../../../services/billaged/rating/plan.ts'
import { call } from './http.ts'

type Signal = AbortSignal | undefined
const service = 'billaged'

export interface Plan {
  id: string
  name: string
  currency: string
  /** How many there are. */
  versions: number
}
/** As one writes it: amounts and quantities are decimal strings in base units. */
export type PriceInput = z.input<typeof priceSchema>
export type VersionInput = z.input<typeof versionSchema>
/** As it is stored: nothing is left out. */
export type PlanVersion = { [Name in keyof VersionInput]-?: Exclude<VersionInput[Name], undefined> } & {
  version: number
}

export interface Subscription {
  id: string
  customerId: string
  planId: string
  from: string
  to: string | null
}

export const listPlans = (signal: Signal) =>
  call<{ plans: Plan[] }>({ service, path: '/v1/plans', params: { limit: 200 }, signal })
export const createPlan = (body: { id: string; name: string; currency: string }) =>
  call<Omit<Plan, 'versions'>>({ service, method: 'POST', path: '/v1/plans', body })
export const listVersions = (plan: string, signal: Signal) =>
  call<{ versions: PlanVersion[] }>({ service, path: `/v1/plans/${encodeURIComponent(plan)}/versions`, signal })
export const createVersion = (plan: string, body: VersionInput) =>
  call<PlanVersion>({ service, method: 'POST', path: `/v1/plans/${encodeURIComponent(plan)}/versions`, body })

export const listSubscriptions = (customerId: string, signal: Signal) =>
  call<{ subscriptions: Subscription[] }>({ service, path: '/v1/subscriptions', params: { customerId }, signal })
export const subscribe = (body: Omit<Subscription, 'id'>) =>
  call<Subscription>({ service, method: 'POST', path: '/v1/subscriptions', body })
