import type { Spend } from '../../api/billaged.ts'
import { elapsedShare } from '../../billing/periods.ts'
import { formatMoney, nanoFrom, shareOf } from '../../units/money.ts'

/**
 * Spent is solid, what the forecast adds is hatched, the notch is the share of the period that is over: spending ahead of
 * the clock is seen at once. Against the budget; without one against the forecast.
 */
export function SpendBar({ spend }: { spend: Spend }) {
  const { currency } = spend
  const [total, forecast] = [nanoFrom(spend.totalNano), nanoFrom(spend.forecastNano)]
  const budget = spend.budgetNano === null ? null : nanoFrom(spend.budgetNano)
  const whole = budget ?? forecast
  const spent = shareOf(total, whole)
  const coming = Math.min(shareOf(forecast > total ? forecast - total : 0n, whole), 1 - spent)
  const elapsed = elapsedShare(spend, Date.parse(spend.asOf))
  const state = budget === null ? 'calm' : stateOf(total, forecast, budget)
  const text = `${formatMoney(total, currency)} spent${
    budget === null ? '' : ` of a budget of ${formatMoney(budget, currency)}`
  }, forecast ${formatMoney(forecast, currency)}`
  return (
    // biome-ignore lint/a11y/useSemanticElements: <meter> has one value and cannot be hatched
    <div
      className="budget-bar spend-bar"
      data-state={state}
      role="meter"
      aria-label={`Spend of ${spend.customerId}`}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(spent * 100)}
      aria-valuetext={text}
      title={text}
    >
      <i className="spent" style={{ width: `${spent * 100}%` }} />
      <i className="held" style={{ width: `${coming * 100}%` }} />
      <i className="notch" style={{ left: `${elapsed * 100}%` }} />
    </div>
  )
}

/** Over the budget, going to be, or within it. */
export function stateOf(total: bigint, forecast: bigint, budget: bigint): 'calm' | 'warning' | 'critical' {
  return total >= budget ? 'critical' : forecast > budget ? 'warning' : 'calm'
}
