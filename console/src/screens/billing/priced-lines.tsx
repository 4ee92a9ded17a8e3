import type { Customer, Priced } from '../../api/billaged.ts'
import { meterLabel, unitOfMeter } from '../../billing/meters.ts'
import { Empty } from '../../parts/empty.tsx'
import { formatMoney, formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { formatQuantity } from '../../units/quantity.ts'
import { formatDay } from '../../units/time.ts'

/** Lines as an invoice would have them now. */
export function PricedLines({ priced, customer }: { priced: Priced; customer?: Customer }) {
  const { lines, totalNano, currency, unrated } = priced
  const isSplit = new Set(lines.map(({ segment }) => segment.from)).size > 1
  if (lines.length === 0 && unrated.length === 0)
    return customer?.planId === null ? (
      <Empty title="Measured, not priced">No plan yet: subscribe {customer.name || customer.id} to one below.</Empty>
    ) : (
      <Empty title="Nothing to pay" />
    )
  return (
    <>
      {lines.length > 0 && (
        <table className="table">
          <thead>
            <tr>
              <th>Price</th>
              <th className="number c-sm">Quantity</th>
              <th className="number">Amount</th>
            </tr>
          </thead>
          <tbody>
            {lines.map(line => (
              <tr key={`${line.priceId} ${line.meter} ${line.segment.from} ${JSON.stringify(line.group)}`}>
                <td>
                  {line.meter ? meterLabel(line.meter) : lineWords[line.kind]}{' '}
                  {line.priceId && <code className="quiet">{line.priceId}</code>}
                  {Object.values(line.group).length > 0 && (
                    <span className="hint">{Object.values(line.group).join(' · ')}</span>
                  )}
                  {isSplit && (
                    <span className="hint">
                      {formatDay(Date.parse(line.segment.from), 'UTC')} –{' '}
                      {formatDay(Date.parse(line.segment.to) - 1, 'UTC')}
                    </span>
                  )}
                </td>
                <td className="number quiet c-sm">
                  {line.meter && formatQuantity(line.quantity, unitOfMeter(line.meter), line.meter)}
                </td>
                <td
                  className="number"
                  title={`${formatMoneyExact(nanoFrom(line.amountNano), currency)}${
                    line.divisor === '' ? '' : ` = ${line.dividend} ÷ ${line.divisor}, rest ${line.remainder}`
                  }`}
                >
                  {formatMoney(nanoFrom(line.amountNano), currency)}
                </td>
              </tr>
            ))}
          </tbody>
          <tfoot>
            <tr>
              <td>Total</td>
              <td className="c-sm" />
              <td className="number" title={formatMoneyExact(nanoFrom(totalNano), currency)}>
                <b>{formatMoney(nanoFrom(totalNano), currency)}</b>
              </td>
            </tr>
          </tfoot>
        </table>
      )}
      {unrated.length > 0 && (
        <p className="panel-note" data-testid="unrated">
          <strong>{customer?.planId === null ? 'Used, and no plan prices it:' : 'Not priced by this plan:'}</strong>{' '}
          {[...new Set(unrated.map(({ meter }) => meterLabel(meter)))].join(', ')}.{' '}
          {customer?.planId === null
            ? 'Subscribe it to a plan below; the shipped one is called example.'
            : 'Add a price, or mark the meter unbilled; a period with unrated usage does not close.'}
        </p>
      )}
    </>
  )
}

const lineWords = { usage: 'Usage', flat: 'Flat fee', minimum: 'Minimum commitment' }
