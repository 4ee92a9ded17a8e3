import { useState } from 'react'
import { type Customer, getHealth, getMetrics, type Spend } from '../../api/billaged.ts'
import { listInvoices, listQuarantine } from '../../api/billing-invoices.ts'
import { reasonTitle } from '../../billing/checklist.ts'
import { byLabel, parseMetrics, rateOf, type Samples, type Snapshot, total } from '../../billing/metrics.ts'
import { perHour, spendsMax, totalsBy, useCustomers, useSpends } from '../../billing/use-spends.ts'
import { Sparkline } from '../../charts/sparkline.tsx'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel, SkeletonRows, StaleLine } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatBytes } from '../../units/bytes.ts'
import { formatCount, formatPerSecond } from '../../units/counts.ts'
import { formatDuration } from '../../units/duration.ts'
import { formatMoney, formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { formatClock } from '../../units/time.ts'
import { InvoiceRows } from './invoices-tab.tsx'
import { SpendBar } from './spend-bar.tsx'

/** What moves now: money, machines, intake; and what will keep the month open. */
export function OverviewTab() {
  const customers = useCustomers()
  const list = customers.data?.customers ?? []
  const spends = useSpends(list.map(({ id }) => id))
  return (
    <div className="billing-grid">
      <Panel className="ticker-panel" title="Spend of the running periods" testId="spend-ticker">
        <Loaded resource={customers} skeleton={<SkeletonRows rows={6} />}>
          {({ customers: all }) =>
            all.length === 0 ? (
              <NoCustomers />
            ) : (
              <>
                {spends.error && <StaleLine error={spends.error} loadedAtMs={null} />}
                <Ticker customers={all} spends={spends.byCustomer} />
              </>
            )
          }
        </Loaded>
      </Panel>
      <div className="billing-stack">
        <Pulse />
      </div>
      <Panel
        className="recent-invoices"
        title={
          <Link to={billingRoute('invoices')}>
            Newest invoices <Icon name="chevron" size={12} />
          </Link>
        }
        testId="recent-invoices"
      >
        <RecentInvoices />
      </Panel>
    </div>
  )
}

export function NoCustomers() {
  return (
    <Empty title="No customers yet" command="bin/billaged-cli demo">
      A tenant becomes a customer with its first measured use: an AI call, a build, a log line, a VM. Or make three with
      a month of VMs:
    </Empty>
  )
}

function Ticker({ customers, spends }: { customers: readonly Customer[]; spends: ReadonlyMap<string, Spend> }) {
  const known = customers.flatMap(({ id }) => spends.get(id) ?? [])
  if (known.length === 0) return <SkeletonRows rows={6} />
  const asOf = known.reduce((newest, { asOf: at }) => Math.max(newest, Date.parse(at)), 0)
  const isComplete = known.every(({ complete }) => complete)
  const rows = customers
    .flatMap(customer => {
      const spend = spends.get(customer.id)
      return spend ? [{ customer, spend }] : []
    })
    .sort((a, b) => (BigInt(a.spend.totalNano) < BigInt(b.spend.totalNano) ? 1 : -1))
  return (
    <>
      <div className="ticker">
        {totalsBy(known).map(({ currency, totalNano, forecastNano }) => (
          <div key={currency}>
            <Amount nano={totalNano} currency={currency} />
            <span className="quiet">
              so far · about {formatMoney(forecastNano, currency)} at the end of the period if it goes on like this
            </span>
          </div>
        ))}
        <p className="quiet" role="status">
          {isComplete ? 'Everything acknowledged is in' : 'Still folding what was acknowledged'}, as of{' '}
          <time>{formatClock(asOf)}</time>
        </p>
      </div>
      <ul className="spend-list">
        {rows.map(({ customer, spend }) => (
          <SpendRow key={customer.id} customer={customer} spend={spend} />
        ))}
      </ul>
      {customers.length > spendsMax && (
        <p className="panel-note quiet">
          The first {spendsMax} of {customers.length} customers; each one's page has its own.
        </p>
      )}
    </>
  )
}

function SpendRow({ customer, spend }: { customer: Customer; spend: Spend }) {
  const rate = spend.planId === null ? null : perHour(spend)
  return (
    <li>
      <Link to={billingRoute('customers', { id: customer.id })} className="spend-row" data-testid="spend-row">
        <span className="budget-name ellipsis">{customer.name || customer.id}</span>
        <span className="budget-amounts" title={formatMoneyExact(nanoFrom(spend.totalNano), spend.currency)}>
          <b>{formatMoney(nanoFrom(spend.totalNano), spend.currency)}</b>
          {spend.budgetNano !== null && ` of ${formatMoney(nanoFrom(spend.budgetNano), spend.currency)}`}
        </span>
        <SpendBar spend={spend} />
        <span className="quiet">
          {spend.planId ?? 'no plan'} · {formatCount(customer.vms)} {customer.vms === 1 ? 'VM' : 'VMs'}
        </span>
        <span className="quiet number">{rate !== null && `≈ ${formatMoney(rate, spend.currency)} an hour`}</span>
      </Link>
    </li>
  )
}

/** Every digit that is known; those below the cent are smaller, and still there. */
export function Amount({ nano, currency }: { nano: bigint; currency: string }) {
  const text = formatMoneyExact(nano, currency)
  const cents = text.indexOf('.') + 3
  return (
    <strong className="amount" data-testid="amount">
      {text.slice(0, cents)}
      <small>{text.slice(cents)}</small>
    </strong>
  )
}

/** Looks kept: enough for a line of two minutes. */
const looksKept = 60
const lookMs = 2_000
/** Over which a rate is measured: long enough for one reading every five seconds to be a steady line. */
const rateLooks = 8

function Pulse() {
  const [looks, setLooks] = useState<readonly Snapshot[]>([])
  const metrics = useResource(
    'billaged metrics',
    async signal => {
      const now: Snapshot = { atMs: Date.now(), samples: parseMetrics(await getMetrics(signal)) }
      setLooks(before => [...before.slice(1 - looksKept), now])
      return now
    },
    lookMs,
  )
  return (
    <>
      <Panel className="pulse-panel" title="Now" testId="pulse">
        <Loaded resource={metrics} skeleton={<SkeletonRows rows={5} />}>
          {now => <PulseFacts now={now} looks={looks} />}
        </Loaded>
      </Panel>
      <Panel
        className="blockers-panel"
        title={
          <Link to={billingRoute('close')}>
            What keeps periods open <Icon name="chevron" size={12} />
          </Link>
        }
        testId="blockers"
      >
        <Loaded resource={metrics} skeleton={<SkeletonRows rows={3} />}>
          {({ samples }) => <Blockers samples={samples} />}
        </Loaded>
        <Notes />
      </Panel>
    </>
  )
}

function PulseFacts({ now, looks }: { now: Snapshot; looks: readonly Snapshot[] }) {
  const { samples } = now
  const rates = looks.map((look, i) =>
    rateOf(looks[Math.max(0, i - rateLooks)], look, 'billaged_metrics_processed_total'),
  )
  const samplesPerS = rates.at(-1) ?? null
  const eventsPerS = rateOf(looks.at(-1 - rateLooks) ?? looks[0], now, 'billaged_events_processed_total')
  const vms = total(samples, 'billaged_active_vms')
  const lagS = total(samples, 'billaged_fold_lag_seconds')
  const journal = total(samples, 'billaged_journal_bytes')
  const errors = total(samples, 'billaged_billing_errors_total') ?? 0
  const facts: readonly [string, string, string?][] = [
    ['VMs alive', vms === null ? '–' : formatCount(vms)],
    ['Samples', samplesPerS === null ? '–' : formatPerSecond(samplesPerS)],
    ['Events', eventsPerS === null ? '–' : formatPerSecond(eventsPerS)],
    ['Fold lag', lagS === null ? '–' : formatDuration(lagS * 1000), 'From acknowledged to seen in usage'],
    ['Waiting in the journal', journal === null ? '–' : formatBytes(journal)],
    ['Folding errors', formatCount(errors), 'Since the service started'],
  ]
  return (
    <>
      <dl className="facts pulse-facts">
        {facts.map(([name, value, hint]) => (
          <div key={name} title={hint}>
            <dt>{name}</dt>
            <dd data-testid={`pulse-${name.toLowerCase().replaceAll(' ', '-')}`}>{value}</dd>
          </div>
        ))}
      </dl>
      <div className="pulse-line" title="Samples a second over the last two minutes">
        <Sparkline values={rates} color="var(--chart-1)" />
      </div>
    </>
  )
}

function Blockers({ samples }: { samples: Samples }) {
  const blockers = byLabel(samples, 'billaged_close_blockers', 'reason')
  const unrated = byLabel(samples, 'billaged_unrated_usage', 'meter')
  const shown = blockers.filter(({ key }) => key !== 'period_not_over')
  if (shown.length === 0 && unrated.length === 0)
    return (
      <p className="panel-note clear-line">
        <Icon name="check" size={14} /> Nothing. Periods that are over close by themselves.
      </p>
    )
  return (
    <ul className="blocker-list">
      {shown.map(({ key, value }) => (
        <li key={key}>
          <Link to={billingRoute('close')}>
            <span className="chip" data-tone="warn">
              {formatCount(value)}
            </span>
            {reasonTitle(key)}
          </Link>
        </li>
      ))}
      {unrated.map(({ key }) => (
        <li key={key}>
          <Link to={billingRoute('meters', { id: key })}>
            <span className="chip" data-tone="warn">
              no price
            </span>
            <code>{key}</code>
          </Link>
        </li>
      ))}
    </ul>
  )
}

/** What is not wrong and should be known: doubtful readings that wait, and an intake that asks nobody for proof. */
function Notes() {
  const quarantine = useResource(
    'billing quarantine count',
    signal => listQuarantine({ state: 'open', limit: 100 }, signal),
    10_000,
  )
  const health = useResource('billaged health', getHealth, 15_000)
  const waiting = quarantine.data?.items.length ?? 0
  const intake = health.data?.checks.intake?.detail
  return (
    <>
      {waiting > 0 && (
        <p className="panel-note">
          <Link to={billingRoute('quarantine')}>
            {quarantine.data?.nextCursor === null ? formatCount(waiting) : `${formatCount(waiting)} or more`} doubtful{' '}
            {waiting === 1 ? 'reading waits' : 'readings wait'} for a decision
          </Link>
        </p>
      )}
      {intake?.startsWith('intake is open') && (
        <p className="panel-note quiet" data-testid="open-intake">
          Intake is open: <code>BILLAGED_INGEST_AUTH=guide</code> asks senders for no proof. <code>tenant</code> or{' '}
          <code>strict</code> does.
        </p>
      )}
    </>
  )
}

function RecentInvoices() {
  const invoices = useResource('billing newest invoices', signal => listInvoices({ limit: 6 }, signal), 15_000)
  return (
    <Loaded resource={invoices}>
      {({ invoices: list }) =>
        list.length === 0 ? (
          <Empty title="No invoices yet">
            A period becomes an invoice when it is closed, by itself a day after its end or on the{' '}
            <Link to={billingRoute('close')}>close page</Link>.
          </Empty>
        ) : (
          <InvoiceRows invoices={list} />
        )
      }
    </Loaded>
  )
}
