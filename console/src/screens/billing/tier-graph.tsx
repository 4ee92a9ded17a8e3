import type { PriceInput } from '../../api/billing-plans.ts'
import { boundsOf, curveOf, reachOf } from '../../billing/tiers.ts'
import { formatMoney, shareOf } from '../../units/money.ts'
import { formatQuantity } from '../../units/quantity.ts'

const width = 240
const height = 72

/** What a price makes of a quantity: the amount over the quantity, with a line at each bound. */
export function TierGraph({
  price,
  unit,
  meter,
  currency,
  used = 0n,
}: {
  price: PriceInput
  unit: string
  meter: string
  currency: string
  /** Of the customer that is looked at; marked on the curve. */
  used?: bigint
}) {
  const reach = reachOf(price, used)
  const points = curveOf(price, reach)
  const top = points.reduce((most, { amount }) => (amount > most ? amount : most), 0n)
  if (points.length === 0) return <div className="tier-graph quiet">A graph appears when the price is whole.</div>
  const x = (quantity: bigint) => shareOf(quantity, reach) * width
  const y = (amount: bigint) => height - 2 - shareOf(amount, top) * (height - 8)
  const path = points.map(
    ({ quantity, amount }, i) => `${i === 0 ? 'M' : 'L'}${x(quantity).toFixed(2)} ${y(amount).toFixed(2)}`,
  )
  const end = `${formatQuantity(`${reach}`, unit, meter)} cost ${formatMoney(top, currency)}`
  return (
    <figure className="tier-graph" data-testid="tier-graph">
      <svg
        viewBox={`0 0 ${width} ${height}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`Amount by quantity; ${end}`}
      >
        {boundsOf(price)
          .filter(bound => bound < reach)
          .map(bound => (
            <line key={`${bound}`} className="tier-bound" x1={x(bound)} x2={x(bound)} y1="0" y2={height} />
          ))}
        {used > 0n && <line className="tier-used" x1={x(used)} x2={x(used)} y1="0" y2={height} />}
        <path className="tier-area" d={`${path.join(' ')} L${width} ${height} L0 ${height} Z`} />
        <path className="tier-line" d={path.join(' ')} />
      </svg>
      <figcaption>
        <span>0</span>
        <span>
          {formatQuantity(`${reach}`, unit, meter)} → <b>{formatMoney(top, currency)}</b>
        </span>
      </figcaption>
    </figure>
  )
}
