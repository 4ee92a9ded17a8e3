import { useState } from 'react'
import type { SpendAlert } from '../../../services/billaged/alerts/api.ts'
import { addressOf } from '../api/http.ts'
import { dataOf, type LiveState, useStream } from '../live/use-stream.ts'
import type { CostSnapshot } from './costs.ts'

export interface LiveCosts {
  cost: CostSnapshot | null
  /** Fired while the page was open, newest first. */
  alerts: readonly SpendAlert[]
  state: LiveState
}

const alertsKept = 5

/** What one customer costs, as it happens. Null: nobody. */
export function useCosts(customer: string | null): LiveCosts {
  const [cost, setCost] = useState<CostSnapshot | null>(null)
  const [alerts, setAlerts] = useState<readonly SpendAlert[]>([])
  const address =
    customer === null ? null : addressOf({ service: 'billaged', path: '/v1/stream/costs', params: { customer } })
  const state = useStream('billaged', address, event => {
    if (event.event === 'cost') {
      const next = dataOf<CostSnapshot>(event)
      if (next) setCost(next)
    } else if (event.event === 'alert') {
      const fired = dataOf<SpendAlert>(event)
      if (fired) setAlerts(before => [fired, ...before].slice(0, alertsKept))
    }
  })
  return { cost, alerts, state }
}
