import { useState } from 'react'
import { creditOutages, listOutages, type OutageView } from '../../api/billing-invoices.ts'
import type { BillingPeriod } from '../../billing/periods.ts'
import { asApiError, useResource } from '../../live/use-resource.ts'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatDuration } from '../../units/duration.ts'
import { formatMoney, formatMoneyExact, nanoFrom } from '../../units/money.ts'

/** Time that hosts were down in a month, at list price; a press credits what is not credited yet. */
export function Outages({ month }: { month: BillingPeriod }) {
  const outages = useResource(`outages ${month.key}`, signal => listOutages(month.key, signal))
  const [crediting, setCrediting] = useState('')
  const [problem, setProblem] = useState('')

  async function credit({ customerId }: OutageView): Promise<void> {
    setCrediting(customerId)
    setProblem('')
    try {
      await creditOutages(customerId, month.key)
    } catch (cause) {
      setProblem(asApiError(cause).message)
    } finally {
      setCrediting('')
      outages.reload()
    }
  }

  return (
    <Panel title="Outages" aside="time with the host down, at list price" testId="outages">
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <Loaded resource={outages} skeleton={<SkeletonRows rows={2} />}>
        {({ outages: list, nextCursor }) =>
          list.length === 0 && nextCursor === null ? (
            <p className="panel-note quiet">No host was down.</p>
          ) : (
            <>
              <table className="table">
                <thead>
                  <tr>
                    <th>Customer</th>
                    <th className="number">Down</th>
                    <th className="number">Worth</th>
                    <th className="number">Credit</th>
                  </tr>
                </thead>
                <tbody>
                  {list.map(outage => (
                    <Row
                      key={outage.customerId}
                      outage={outage}
                      isBusy={crediting !== ''}
                      onCredit={() => credit(outage)}
                    />
                  ))}
                </tbody>
              </table>
              {nextCursor !== null && (
                <p className="panel-note quiet">
                  Of the first hundred customers; all of them: <code>billaged outages {month.key}</code>
                </p>
              )}
            </>
          )
        }
      </Loaded>
    </Panel>
  )
}

function Row({ outage, isBusy, onCredit }: { outage: OutageView; isBusy: boolean; onCredit: () => void }) {
  const { customerId, currency, vmCount } = outage
  const [worth, left] = [nanoFrom(outage.worthNano), nanoFrom(outage.leftNano)]
  return (
    <tr data-testid="outage-row">
      <td className="ellipsis main">
        <Link to={billingRoute('customers', { id: customerId })}>{customerId}</Link>
        <span className="hint">{vmCount === 1 ? 'one VM' : `${vmCount} VMs`}</span>
      </td>
      <td className="number">{formatDuration(Number(BigInt(outage.hostDownNs) / 1_000_000n))}</td>
      <td className="number" title={formatMoneyExact(worth, currency)}>
        {formatMoney(worth, currency)}
      </td>
      <td className="number">
        {left > 0n ? (
          <button
            type="button"
            className="button small"
            disabled={isBusy}
            title={isBusy ? 'One at a time' : `A promotional credit of ${formatMoneyExact(left, currency)}`}
            onClick={onCredit}
            data-testid="credit-outage"
          >
            Credit {formatMoney(left, currency)}
          </button>
        ) : (
          <span className="quiet">{outage.creditedNano === '0' ? 'nothing to credit' : 'credited'}</span>
        )}
      </td>
    </tr>
  )
}
