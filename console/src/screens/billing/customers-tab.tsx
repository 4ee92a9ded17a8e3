import { useDeferredValue, useState } from 'react'
import type { Customer, Spend } from '../../api/billaged.ts'
import { spendsMax, useCustomers, useSpends } from '../../billing/use-spends.ts'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatCount } from '../../units/counts.ts'
import { formatMoney, formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { NoCustomers } from './overview-tab.tsx'
import { SpendBar } from './spend-bar.tsx'

export function CustomersTab() {
  const customers = useCustomers()
  const [text, setText] = useState('')
  const wanted = useDeferredValue(text.trim().toLowerCase())
  const all = customers.data?.customers ?? []
  const shown = all.filter(({ id, name }) => `${id}\n${name ?? ''}`.toLowerCase().includes(wanted))
  const { byCustomer } = useSpends(shown.map(({ id }) => id))
  return (
    <Panel
      title="Customers"
      aside={customers.data && formatCount(all.length)}
      actions={
        <input
          className="small"
          aria-label="Only customers whose name contains"
          placeholder="Name"
          value={text}
          onChange={event => setText(event.target.value)}
        />
      }
      testId="customers"
    >
      <Loaded resource={customers}>
        {() =>
          all.length === 0 ? (
            <NoCustomers />
          ) : shown.length === 0 ? (
            <Empty title="No such customer">None of the {formatCount(all.length)} has a name like that.</Empty>
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>Customer</th>
                  <th className="c-md">Plan</th>
                  <th className="number c-lg">VMs</th>
                  <th className="number">So far</th>
                  <th className="number c-sm">Forecast</th>
                  <th className="c-md">Against budget</th>
                </tr>
              </thead>
              <tbody>
                {shown.map((customer, i) => (
                  <Row
                    key={customer.id}
                    customer={customer}
                    spend={byCustomer.get(customer.id)}
                    waiting={i < spendsMax ? '…' : '–'}
                  />
                ))}
              </tbody>
            </table>
          )
        }
      </Loaded>
      {shown.length > spendsMax && (
        <p className="panel-note quiet">
          Money moves for the first {spendsMax} shown. Type a part of a name to see others.
        </p>
      )}
      {customers.data?.nextCursor && (
        <p className="panel-note quiet">
          The first {formatCount(all.length)}. <code>billaged usage CUSTOMER</code> and the address of a customer's page
          reach the others.
        </p>
      )}
    </Panel>
  )
}

interface RowProps {
  customer: Customer
  spend: Spend | undefined
  /** What stands where nothing is known: on its way, or not asked for. */
  waiting: string
}

function Row({ customer, spend, waiting }: RowProps) {
  const money = (nano: string) => (
    <td className="number" title={formatMoneyExact(nanoFrom(nano), customer.currency)}>
      {formatMoney(nanoFrom(nano), customer.currency)}
    </td>
  )
  return (
    <tr data-testid="customer">
      <td className="ellipsis main">
        <Link to={billingRoute('customers', { id: customer.id })}>
          <b>{customer.name || customer.id}</b>
          {customer.name && <code className="hint">{customer.id}</code>}
        </Link>
      </td>
      <td className="c-md">
        {customer.planId === null ? (
          <span className="chip" data-tone="warn">
            no plan
          </span>
        ) : (
          <Link to={billingRoute('plans', { id: customer.planId })}>{customer.planId}</Link>
        )}
      </td>
      <td className="number c-lg">{formatCount(customer.vms)}</td>
      {spend ? money(spend.totalNano) : <td className="number quiet">{waiting}</td>}
      <td className="number c-sm">
        {spend ? formatMoney(nanoFrom(spend.forecastNano), spend.currency) : <span className="quiet">{waiting}</span>}
      </td>
      <td className="c-md budget-cell">
        {spend && <SpendBar spend={spend} />}
        {spend?.budgetNano === null && <span className="hint">no budget</span>}
      </td>
    </tr>
  )
}
