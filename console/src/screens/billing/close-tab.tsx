import { useState } from 'react'
import {
  type Blocker,
  type CloseReport,
  closeMonth,
  listInvoices,
  listReplicas,
  lookAtClose,
} from '../../api/billing-invoices.ts'
import { type ChecklistItem, checklistOf, forcibleCustomers, groupsOf, mendingRoute } from '../../billing/checklist.ts'
import { type BillingPeriod, recentMonths } from '../../billing/periods.ts'
import { useNow } from '../../live/clock.ts'
import { asApiError, type Resource, useResource } from '../../live/use-resource.ts'
import { CopyButton } from '../../parts/copy.tsx'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import { Link, navigate } from '../../router/navigation.tsx'
import { type BillingRoute, billingRoute } from '../../router/route.ts'
import { formatBytes } from '../../units/bytes.ts'
import { formatCount } from '../../units/counts.ts'
import { formatMoney, formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { formatClock, formatRelative } from '../../units/time.ts'
import { BlockerList } from './blocker-list.tsx'
import { PeriodSelect } from './customer-page.tsx'
import { InvoiceRows } from './invoices-tab.tsx'
import { Outages } from './outages.tsx'

/** Between two looks of the checklist. A look rates the whole month for everybody and writes nothing. */
const lookMs = 8_000

/** The month-close gate: what is ready, what is not and why, as it is now. */
export function CloseTab({ route }: { route: BillingRoute }) {
  const nowMs = Date.now()
  const months = recentMonths(13, nowMs)
  // The month that is over is the one to close.
  const month = months.find(({ key }) => key === route.id) ?? months[1] ?? months[0]
  if (!month) throw new Error('BUG: there is always a running month')
  return (
    <>
      <header className="page-head">
        <h2>Close {month.label}</h2>
        <span className="quiet">periods that start in it</span>
        <div className="screen-actions">
          <PeriodSelect
            periods={months}
            period={month}
            onChange={key => navigate(billingRoute('close', { id: key }))}
          />
        </div>
      </header>
      <Month key={month.key} month={month} />
    </>
  )
}

function Month({ month }: { month: BillingPeriod }) {
  const [looked, setLooked] = useState<{ report: CloseReport; what: string } | null>(null)
  const [asked, setAsked] = useState<'close' | 'force' | null>(null)
  const [problem, setProblem] = useState('')
  const [isLooking, setIsLooking] = useState(false)
  const live = useResource(`close ${month.key}`, signal => lookAtClose(month.key, signal), lookMs)

  async function dryRun(): Promise<void> {
    setIsLooking(true)
    setProblem('')
    try {
      setLooked({ report: await lookAtClose(month.key, undefined), what: 'Dry run' })
      live.reload()
    } catch (cause) {
      setProblem(asApiError(cause).message)
    } finally {
      setIsLooking(false)
    }
  }

  const ready = live.data?.ready.length ?? 0
  const forcible = live.data ? forcibleCustomers(live.data) : []
  return (
    <div className="close-grid">
      <Panel
        className="checklist-panel"
        title="Checklist"
        aside={live.loadedAtMs === null ? '' : `clears itself · looked at ${formatClock(live.loadedAtMs)}`}
        actions={
          <>
            <button type="button" className="button small" onClick={dryRun} disabled={isLooking} data-testid="dry-run">
              {isLooking ? 'Rating…' : 'Dry run'}
            </button>
            <button
              type="button"
              className="button small primary"
              disabled={ready === 0}
              title={ready === 0 ? 'Nothing is ready to be closed' : undefined}
              onClick={() => setAsked('close')}
              data-testid="close-ready"
            >
              Close {ready > 0 ? formatCount(ready) : ''}
            </button>
            <button
              type="button"
              className="button small"
              disabled={forcible.length === 0}
              title={
                forcible.length === 0
                  ? 'Only open quarantine and unrated usage can be closed over, and nobody is blocked by these alone'
                  : undefined
              }
              onClick={() => setAsked('force')}
              data-testid="close-force"
            >
              Force…
            </button>
          </>
        }
        testId="checklist"
      >
        {problem && (
          <p className="problem" role="alert">
            {problem}
          </p>
        )}
        <Loaded resource={live} skeleton={<SkeletonRows rows={8} />}>
          {report => <Checklist report={report} />}
        </Loaded>
      </Panel>
      <Ready live={live} month={month} />
      {looked && <Outcome {...looked} onClose={() => setLooked(null)} />}
      <Outages month={month} />
      <Replicas />
      {asked === 'close' && (
        <Dialog title={`Close ${month.label}`} onClose={() => setAsked(null)}>
          <ActionForm
            submit={ready === 1 ? 'Close one invoice' : `Close ${formatCount(ready)} invoices`}
            onSubmit={async () => {
              const customers = (live.data?.ready ?? []).map(({ customerId }) => customerId)
              setLooked({ report: await closeMonth(month.key, { customers }), what: 'Closed' })
              setAsked(null)
              live.reload()
            }}
          >
            <p>
              Each gets a number, a receipt and its documents, and never changes again. What arrives later becomes an
              adjustment on the next invoice.
            </p>
          </ActionForm>
        </Dialog>
      )}
      {asked === 'force' && (
        <Force
          month={month}
          customers={forcible}
          report={live.data}
          onClose={() => setAsked(null)}
          onDone={report => {
            setLooked({ report, what: 'Closed by force' })
            setAsked(null)
            live.reload()
          }}
        />
      )}
    </div>
  )
}

function Checklist({ report }: { report: CloseReport }) {
  if (report.ready.length + report.blocked.length + report.finalised.length === 0)
    return (
      <Empty title="No period starts in this month" command="bin/billaged-cli demo">
        Nobody used anything in it, or the customers' periods start in other months. A month to close:
      </Empty>
    )
  return (
    <ul className="checklist" aria-live="polite">
      {checklistOf(report).map(item => (
        <Item key={item.code} item={item} />
      ))}
    </ul>
  )
}

/** Of one reason: different details shown, and customers named with each. */
const groupsMax = 30
const namedMax = 20

function Item({ item: { code, title, blocked } }: { item: ChecklistItem }) {
  const isClear = blocked.length === 0
  const count = new Set(blocked.map(({ customerId }) => customerId)).size
  return (
    <li data-clear={isClear} data-testid={`check-${code}`}>
      <span className="check-mark" aria-hidden="true">
        <Icon name={isClear ? 'check' : 'alert'} size={14} />
      </span>
      <div>
        <b>{title}</b>
        <span className="visually-hidden">{isClear ? ': yes' : ': not yet'}</span>
        {!isClear && (
          <span className="hint">
            keeps {formatCount(count)} {count === 1 ? 'customer' : 'customers'} open
          </span>
        )}
        {!isClear && (
          <ul className="check-customers">
            {groupsOf(blocked)
              .slice(0, groupsMax)
              .map(({ blocker, customers }) => (
                <Group key={`${blocker.detail} ${blocker.fix}`} blocker={blocker} customers={customers} />
              ))}
          </ul>
        )}
      </div>
    </li>
  )
}

function Group({ blocker, customers }: { blocker: Blocker; customers: readonly string[] }) {
  const to = mendingRoute(blocker.code, customers[0] ?? '')
  return (
    <li data-testid="blocker">
      <span className="check-names">
        {customers.slice(0, namedMax).map(id => (
          <Link key={id} to={billingRoute('customers', { id })} className="link">
            {id}
          </Link>
        ))}
        {customers.length > namedMax && (
          <span className="quiet">and {formatCount(customers.length - namedMax)} more</span>
        )}
      </span>
      <span>{blocker.detail}</span>
      <span className="blocker-fix">
        <code>{blocker.fix}</code>
        <CopyButton text={blocker.fix} label="Copy what mends it" />
        {to && (
          <Link to={to} className="link">
            Open
          </Link>
        )}
      </span>
    </li>
  )
}

function Ready({ live, month }: { live: Resource<CloseReport>; month: BillingPeriod }) {
  return (
    <Panel
      title="Ready to close"
      aside={
        live.data && (live.data.finalised.length > 0 ? `${formatCount(live.data.finalised.length)} closed already` : '')
      }
      testId="ready"
    >
      <Loaded resource={live} skeleton={<SkeletonRows rows={3} />}>
        {({ ready, finalised }) => (
          <>
            {ready.length === 0 ? (
              <p className="panel-note quiet">
                {finalised.length > 0 ? 'Everything that could be closed is.' : 'Nothing yet.'}
              </p>
            ) : (
              <ReadyRows ready={ready} />
            )}
            {finalised.length > 0 && <Closed month={month} count={finalised.length} />}
          </>
        )}
      </Loaded>
    </Panel>
  )
}

function ReadyRows({ ready }: { ready: CloseReport['ready'] }) {
  return (
    <table className="table">
      <thead>
        <tr>
          <th>Customer</th>
          <th className="number">Total</th>
        </tr>
      </thead>
      <tbody>
        {ready.map(({ customerId, currency, totalNano }) => (
          <tr key={customerId} data-testid="ready-row">
            <td className="ellipsis main">
              <Link to={billingRoute('customers', { id: customerId })}>{customerId}</Link>
            </td>
            <td className="number" title={formatMoneyExact(nanoFrom(totalNano), currency)}>
              {formatMoney(nanoFrom(totalNano), currency)}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

/** Invoices shown; the invoices tab has all. */
const closedMax = 20

function Closed({ month, count }: { month: BillingPeriod; count: number }) {
  const invoices = useResource(`closed ${month.key} ${count}`, signal =>
    listInvoices({ period: month.key, state: 'finalised', limit: closedMax }, signal),
  )
  return (
    <Loaded resource={invoices} skeleton={<SkeletonRows rows={2} />}>
      {({ invoices: list }) => <InvoiceRows invoices={list} />}
    </Loaded>
  )
}

/** Links shown; the invoices tab has all. */
const linksMax = 30

function Finalised({ ids }: { ids: readonly string[] }) {
  return (
    <p className="panel-note finalised">
      {ids.slice(0, linksMax).map(id => (
        <Link key={id} to={billingRoute('invoices', { id })} data-testid="finalised-link">
          <code>{id}</code>
        </Link>
      ))}
      {ids.length > linksMax && (
        <Link to={billingRoute('invoices')}>and {formatCount(ids.length - linksMax)} more</Link>
      )}
    </p>
  )
}

function Outcome({ report, what, onClose }: { report: CloseReport; what: string; onClose: () => void }) {
  const { ready, blocked, finalised } = report
  const words = [
    ready.length > 0 ? `${formatCount(ready.length)} ready` : '',
    blocked.length > 0 ? `${formatCount(blocked.length)} blocked` : '',
    finalised.length > 0 ? `${formatCount(finalised.length)} finalised` : '',
  ].filter(word => word !== '')
  return (
    <Panel
      className="outcome-panel"
      title={`${what}: ${words.join(' · ') || 'nothing to do'}`}
      actions={
        <button type="button" className="icon-button" aria-label="Dismiss" onClick={onClose}>
          <Icon name="close" size={14} />
        </button>
      }
      testId="close-outcome"
    >
      {ready.length > 0 && <ReadyRows ready={ready} />}
      {blocked.length > 0 && (
        <BlockerList
          blockers={blocked.flatMap(({ customerId, reasons }) => reasons.map(blocker => ({ customerId, blocker })))}
        />
      )}
      {finalised.length > 0 && <Finalised ids={finalised} />}
    </Panel>
  )
}

interface ForceProps {
  month: BillingPeriod
  customers: readonly string[]
  report: CloseReport | null
  onClose: () => void
  onDone: (report: CloseReport) => void
}

function Force({ month, customers, report, onClose, onDone }: ForceProps) {
  const [reason, setReason] = useState('')
  const [chosen, setChosen] = useState<readonly string[]>(customers)
  const blocked = (report?.blocked ?? []).filter(({ customerId }) => customers.includes(customerId))
  return (
    <Dialog title={`Close ${month.label} by force`} onClose={onClose}>
      <ActionForm
        submit={
          chosen.length === 1 ? 'Close one invoice over it' : `Close ${formatCount(chosen.length)} invoices over it`
        }
        blocked={
          chosen.length === 0 ? 'Choose whom' : reason.trim() === '' ? 'Closing over something needs a reason' : ''
        }
        onSubmit={async () => {
          onDone(await closeMonth(month.key, { customers: chosen, force: { reason: reason.trim() } }))
        }}
      >
        <ul className="force-list">
          {blocked.map(({ customerId, reasons }) => (
            <li key={customerId}>
              <label>
                <input
                  type="checkbox"
                  checked={chosen.includes(customerId)}
                  onChange={event =>
                    setChosen(event.target.checked ? [...chosen, customerId] : chosen.filter(id => id !== customerId))
                  }
                />
                <b>{customerId}</b>
              </label>
              <span className="quiet">{reasons.map(({ detail }) => detail).join('; ')}</span>
            </li>
          ))}
        </ul>
        <Field label="Reason" hint="It stands on the invoice's record and in the audit, with what was closed over.">
          <input
            value={reason}
            maxLength={500}
            onChange={event => setReason(event.target.value)}
            data-testid="force-reason"
          />
        </Field>
      </ActionForm>
    </Dialog>
  )
}

function Replicas() {
  const replicas = useResource('replicas', listReplicas, 10_000)
  const nowMs = useNow()
  const list = replicas.data?.replicas.filter(({ retiredAt }) => retiredAt === null) ?? []
  // Alone, there is nobody to wait for.
  if (list.length < 2) return null
  return (
    <Panel title="Replicas" aside="all must have folded what they acknowledged" testId="replicas">
      <table className="table">
        <tbody>
          {list.map(replica => (
            <tr key={replica.id}>
              <td className="ellipsis main">
                <code>{replica.id}</code>
                {replica.isThisOne && <span className="hint">this one</span>}
              </td>
              <td className="time">seen {formatRelative(Date.parse(replica.lastSeen), nowMs)}</td>
              <td className="number">{formatBytes(BigInt(replica.backlogBytes))} waiting</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  )
}
