import { useState } from 'react'
import { type InvoiceSummary, listInvoices } from '../../api/billing-invoices.ts'
import { periodLabel, recentMonths } from '../../billing/periods.ts'
import { useCustomers } from '../../billing/use-spends.ts'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatCount } from '../../units/counts.ts'
import { formatMoney, formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { formatDay, formatMoment } from '../../units/time.ts'

const states = ['draft', 'finalised', 'void'] as const
const pageRows = 50

export function InvoicesTab() {
  const [customer, setCustomer] = useState('')
  const [period, setPeriod] = useState('')
  const [state, setState] = useState('')
  /** Cursors of the pages before this one, first page first. */
  const [cursors, setCursors] = useState<readonly string[]>([''])
  const customers = useCustomers()
  const cursor = cursors.at(-1) ?? ''
  const invoices = useResource(
    `invoices ${customer} ${period} ${state} ${cursor}`,
    signal => listInvoices({ customer, period, state, cursor, limit: pageRows }, signal),
    15_000,
  )
  const filter = (change: () => void) => {
    change()
    setCursors([''])
  }
  const isFiltered = customer !== '' || period !== '' || state !== ''
  return (
    <Panel
      title="Invoices"
      actions={
        <>
          <select
            className="small"
            aria-label="Only of this customer"
            value={customer}
            onChange={event => filter(() => setCustomer(event.target.value))}
          >
            <option value="">All customers</option>
            {(customers.data?.customers ?? []).map(({ id, name }) => (
              <option key={id} value={id}>
                {name || id}
              </option>
            ))}
          </select>
          <select
            className="small"
            aria-label="Only of this period"
            value={period}
            onChange={event => filter(() => setPeriod(event.target.value))}
          >
            <option value="">All periods</option>
            {recentMonths(24, Date.now()).map(({ key, label }) => (
              <option key={key} value={key}>
                {label}
              </option>
            ))}
          </select>
          <select
            className="small"
            aria-label="Only in this state"
            value={state}
            onChange={event => filter(() => setState(event.target.value))}
          >
            <option value="">All states</option>
            {states.map(one => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </>
      }
      testId="invoices"
    >
      <Loaded resource={invoices}>
        {({ invoices: list, nextCursor }) =>
          list.length === 0 ? (
            isFiltered ? (
              <Empty title="No such invoice">Nothing matches the filters above.</Empty>
            ) : (
              <Empty title="No invoices yet" command="bin/billaged-cli demo">
                A period becomes an invoice when it is closed: by itself a day after its end, or on the{' '}
                <Link to={billingRoute('close')}>close page</Link>. A month to close, with customers and VMs:
              </Empty>
            )
          ) : (
            <>
              <InvoiceRows invoices={list} />
              {(cursors.length > 1 || nextCursor !== null) && (
                <footer className="pager">
                  <span className="quiet">Page {formatCount(cursors.length)}</span>
                  <button
                    type="button"
                    className="button small"
                    disabled={cursors.length === 1}
                    title={cursors.length === 1 ? 'These are the newest' : undefined}
                    onClick={() => setCursors(cursors.slice(0, -1))}
                  >
                    Newer
                  </button>
                  <button
                    type="button"
                    className="button small"
                    disabled={nextCursor === null}
                    title={nextCursor === null ? 'There are no older ones' : undefined}
                    onClick={() => nextCursor !== null && setCursors([...cursors, nextCursor])}
                  >
                    Older
                  </button>
                </footer>
              )}
            </>
          )
        }
      </Loaded>
    </Panel>
  )
}

export function InvoiceRows({
  invoices,
  hasCustomer = true,
}: {
  invoices: readonly InvoiceSummary[]
  hasCustomer?: boolean
}) {
  return (
    <table className="table">
      <thead>
        <tr>
          <th>Invoice</th>
          {hasCustomer && <th>Customer</th>}
          <th className="c-sm">Period</th>
          <th className="number">Total</th>
          <th>State</th>
          <th className="c-lg">Issued</th>
        </tr>
      </thead>
      <tbody>
        {invoices.map(invoice => (
          <tr key={invoice.id} data-testid="invoice-row">
            <td className="nowrap">
              <Link to={billingRoute('invoices', { id: invoice.id })}>{invoice.number ?? 'Draft'}</Link>
              {invoice.revision > 0 && <span className="hint">rev. {invoice.revision}</span>}
            </td>
            {hasCustomer && (
              <td className="ellipsis main">
                <Link to={billingRoute('customers', { id: invoice.customerId })}>{invoice.customerId}</Link>
              </td>
            )}
            <td className="c-sm time">{periodLabel(invoice.period)}</td>
            <td
              className="number"
              title={
                invoice.totalNano === null ? 'Computed when it is opened' : exact(invoice.totalNano, invoice.currency)
              }
            >
              {invoice.totalNano === null ? '–' : formatMoney(nanoFrom(invoice.totalNano), invoice.currency)}
            </td>
            <td>
              <StateChip state={invoice.state} blockers={invoice.blockers.length} />
            </td>
            <td
              className="c-lg time"
              title={invoice.issuedAt === null ? undefined : formatMoment(Date.parse(invoice.issuedAt))}
            >
              {invoice.issuedAt === null ? '–' : formatDay(Date.parse(invoice.issuedAt))}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

export function StateChip({ state, blockers = 0 }: { state: InvoiceSummary['state']; blockers?: number }) {
  const tones = { draft: blockers > 0 ? 'warn' : 'busy', finalised: 'good', void: 'bad' }
  return (
    <span
      className="chip"
      data-tone={tones[state]}
      title={blockers > 0 ? `${blockers === 1 ? 'One reason keeps' : `${blockers} reasons keep`} it open` : undefined}
    >
      {state === 'draft' && blockers > 0 ? 'blocked' : state}
    </span>
  )
}

function exact(nano: string, currency: string): string {
  return formatMoneyExact(nanoFrom(nano), currency)
}
