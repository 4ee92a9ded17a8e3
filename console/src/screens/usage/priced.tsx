import { type Customer, type Priced as PricedAnswer, preview } from '../../api/billaged.ts'
import { serviceUrl } from '../../api/service-url.ts'
import { useResource } from '../../live/use-resource.ts'
import { Command } from '../../parts/copy.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import { formatMoney, formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { meterLabel } from './meters.ts'
import type { UsagePeriod } from './periods.ts'

/** What the usage costs under the customer's plan, or how to give it one. */
export function Priced({ customer, period }: { customer: Customer; period: UsagePeriod }) {
  const priced = useResource(
    customer.planId ? `preview ${customer.id} ${period.from}` : null,
    signal => preview({ customerId: customer.id, from: period.from, to: period.to }, signal),
    60_000,
  )
  if (!customer.planId) return <Unrated customer={customer} period={period} />
  return (
    <Panel title="What it costs so far" aside={customer.planId} testId="preview">
      <Loaded resource={priced} skeleton={<SkeletonRows rows={3} />}>
        {answer => <Lines priced={answer} />}
      </Loaded>
    </Panel>
  )
}

function Lines({ priced: { lines, totalNano, currency, unrated } }: { priced: PricedAnswer }) {
  return (
    <>
      <table className="table">
        <thead>
          <tr>
            <th>Price</th>
            <th className="number">Amount</th>
          </tr>
        </thead>
        <tbody>
          {lines.map(line => (
            <tr key={`${line.priceId} ${line.meter} ${line.segment.from} ${JSON.stringify(line.group)}`}>
              <td>
                {line.meter ? meterLabel(line.meter) : line.kind}{' '}
                {line.priceId && <code className="quiet">{line.priceId}</code>}
                {Object.values(line.group).length > 0 && (
                  <span className="hint">{Object.values(line.group).join(' · ')}</span>
                )}
              </td>
              <td
                className="number"
                title={`${formatMoneyExact(nanoFrom(line.amountNano), currency)} = ${line.dividend} ÷ ${line.divisor}, rest ${line.remainder}`}
              >
                {formatMoney(nanoFrom(line.amountNano), currency)}
              </td>
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <td>Total</td>
            <td className="number" title={formatMoneyExact(nanoFrom(totalNano), currency)}>
              <b>{formatMoney(nanoFrom(totalNano), currency)}</b>
            </td>
          </tr>
        </tfoot>
      </table>
      {unrated.length > 0 && (
        <p className="panel-note" data-testid="unrated">
          <strong>Not priced by this plan:</strong>{' '}
          {[...new Set(unrated.map(({ meter }) => meterLabel(meter)))].join(', ')}. Add a price, or mark the meter
          unbilled; a period with unrated usage does not close.
        </p>
      )}
    </>
  )
}

function Unrated({ customer, period }: { customer: Customer; period: UsagePeriod }) {
  return (
    <section className="panel" data-testid="unrated">
      <Empty title="Measured, not priced">
        {customer.name || customer.id} has no plan, so this usage has no price yet. Subscribe it to one;{' '}
        <code>example</code> is there from the start:
      </Empty>
      <Command
        text={`curl -s ${serviceUrl('billaged')}/v1/subscriptions -H "Authorization: Bearer $BILLAGED_API_KEY" \\
  -H 'content-type: application/json' \\
  -d '{"customerId":"${customer.id}","planId":"example","from":"${period.from}","to":null}'`}
      />
    </section>
  )
}
