import { useEffect, useEffectEvent, useState } from 'react'
import { type Customer, getCustomer, getSpend, getUsage, type Priced, preview, type Spend } from '../../api/billaged.ts'
import { movedOn } from '../../billing/costs.ts'
import { type BillingPeriod, periodOf, recentPeriods, runningPeriod } from '../../billing/periods.ts'
import { type LiveCosts, useCosts } from '../../billing/use-costs.ts'
import { useNow } from '../../live/clock.ts'
import { type Resource, useResource } from '../../live/use-resource.ts'
import { Icon } from '../../parts/icon.tsx'
import { LiveMark } from '../../parts/live-mark.tsx'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import { Link, navigate } from '../../router/navigation.tsx'
import { type BillingRoute, billingRoute } from '../../router/route.ts'
import { formatMoney, formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { formatClock, formatMoment, formatRelative } from '../../units/time.ts'
import { Credits } from './credits.tsx'
import { CustomerInvoices } from './customer-invoices.tsx'
import { CustomerSettings } from './customer-settings.tsx'
import { DayCharts } from './day-charts.tsx'
import { ForecastBand } from './forecast-band.tsx'
import { Amount } from './overview-tab.tsx'
import { PortalLinks } from './portal-links.tsx'
import { PricedLines } from './priced-lines.tsx'
import { Subscriptions } from './subscriptions.tsx'
import { VmTable } from './vm-table.tsx'

const periodsOffered = 12

export function CustomerPage({ route }: { route: BillingRoute }) {
  const customer = useResource(`customer ${route.id}`, signal => getCustomer(route.id, signal), 30_000)
  return (
    <>
      <nav className="crumbs" aria-label="Where this is">
        <Link to={billingRoute('customers')}>Customers</Link>
        <Icon name="chevron" size={12} />
        <span>{customer.data?.name || route.id}</span>
      </nav>
      <section>
        <Loaded resource={customer} skeleton={<SkeletonRows rows={8} />}>
          {one => <Page customer={one} route={route} reload={customer.reload} />}
        </Loaded>
      </section>
    </>
  )
}

function Page({ customer, route, reload }: { customer: Customer; route: BillingRoute; reload: () => void }) {
  const nowMs = Date.now()
  const period = periodOf(customer, route.period, nowMs)
  const running = runningPeriod(customer, nowMs)
  const isRunning = period.key === running.key
  const [isEditing, setIsEditing] = useState(false)
  const [version, setVersion] = useState(0)
  const { from, to } = period
  const live = useCosts(isRunning ? customer.id : null)
  const days = useResource(
    `days ${customer.id} ${from}`,
    signal => getUsage(customer.id, { from, to, by: 'day' }, signal),
    isRunning ? 30_000 : 0,
  )
  const changed = () => {
    reload()
    setVersion(n => n + 1)
  }
  return (
    <div className="customer-grid">
      <header className="page-head">
        <h2>{customer.name || customer.id}</h2>
        <code className="quiet">{customer.id}</code>
        <span className="quiet">{customer.timeZone}</span>
        <div className="screen-actions">
          <LiveMark state={live.state} />
          <PeriodSelect
            periods={recentPeriods(customer, periodsOffered, nowMs)}
            period={period}
            onChange={key => navigate({ ...route, period: key === running.key ? '' : key })}
          />
          <button type="button" className="button" onClick={() => setIsEditing(true)} data-testid="customer-settings">
            Settings
          </button>
        </div>
      </header>
      <Money key={`${period.key} ${version}`} customer={customer} period={period} isRunning={isRunning} live={live} />
      <Panel title="Used, day by day" aside={knownText(days, customer)} testId="day-charts">
        <Loaded resource={days} skeleton={<SkeletonRows rows={6} />}>
          {usage => <DayCharts usage={usage} />}
        </Loaded>
      </Panel>
      <VmTable customer={customer} period={period} isRunning={isRunning} cost={live.cost} />
      <div className="customer-pair">
        <Subscriptions customer={customer} onChanged={changed} />
        <Credits customer={customer} />
        <CustomerInvoices customer={customer} />
        <PortalLinks customer={customer} />
      </div>
      {isEditing && <CustomerSettings customer={customer} onClose={() => setIsEditing(false)} onDone={changed} />}
    </div>
  )
}

export function PeriodSelect({
  periods,
  period,
  onChange,
}: {
  periods: readonly BillingPeriod[]
  period: BillingPeriod
  onChange: (key: string) => void
}) {
  const shown = periods.some(({ key }) => key === period.key) ? periods : [...periods, period]
  return (
    <label className="inline-field">
      <span className="visually-hidden">Period</span>
      <select value={period.key} onChange={event => onChange(event.target.value)} data-testid="period">
        {shown.map(({ key, label }) => (
          <option key={key} value={key}>
            {label}
          </option>
        ))}
      </select>
    </label>
  )
}

function knownText(usage: Resource<{ asOf: string; complete: boolean }>, { timeZone }: Customer): string {
  if (usage.data === null) return ''
  return usage.data.complete ? 'complete' : `as of ${formatClock(Date.parse(usage.data.asOf), timeZone)}`
}

/** Without a stream the amounts are asked for this often; with one, only what it does not tell. Milliseconds. */
const askMs = 10_000
const askSeldomMs = 60_000

/** The running period has a forecast and moves; one that is over is what it is. */
function Money({
  customer,
  period,
  isRunning,
  live,
}: {
  customer: Customer
  period: BillingPeriod
  isRunning: boolean
  live: LiveCosts
}) {
  const { from, to } = period
  const priced = useResource<Priced | Spend>(
    `money ${customer.id} ${from}`,
    signal =>
      isRunning ? getSpend(customer.id, signal, true) : preview({ customerId: customer.id, from, to }, signal),
    isRunning ? (live.state.status === 'live' ? askSeldomMs : askMs) : 0,
  )
  const read = priced.data
  const moved = read !== null && 'forecastNano' in read ? movedOn(read, live.cost) : read
  const isOther = read !== null && moved === null
  const askAgain = useEffectEvent(() => priced.reload())
  useEffect(() => {
    if (isOther) askAgain()
  }, [isOther])
  const shown = { ...priced, data: moved ?? read }
  return (
    <div className="customer-money">
      <Panel
        title={isRunning ? 'Spend so far' : `Spend of ${period.label}`}
        aside={shown.data && `as of ${formatClock(Date.parse(shown.data.asOf), customer.timeZone)}`}
        testId="customer-spend"
      >
        <Loaded resource={shown} skeleton={<SkeletonRows rows={5} />}>
          {answer => <SpendFacts priced={answer} customer={customer} live={live} />}
        </Loaded>
      </Panel>
      <Panel title="What it costs" aside={shown.data?.planId ?? ''} testId="preview">
        <Loaded resource={shown} skeleton={<SkeletonRows rows={5} />}>
          {answer => <PricedLines priced={answer} customer={customer} />}
        </Loaded>
      </Panel>
    </div>
  )
}

function SpendFacts({
  priced,
  customer,
  live: { cost, alerts },
}: {
  priced: Priced | Spend
  customer: Customer
  live: LiveCosts
}) {
  const nowMs = useNow()
  const { currency } = priced
  const totalNano = nanoFrom(priced.totalNano)
  const spend = 'forecastNano' in priced ? priced : null
  const budget = customer.budgetNano === null ? null : nanoFrom(customer.budgetNano)
  const left = budget === null ? null : budget - totalNano
  const money = (nano: bigint) => <dd title={formatMoneyExact(nano, currency)}>{formatMoney(nano, currency)}</dd>
  const end = Date.parse(priced.to)
  return (
    <>
      <div className="ticker">
        <Amount nano={totalNano} currency={currency} />
        {alerts.map(alert => (
          <p key={alert.thresholdPercent} role="status">
            <span className="chip" data-tone={alert.thresholdPercent >= 100 ? 'bad' : 'warn'}>
              {alert.thresholdPercent} % of the budget
            </span>{' '}
            <span className="quiet">reached {formatRelative(Date.parse(alert.firedAt), nowMs)}</span>
          </p>
        ))}
      </div>
      {spend && spend.forecastNano !== '0' && <ForecastBand spend={spend} />}
      <dl className="facts">
        {spend && (
          <div>
            <dt>Forecast</dt>
            {money(nanoFrom(spend.forecastNano))}
          </div>
        )}
        {spend && cost?.nanoPerHour && (
          <div title="The slope of the last minutes">
            <dt>An hour, now</dt>
            {money(nanoFrom(cost.nanoPerHour))}
          </div>
        )}
        <div>
          <dt>Budget</dt>
          {budget === null ? <dd className="quiet">none; see Settings</dd> : money(budget)}
        </div>
        {left !== null && (
          <div data-state={left < 0n ? 'critical' : undefined}>
            <dt>{left < 0n ? 'Over it by' : 'Left'}</dt>
            {money(left < 0n ? -left : left)}
          </div>
        )}
        <div>
          <dt>{end > nowMs ? 'Period ends' : 'Period ended'}</dt>
          <dd title={`${formatMoment(end, 'UTC')} UTC`}>{formatRelative(end, nowMs)}</dd>
        </div>
      </dl>
    </>
  )
}
