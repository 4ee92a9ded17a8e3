import './../spend/spend.css'
import { type Customer, getUsage, listCustomers, type Usage as UsageAnswer } from '../../api/billaged.ts'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link, navigate } from '../../router/navigation.tsx'
import type { Route } from '../../router/route.ts'
import { formatDuration } from '../../units/duration.ts'
import { formatQuantity } from '../../units/quantity.ts'
import { formatMoment } from '../../units/time.ts'
import { meterLabel } from './meters.ts'
import { periodOf, recentPeriods, type UsagePeriod } from './periods.ts'
import { Priced } from './priced.tsx'

type UsageRoute = Extract<Route, { screen: 'usage' }>

export function Usage({ route }: { route: UsageRoute }) {
  const customers = useResource('customers', signal => listCustomers(signal), 30_000)
  const nowMs = Date.now()
  const period = periodOf(route.period, nowMs)
  return (
    <div className="screen usage">
      <header className="screen-head">
        <h1>Usage</h1>
        <div className="screen-actions">
          <label className="inline-field">
            <span className="visually-hidden">Period</span>
            <select
              value={period.key}
              onChange={event =>
                navigate({ ...route, period: event.target.value === periodOf('', nowMs).key ? '' : event.target.value })
              }
              data-testid="period"
            >
              {withChosen(recentPeriods(12, nowMs), period).map(({ key, label }) => (
                <option key={key} value={key}>
                  {label}
                </option>
              ))}
            </select>
          </label>
        </div>
      </header>
      <Loaded resource={customers}>
        {({ customers: list }) => {
          const chosen = list.find(({ id }) => id === route.customer) ?? (route.customer ? null : (list[0] ?? null))
          if (list.length === 0) return <NoCustomers />
          return (
            <div className="split">
              <nav className="panel split-list" aria-label="Customers">
                {list.map(customer => (
                  <Link
                    key={customer.id}
                    to={{ ...route, customer: customer.id }}
                    className="tenant-link"
                    aria-current={customer.id === chosen?.id ? 'page' : undefined}
                    data-testid="customer"
                  >
                    <span className="budget-name ellipsis">{customer.name || customer.id}</span>
                    <span className="budget-amounts quiet">{customer.planId ?? 'no plan'}</span>
                  </Link>
                ))}
              </nav>
              <div className="split-detail">
                {chosen ? (
                  <CustomerUsage key={`${chosen.id} ${period.key}`} customer={chosen} period={period} />
                ) : (
                  <section className="panel">
                    <Empty title="No such customer">
                      <code>{route.customer}</code> has reported nothing so far.
                    </Empty>
                  </section>
                )}
              </div>
            </div>
          )
        }}
      </Loaded>
    </div>
  )
}

function CustomerUsage({ customer, period }: { customer: Customer; period: UsagePeriod }) {
  const { from, to } = period
  const usage = useResource(
    `usage ${customer.id} ${from}`,
    signal => getUsage(customer.id, { from, to, by: 'meter' }, signal),
    15_000,
  )
  return (
    <>
      <Panel
        title={`${customer.name || customer.id} · ${period.label}`}
        aside={usage.data && (usage.data.complete ? 'complete' : `as of ${formatMoment(Date.parse(usage.data.asOf))}`)}
        testId="usage"
      >
        <Loaded resource={usage}>{answer => <Meters usage={answer} />}</Loaded>
      </Panel>
      <Priced customer={customer} period={period} />
    </>
  )
}

function Meters({ usage }: { usage: UsageAnswer }) {
  const rows = usage.rows.filter(({ quantity }) => quantity !== '0')
  if (rows.length === 0)
    return (
      <Empty title="Nothing was used in this period">
        Services report by themselves; VMs through metald or the collector's workload metering.
      </Empty>
    )
  const missing = missingTime(usage.ledger)
  return (
    <>
      <table className="table">
        <thead>
          <tr>
            <th>Meter</th>
            <th className="number">Quantity</th>
            <th className="number c-sm">In base units</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(row => (
            <tr key={`${row.meter} ${row.vmId ?? ''}`} data-testid="usage-row">
              <td>
                {meterLabel(row.meter)} <code className="quiet c-sm">{row.meter}</code>
              </td>
              <td className="number">
                <b>{formatQuantity(row.quantity, row.unit, row.meter)}</b>
              </td>
              <td className="number quiet c-sm">
                {row.quantity} {row.unit}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {missing && <p className="panel-note quiet">{missing}</p>}
    </>
  )
}

function NoCustomers() {
  return (
    <section className="panel">
      <Empty title="No customers yet" command="bin/billaged-cli demo">
        A tenant becomes a customer with its first measured use: an AI call, a build, a log line, a VM. Or make three
        with a month of VMs:
      </Empty>
    </section>
  )
}

/** Time we cannot account for is never billed, and is said. */
function missingTime(ledger: UsageAnswer['ledger']): string {
  const parts: string[] = []
  for (const [key, word] of [
    ['unmeasuredNs', 'without readings'],
    ['hostDownNs', 'with the host down'],
    ['disputedNs', 'disputed'],
  ] as const) {
    const ns = ledger[key]
    if (/^[1-9]\d*$/.test(ns)) parts.push(`${formatDuration(Number(BigInt(ns) / 1_000_000n))} ${word}`)
  }
  return parts.length === 0 ? '' : `Not billed: ${parts.join(', ')}.`
}

function withChosen(periods: readonly UsagePeriod[], chosen: UsagePeriod): readonly UsagePeriod[] {
  return periods.some(({ key }) => key === chosen.key) ? periods : [...periods, chosen]
}
