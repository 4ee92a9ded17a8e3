import { useState } from 'react'
import { getCustomer } from '../../api/billaged.ts'
import {
  finaliseInvoice,
  getInvoice,
  type Invoice,
  type InvoiceLineView,
  voidInvoice,
} from '../../api/billing-invoices.ts'
import { meterLabel, unitOfMeter } from '../../billing/meters.ts'
import { periodLabel } from '../../billing/periods.ts'
import { useResource } from '../../live/use-resource.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import { Link, navigate } from '../../router/navigation.tsx'
import { type BillingRoute, billingRoute } from '../../router/route.ts'
import { formatMoney, formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { formatQuantity } from '../../units/quantity.ts'
import { formatDay, formatMoment } from '../../units/time.ts'
import { BlockerList } from './blocker-list.tsx'
import { Downloads } from './downloads.tsx'
import { ExplainDrawer } from './explain-drawer.tsx'
import { StateChip } from './invoices-tab.tsx'
import { ReceiptBadge } from './receipt-badge.tsx'

export function InvoicePage({ route }: { route: BillingRoute }) {
  const invoice = useResource(`invoice ${route.id}`, signal => getInvoice(route.id, signal))
  return (
    <>
      <nav className="crumbs" aria-label="Where this is">
        <Link to={billingRoute('invoices')}>Invoices</Link>
        <Icon name="chevron" size={12} />
        <span>{invoice.data ? (invoice.data.number ?? 'Draft') : route.id}</span>
      </nav>
      <section>
        <Loaded resource={invoice} skeleton={<SkeletonRows rows={8} />}>
          {one => <Page invoice={one} route={route} reload={invoice.reload} />}
        </Loaded>
      </section>
    </>
  )
}

function Page({ invoice, route, reload }: { invoice: Invoice; route: BillingRoute; reload: () => void }) {
  const customer = useResource(`customer ${invoice.customerId}`, signal => getCustomer(invoice.customerId, signal))
  const zone = customer.data?.timeZone ?? 'UTC'
  const [asked, setAsked] = useState<'void' | 'finalise' | null>(null)
  const explained = invoice.lines.find(({ id }) => id === route.line)
  const explain = (line: string) => navigate({ ...route, line }, 'replace')
  return (
    <div className="customer-grid">
      <header className="page-head">
        <h2>{invoice.number ?? 'Draft invoice'}</h2>
        <StateChip state={invoice.state} blockers={invoice.blockers.length} />
        {invoice.revision > 0 && <span className="quiet">revision {invoice.revision}</span>}
        <div className="screen-actions">
          {invoice.state === 'finalised' && <ReceiptBadge invoiceId={invoice.id} />}
          <Downloads invoice={invoice} />
          {invoice.state === 'draft' && (
            <button
              type="button"
              className="button primary"
              onClick={() => setAsked('finalise')}
              data-testid="finalise"
            >
              Finalise…
            </button>
          )}
          {invoice.state === 'finalised' && (
            <button type="button" className="button" onClick={() => setAsked('void')}>
              Void…
            </button>
          )}
        </div>
      </header>
      <Panel title="Amount due" testId="invoice-head">
        <div className="ticker">
          <strong className="amount" data-testid="amount-due">
            {formatMoney(dueNano(invoice), invoice.currency)}
          </strong>
        </div>
        <dl className="facts">
          <div>
            <dt>Customer</dt>
            <dd>
              <Link to={billingRoute('customers', { id: invoice.customerId })} className="link">
                {invoice.customerName || invoice.customerId}
              </Link>
            </dd>
          </div>
          <div>
            <dt>Period, by UTC</dt>
            <dd>{periodLabel(invoice.period)}</dd>
          </div>
          <div>
            <dt>{invoice.issuedAt === null ? 'As of' : 'Issued'}</dt>
            <dd title={zone}>{formatMoment(Date.parse(invoice.issuedAt ?? invoice.asOf), zone)}</dd>
          </div>
          <div>
            <dt>Before rounding down</dt>
            <dd>{formatMoneyExact(nanoFrom(invoice.totalNano), invoice.currency)}</dd>
          </div>
        </dl>
        {invoice.forced && (
          <p className="panel-note">
            <span className="chip" data-tone="warn">
              forced
            </span>{' '}
            Closed by {invoice.forced.by}: “{invoice.forced.reason}”, over{' '}
            {invoice.forced.over.map(({ detail }) => detail).join('; ') || 'nothing'}.
          </p>
        )}
      </Panel>
      {invoice.blockers.length > 0 && (
        <Panel title="What keeps it open" testId="invoice-blockers">
          <BlockerList blockers={invoice.blockers.map(blocker => ({ customerId: invoice.customerId, blocker }))} />
        </Panel>
      )}
      <Panel title="Lines" aside="a line explains itself down to the hour" testId="invoice-lines">
        <Lines invoice={invoice} onExplain={explain} open={route.line} />
      </Panel>
      {explained && (
        <ExplainDrawer key={explained.id} invoice={invoice} line={explained} zone={zone} onClose={() => explain('')} />
      )}
      {asked === 'void' && <VoidDialog invoice={invoice} onClose={() => setAsked(null)} />}
      {asked === 'finalise' && (
        <FinaliseDialog
          invoice={invoice}
          onClose={() => setAsked(null)}
          onDone={() => {
            setAsked(null)
            reload()
          }}
        />
      )}
    </div>
  )
}

/** Kinds in the order in which they act on one another (usage first, rounding last). */
const kindWords: Record<InvoiceLineView['kind'], string> = {
  usage: 'Usage',
  flat: 'Flat fee',
  adjustment: 'Adjustment',
  minimum: 'Minimum commitment',
  credit: 'Promotional credit',
  tax: 'Tax',
  prepaid: 'Prepaid credit',
  rounding: 'Rounding',
}

function Lines({ invoice, onExplain, open }: { invoice: Invoice; onExplain: (line: string) => void; open: string }) {
  const isSplit = new Set(invoice.lines.map(({ segment }) => segment.from)).size > 1
  return (
    <table className="table">
      <thead>
        <tr>
          <th>Line</th>
          <th className="c-md">Price</th>
          <th className="number c-sm">Quantity</th>
          <th className="number">Amount</th>
        </tr>
      </thead>
      <tbody>
        {invoice.lines.map(line => (
          <tr key={line.id} data-testid="invoice-line" data-here={open === line.id || undefined}>
            <td>
              {isExplained(line) ? (
                <button
                  type="button"
                  className="row-toggle wrap"
                  aria-haspopup="dialog"
                  onClick={() => onExplain(line.id)}
                  title="Explain this amount"
                >
                  <Icon name="search" size={12} />
                  <span>{line.meter ? meterLabel(line.meter) : line.description || kindWords[line.kind]}</span>
                </button>
              ) : (
                line.description || kindWords[line.kind]
              )}
              {line.kind !== 'usage' && <span className="hint">{kindWords[line.kind].toLowerCase()}</span>}
              {Object.values(line.group).length > 0 && (
                <span className="hint">{Object.values(line.group).join(' · ')}</span>
              )}
              {isSplit && line.kind === 'usage' && (
                <span className="hint">
                  {formatDay(Date.parse(line.segment.from), 'UTC')} –{' '}
                  {formatDay(Date.parse(line.segment.to) - 1, 'UTC')}
                </span>
              )}
              {line.cause && (
                <span className="hint">
                  {line.cause === 'late_data' ? 'late data' : 'plan changed'}
                  {line.adjustsPeriod && `, ${periodLabel(line.adjustsPeriod)}`}
                </span>
              )}
            </td>
            <td className="c-md quiet">
              {line.plan && (
                <Link to={billingRoute('plans', { id: line.plan.id })}>
                  <code>
                    {line.priceId ?? ''} {line.plan.id} v{line.plan.version}
                  </code>
                </Link>
              )}
            </td>
            <td className="number quiet c-sm" title={line.meter ? line.quantity : undefined}>
              {line.meter && formatQuantity(line.quantity, line.unit ?? unitOfMeter(line.meter), line.meter)}
            </td>
            <td className="number" title={formatMoneyExact(nanoFrom(line.amountNano), invoice.currency)}>
              {formatMoney(nanoFrom(line.amountNano), invoice.currency)}
            </td>
          </tr>
        ))}
      </tbody>
      <tfoot>
        <tr>
          <td>Due</td>
          <td className="c-md" />
          <td className="c-sm" />
          <td className="number">
            <b>{formatMoney(dueNano(invoice), invoice.currency)}</b>
          </td>
        </tr>
      </tfoot>
    </table>
  )
}

/** A rounding says all there is to say in its own row. */
function isExplained({ kind }: InvoiceLineView): boolean {
  return kind !== 'rounding'
}

/** Lines always sum to what is due; the sum is exact and needs no table of currencies. */
function dueNano({ lines }: Invoice): bigint {
  return lines.reduce((sum, { amountNano }) => sum + nanoFrom(amountNano), 0n)
}

function VoidDialog({ invoice, onClose }: { invoice: Invoice; onClose: () => void }) {
  const [reason, setReason] = useState('')
  return (
    <Dialog title={`Void ${invoice.number}`} onClose={onClose}>
      <ActionForm
        submit="Void"
        blocked={reason.trim() === '' ? 'Say why, for whoever reads the audit' : ''}
        onSubmit={async () => {
          const { replacement } = await voidInvoice(invoice.id, reason.trim())
          onClose()
          navigate(billingRoute('invoices', { id: replacement }))
        }}
      >
        <p>The number stays taken, credits go back, and a draft of the same period takes its place. This is final.</p>
        <Field label="Reason">
          <input
            value={reason}
            maxLength={500}
            onChange={event => setReason(event.target.value)}
            data-testid="void-reason"
          />
        </Field>
      </ActionForm>
    </Dialog>
  )
}

function FinaliseDialog({ invoice, onClose, onDone }: { invoice: Invoice; onClose: () => void; onDone: () => void }) {
  const [reason, setReason] = useState('')
  const mustForce = invoice.blockers.length > 0
  return (
    <Dialog title="Finalise this invoice" onClose={onClose}>
      <ActionForm
        submit={mustForce ? 'Finalise over it' : 'Finalise'}
        blocked={mustForce && reason.trim() === '' ? 'Closing over something needs a reason' : ''}
        onSubmit={async () => {
          await finaliseInvoice(invoice.id, mustForce ? reason.trim() : undefined)
          onDone()
        }}
      >
        <p>It gets its number and never changes again; later data becomes an adjustment on the next invoice.</p>
        {mustForce && (
          <>
            <BlockerList blockers={invoice.blockers.map(blocker => ({ customerId: invoice.customerId, blocker }))} />
            <Field label="Reason" hint="Only open quarantine and unrated usage can be closed over.">
              <input value={reason} maxLength={500} onChange={event => setReason(event.target.value)} />
            </Field>
          </>
        )}
      </ActionForm>
    </Dialog>
  )
}
