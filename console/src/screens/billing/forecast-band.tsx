import type { Spend } from '../../api/billaged.ts'
import { elapsedShare } from '../../billing/periods.ts'
import { formatMoney, formatMoneyExact, nanoFrom, shareOf } from '../../units/money.ts'
import { formatDay } from '../../units/time.ts'
import { stateOf } from './spend-bar.tsx'

// Money over the period: what is spent as a line up to now, from there the forecast as a band from the quietest to the
// busiest it may become, and the budget as the line not to cross. Heights are lengths made from exact amounts.

const width = 600
const height = 132
const floor = height - 20

/** Without a band (too early, or another page) it is a line. */
export function ForecastBand({ spend }: { spend: Spend }) {
  const { currency } = spend
  const [total, forecast] = [nanoFrom(spend.totalNano), nanoFrom(spend.forecastNano)]
  // The stream moves the forecast between two readings of the band.
  const low = [forecast, nanoFrom(spend.forecastLowNano ?? spend.forecastNano)].reduce((a, b) => (a < b ? a : b))
  const high = [forecast, nanoFrom(spend.forecastHighNano ?? spend.forecastNano)].reduce((a, b) => (a > b ? a : b))
  const budget = spend.budgetNano === null ? null : nanoFrom(spend.budgetNano)
  const top = [total, high, forecast, budget ?? 0n].reduce((a, b) => (a > b ? a : b), 1n)
  const y = (nano: bigint) => floor - shareOf(nano, top) * (floor - 14)
  const x = elapsedShare(spend, Date.parse(spend.asOf)) * width
  const band = `M${x} ${y(total)} L${width} ${y(high)} L${width} ${y(low)} Z`
  const text = `${formatMoney(total, currency)} so far; forecast ${formatMoney(forecast, currency)}${
    high > low ? `, between ${formatMoney(low, currency)} and ${formatMoney(high, currency)}` : ''
  }${budget === null ? '' : `; budget ${formatMoney(budget, currency)}`}`
  return (
    <figure className="forecast" data-state={budget === null ? 'calm' : stateOf(total, forecast, budget)}>
      <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={text}>
        <line className="forecast-floor" x1="0" x2={width} y1={floor} y2={floor} />
        <path className="forecast-area" d={`M0 ${floor} L${x} ${y(total)} L${x} ${floor} Z`} />
        <path className="forecast-band" d={band} />
        <path className="forecast-spent" d={`M0 ${floor} L${x} ${y(total)}`} />
        <path className="forecast-coming" d={`M${x} ${y(total)} L${width} ${y(forecast)}`} />
        {budget !== null && <line className="forecast-budget" x1="0" x2={width} y1={y(budget)} y2={y(budget)} />}
        <line className="forecast-now" x1={x} x2={x} y1="6" y2={floor} />
      </svg>
      <figcaption>
        <span>{formatDay(Date.parse(spend.from), 'UTC')}</span>
        {high > low && (
          <span title={`${formatMoneyExact(low, currency)} to ${formatMoneyExact(high, currency)}`}>
            between <b>{formatMoney(low, currency)}</b> and <b>{formatMoney(high, currency)}</b>, if each day to come is
            like the quietest or the busiest so far
          </span>
        )}
        <span>{formatDay(Date.parse(spend.to) - 1, 'UTC')}</span>
      </figcaption>
      <ul className="chart-legend">
        <li>
          <i className="key-spent" /> so far
        </li>
        <li>
          <i className="key-band" /> forecast
        </li>
        {budget !== null && (
          <li>
            <i className="key-budget" /> budget
          </li>
        )}
      </ul>
    </figure>
  )
}
