import { useState } from 'react'
import { type Budget, listAlerts, listBudgets, removeBudget, type SpendAlert } from '../../api/billing-alerts.ts'
import { useNow } from '../../live/clock.ts'
import { asApiError, type Resource, useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatMoney, formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { formatMoment, formatRelative } from '../../units/time.ts'
import { Deliveries } from './deliveries.tsx'
import { EditBudget } from './edit-budget.tsx'
import { Webhooks } from './webhooks.tsx'

/** What warns of spend, whom it tells, and whether they heard it. */
export function AlertsTab() {
  const budgets = useResource('billing budgets', listBudgets, 15_000)
  const alerts = useResource('billing alerts', listAlerts, 5_000)
  return (
    <>
      <div className="customer-pair">
        <Budgets budgets={budgets} />
        <Panel title="Fired" aside="once per customer, period and threshold" testId="fired-alerts">
          <Loaded resource={alerts}>{({ alerts: list }) => <Fired alerts={list} />}</Loaded>
        </Panel>
      </div>
      <Webhooks />
      <Deliveries />
    </>
  )
}

function Budgets({ budgets }: { budgets: Resource<{ budgets: Budget[] }> }) {
  const [editing, setEditing] = useState<Budget | 'new' | null>(null)
  const [problem, setProblem] = useState('')
  const remove = (customer: string) => {
    setProblem('')
    removeBudget(customer)
      .then(budgets.reload)
      .catch(cause => setProblem(asApiError(cause).message))
  }
  return (
    <Panel
      title="Budgets"
      actions={
        <button
          type="button"
          className="button small primary"
          onClick={() => setEditing('new')}
          data-testid="new-spend-budget"
        >
          <Icon name="plus" size={14} />
          Set a budget
        </button>
      }
      testId="spend-budgets"
    >
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <Loaded resource={budgets}>
        {({ budgets: list }) =>
          list.length === 0 ? (
            <Empty title="Nothing is watched yet">
              A budget is what a customer means to spend in a period. At its thresholds an alert fires and webhooks are
              told; nothing is stopped by it.
            </Empty>
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>Customer</th>
                  <th className="number">Budget</th>
                  <th className="c-sm">Alerts at</th>
                  <th />
                </tr>
              </thead>
              <tbody>
                {list.map(budget => (
                  <tr key={budget.customerId} data-testid="spend-budget">
                    <td className="ellipsis main">
                      <Link to={billingRoute('customers', { id: budget.customerId })}>{budget.customerId}</Link>
                    </td>
                    <td className="number" title={formatMoneyExact(nanoFrom(budget.budgetNano), budget.currency)}>
                      {formatMoney(nanoFrom(budget.budgetNano), budget.currency)}
                    </td>
                    <td className="c-sm nowrap">
                      <Thresholds budget={budget} />
                    </td>
                    <td className="row-actions">
                      <button type="button" className="link" onClick={() => setEditing(budget)}>
                        Change
                      </button>
                      <button
                        type="button"
                        className="icon-button"
                        aria-label={`Remove the budget of ${budget.customerId}`}
                        title="Remove"
                        onClick={() => remove(budget.customerId)}
                      >
                        <Icon name="trash" size={14} />
                      </button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )
        }
      </Loaded>
      {editing && (
        <EditBudget
          budget={editing === 'new' ? null : editing}
          onClose={() => setEditing(null)}
          onDone={() => {
            setEditing(null)
            budgets.reload()
          }}
        />
      )}
    </Panel>
  )
}

function Thresholds({ budget: { alertPercents, firedPercents, stopRequestedAtFull } }: { budget: Budget }) {
  if (alertPercents.length === 0) return <span className="quiet">none</span>
  return (
    <>
      {alertPercents.map(percent => {
        const isFired = firedPercents.includes(percent)
        return (
          <span
            key={percent}
            className="chip threshold"
            data-tone={isFired ? (percent >= 100 ? 'bad' : 'warn') : undefined}
            title={isFired ? 'Fired in this period' : 'Not reached in this period'}
          >
            {percent} %{isFired && ' fired'}
          </span>
        )
      })}
      {stopRequestedAtFull && <span className="hint">asks for a stop when full</span>}
    </>
  )
}

function Fired({ alerts }: { alerts: readonly SpendAlert[] }) {
  const nowMs = useNow()
  if (alerts.length === 0) return <Empty title="All quiet">No threshold was reached so far.</Empty>
  const newestFirst = alerts.toSorted((a, b) => (a.firedAt < b.firedAt ? 1 : -1))
  return (
    <table className="table">
      <thead>
        <tr>
          <th>When</th>
          <th>Customer</th>
          <th className="number">Spent</th>
        </tr>
      </thead>
      <tbody>
        {newestFirst.map(alert => (
          <tr key={`${alert.customerId} ${alert.period.from} ${alert.thresholdPercent}`} data-testid="fired-alert">
            <td className="time" title={formatMoment(Date.parse(alert.firedAt))}>
              {formatRelative(Date.parse(alert.firedAt), nowMs)}
            </td>
            <td className="ellipsis main">
              <Link to={billingRoute('customers', { id: alert.customerId })}>{alert.customerId}</Link>
              <span className="chip threshold" data-tone={alert.thresholdPercent >= 100 ? 'bad' : 'warn'}>
                {alert.thresholdPercent} %
              </span>
              {alert.action && <span className="hint">stop requested</span>}
            </td>
            <td className="number" title={formatMoneyExact(nanoFrom(alert.spentNano), alert.currency)}>
              {formatMoney(nanoFrom(alert.spentNano), alert.currency)}
              <span className="hint c-sm">of {formatMoney(nanoFrom(alert.budgetNano), alert.currency)}</span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}
