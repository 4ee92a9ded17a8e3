import { useEffect, useEffectEvent, useState } from 'react'
import { getSpend, listCustomers, type Spend } from '../api/billaged.ts'
import type { ApiError } from '../api/http.ts'
import { asApiError, type Resource, useResource } from '../live/use-resource.ts'

// What every customer has spent in its running period, kept moving while the page is looked at. An answer folds a whole
// period, so customers are asked one after the other, and the next round rests several times as long as this one took:
// the display never costs the service more than a small share of its time.

export interface Spends {
  byCustomer: ReadonlyMap<string, Spend>
  error: ApiError | null
}

/** Customers whose money moves on one page. */
export const spendsMax = 24
const restMsMin = 5_000
const restTimes = 4

export function useCustomers(): Resource<Awaited<ReturnType<typeof listCustomers>>> {
  return useResource('customers', signal => listCustomers(signal), 30_000)
}

export function useSpends(customers: readonly string[]): Spends {
  const [state, setState] = useState<Spends>({ byCustomer: new Map(), error: null })
  const wanted = customers.slice(0, spendsMax)
  const names = wanted.join('\n')
  const remember = useEffectEvent((spend: Spend) =>
    setState(({ byCustomer }) => ({ byCustomer: new Map(byCustomer).set(spend.customerId, spend), error: null })),
  )

  useEffect(() => {
    if (names === '') return
    const abort = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    let isRunning = false

    async function round(): Promise<void> {
      if (isRunning || abort.signal.aborted || document.hidden) return
      isRunning = true
      clearTimeout(timer)
      const startedMs = performance.now()
      try {
        for (const id of names.split('\n')) remember(await getSpend(id, abort.signal))
      } catch (cause) {
        if (abort.signal.aborted) return
        setState(before => ({ ...before, error: asApiError(cause) }))
      } finally {
        isRunning = false
      }
      timer = setTimeout(round, Math.max(restMsMin, (performance.now() - startedMs) * restTimes))
    }

    document.addEventListener('visibilitychange', round)
    void round()
    return () => {
      abort.abort()
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', round)
    }
  }, [names])
  return state
}

/** Sums by currency, exact. */
export function totalsBy(spends: Iterable<Spend>): { currency: string; totalNano: bigint; forecastNano: bigint }[] {
  const totals = new Map<string, { totalNano: bigint; forecastNano: bigint }>()
  for (const { currency, totalNano, forecastNano } of spends) {
    const sum = totals.get(currency) ?? { totalNano: 0n, forecastNano: 0n }
    totals.set(currency, {
      totalNano: sum.totalNano + BigInt(totalNano),
      forecastNano: sum.forecastNano + BigInt(forecastNano),
    })
  }
  return [...totals].map(([currency, sum]) => ({ currency, ...sum }))
}

/** What an hour of the rest of the period costs, if it goes on as it went: nano-units. */
export function perHour({ totalNano, forecastNano, to, asOf }: Spend): bigint | null {
  const leftMs = Date.parse(to) - Date.parse(asOf)
  return leftMs < 60_000 ? null : ((BigInt(forecastNano) - BigInt(totalNano)) * 3_600_000n) / BigInt(leftMs)
}
