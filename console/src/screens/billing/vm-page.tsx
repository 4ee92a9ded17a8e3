import { getCustomer, getTimeline, getUsage, getVm, type VmDetail } from '../../api/billaged.ts'
import { measuredWithin, stretchesOf } from '../../billing/life-strip.ts'
import { meterLabel } from '../../billing/meters.ts'
import { type BillingPeriod, periodOf, recentPeriods, runningPeriod } from '../../billing/periods.ts'
import { vmTable } from '../../billing/series.ts'
import { ChartLegend, type ChartSeries, TimeChart } from '../../charts/time-chart.tsx'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import { Link, navigate } from '../../router/navigation.tsx'
import { type BillingRoute, billingRoute } from '../../router/route.ts'
import type { SeriesTable } from '../../series/table.ts'
import { formatBytes, formatBytesPerSecond } from '../../units/bytes.ts'
import { formatCount } from '../../units/counts.ts'
import { formatDuration } from '../../units/duration.ts'
import { formatQuantity } from '../../units/quantity.ts'
import { formatClock, formatDayMinute, formatMoment } from '../../units/time.ts'
import { PeriodSelect } from './customer-page.tsx'
import { LifeStrip } from './life-strip.tsx'

const utc = { timeZone: 'UTC', anchorDay: 1, name: null }
const totalsShown: readonly (readonly [string, string])[] = [
  ['vm_cpu', 'ns'],
  ['vm_memory', 'byte-ns'],
  ['vm_memory_peak', 'bytes'],
  ['vm_disk_read', 'bytes'],
  ['vm_disk_write', 'bytes'],
  ['vm_net_rx', 'bytes'],
  ['vm_net_tx', 'bytes'],
  ['vm_alive', 'ns'],
]

/** One VM in one period: what it used, when it lived, and each thing that lowered its bill. */
export function VmPage({ route }: { route: BillingRoute }) {
  const { id, vm } = route
  const found = useResource(`customer ${id}`, signal => getCustomer(id, signal))
  const customer = found.data ?? utc
  const nowMs = Date.now()
  // A month at a time, also of longer periods: hour by hour a quarter is more than one answer holds.
  const cycle = { anchorDay: customer.anchorDay, intervalMonths: 1 }
  const period = periodOf(cycle, route.period, nowMs)
  const running = runningPeriod(cycle, nowMs)
  return (
    <>
      <nav className="crumbs" aria-label="Where this is">
        <Link to={billingRoute('customers')}>Customers</Link>
        <Icon name="chevron" size={12} />
        <Link to={billingRoute('customers', { id, period: route.period })}>{customer.name || id}</Link>
        <Icon name="chevron" size={12} />
        <span>{vm}</span>
      </nav>
      <div className="customer-grid">
        <header className="page-head">
          <h2>{vm}</h2>
          <span className="quiet">times in {customer.timeZone}</span>
          <div className="screen-actions">
            <PeriodSelect
              periods={recentPeriods(cycle, 12, nowMs)}
              period={period}
              onChange={key => navigate({ ...route, period: key === running.key ? '' : key })}
            />
          </div>
        </header>
        <Vm
          key={period.key}
          customerId={id}
          vm={vm}
          period={period}
          zone={customer.timeZone}
          isRunning={period.key === running.key}
        />
      </div>
    </>
  )
}

interface VmProps {
  customerId: string
  vm: string
  period: BillingPeriod
  zone: string
  isRunning: boolean
}

function Vm({ customerId, vm, period, zone, isRunning }: VmProps) {
  const { from, to } = period
  const key = `${customerId} ${vm} ${from}`
  const everyMs = isRunning ? 10_000 : 0
  const detail = useResource(`vm ${key}`, signal => getVm(customerId, vm, { from, to }, signal), everyMs)
  const timeline = useResource(`timeline ${key}`, signal => getTimeline(customerId, vm, { from, to }, signal), everyMs)
  const hours = useResource(
    `vm hours ${key}`,
    signal => getUsage(customerId, { from, to: endOf(period), by: 'hour', vm }, signal),
    isRunning ? 60_000 : 0,
  )
  const isEstimating = hours.data !== null && hours.data.ledger.estimatedNs !== '0'
  const stretches = timeline.data && stretchesOf(timeline.data.strip, Date.parse(from), Date.parse(to), isEstimating)
  return (
    <>
      <Panel
        title="Used"
        aside={detail.data && `as of ${formatClock(Date.parse(detail.data.asOf), zone)}`}
        testId="vm-totals"
      >
        <Loaded resource={detail} skeleton={<SkeletonRows rows={2} />}>
          {({ totals }) => (
            <dl className="facts">
              {totalsShown
                .filter(([meter]) => totals[meter] !== undefined)
                .map(([meter, unit]) => (
                  <div key={meter} title={`${totals[meter]} ${unit}`}>
                    <dt>
                      {meterLabel(meter)
                        .replace(/^VM /, '')
                        .replace(/^./, first => first.toUpperCase())}
                    </dt>
                    <dd>{formatQuantity(totals[meter] ?? '0', unit, meter)}</dd>
                  </div>
                ))}
            </dl>
          )}
        </Loaded>
      </Panel>
      <Panel title="Life" aside="how each moment is known" testId="life">
        <Loaded resource={timeline} skeleton={<SkeletonRows rows={3} />}>
          {({ asOf }) => <LifeStrip stretches={stretches ?? []} period={period} asOf={asOf} zone={zone} />}
        </Loaded>
      </Panel>
      <div className="vm-charts">
        <Loaded resource={hours} skeleton={<SkeletonRows rows={6} />}>
          {({ rows }) =>
            stretches ? <Charts table={vmTable(rows, measuredWithin(stretches))} /> : <SkeletonRows rows={6} />
          }
        </Loaded>
      </div>
      <div className="customer-pair">
        <Panel title="Lives and hosts" testId="lives">
          <Loaded resource={detail}>{one => <Lives detail={one} zone={zone} />}</Loaded>
        </Panel>
        <Panel title="What lowered the bill" testId="lowered">
          <Loaded resource={detail}>{one => <Lowered detail={one} zone={zone} />}</Loaded>
        </Panel>
      </div>
    </>
  )
}

/** Hours that are over: the running one would look like a fall. */
function endOf({ from, to }: BillingPeriod): string {
  const hour = Math.floor(Date.now() / 3_600_000) * 3_600_000
  return new Date(Math.min(Date.parse(to), Math.max(hour, Date.parse(from) + 3_600_000))).toISOString()
}

const cpuSeries: readonly ChartSeries[] = [{ key: 'cores', label: 'Cores busy', color: 'var(--chart-1)' }]
const memorySeries: readonly ChartSeries[] = [{ key: 'memory', label: 'In use', color: 'var(--chart-4)' }]
const diskSeries: readonly ChartSeries[] = [
  { key: 'read', label: 'Read', color: 'var(--chart-5)' },
  { key: 'written', label: 'Written', color: 'var(--chart-3)', isMirrored: true },
]
const networkSeries: readonly ChartSeries[] = [
  { key: 'received', label: 'Received', color: 'var(--chart-2)' },
  { key: 'sent', label: 'Sent', color: 'var(--chart-4)', isMirrored: true },
]

function Charts({ table }: { table: SeriesTable }) {
  if (table.times.length < 2)
    return (
      <section className="panel">
        <Empty title="Nothing to draw yet">Counters are drawn by the whole hour; the first one is not over.</Empty>
      </section>
    )
  const charts = [
    { title: 'CPU', series: cpuSeries, format: (value: number) => `${value.toFixed(value < 10 ? 2 : 1)} cores` },
    { title: 'Memory', series: memorySeries, format: (value: number) => formatBytes(value), isBytes: true },
    { title: 'Disk', series: diskSeries, format: formatBytesPerSecond, isBytes: true },
    { title: 'Network', series: networkSeries, format: formatBytesPerSecond, isBytes: true },
  ]
  return (
    <>
      {charts.map(({ title, series, format, isBytes = false }) => (
        <Panel key={title} title={title} aside="hourly averages of what was read">
          <div className="vm-chart">
            <TimeChart
              label={title}
              table={table}
              series={series}
              format={format}
              height={150}
              isBytes={isBytes}
              testId={`vm-chart-${title.toLowerCase()}`}
            />
          </div>
          <ChartLegend table={table} series={series} format={format} />
        </Panel>
      ))}
    </>
  )
}

const endings: Record<VmDetail['lives'][number]['endBy'], { word: string; meaning: string; tone?: string }> = {
  open: { word: 'running', meaning: 'There is evidence of it until now', tone: 'good' },
  stop: { word: 'stopped', meaning: 'Its host said so' },
  lease: { word: 'went silent', meaning: 'Nobody said that it stopped; it ends with its last evidence', tone: 'warn' },
}

function Lives({ detail: { lives, hosts }, zone }: { detail: VmDetail; zone: string }) {
  return (
    <>
      {lives.length === 0 ? (
        <Empty title="It did not live in this period" />
      ) : (
        <table className="table">
          <thead>
            <tr>
              <th>Began</th>
              <th>Ended</th>
              <th>How</th>
            </tr>
          </thead>
          <tbody>
            {lives.map(({ start, stop, endBy }) => (
              <tr key={start} data-testid="life-row">
                <Moment at={start} zone={zone} />
                {stop === null ? <td className="time">–</td> : <Moment at={stop} zone={zone} />}
                <td>
                  <span className="chip" data-tone={endings[endBy].tone} title={endings[endBy].meaning}>
                    {endings[endBy].word}
                  </span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <p className="panel-note quiet">
        {hosts.length === 0
          ? 'No host listed it in a heartbeat; its readings alone say that it lived.'
          : `Listed by ${hosts.join(', ')}.`}
      </p>
    </>
  )
}

function Moment({ at, zone }: { at: string; zone: string }) {
  const ms = Date.parse(at)
  return (
    <td className="time" title={formatMoment(ms, zone)}>
      {formatDayMinute(ms, zone)}
    </td>
  )
}

/** Notes listed; more than a person reads. */
const notesMax = 100

function Lowered({ detail, zone }: { detail: VmDetail; zone: string }) {
  const notes = [
    ...detail.gaps.map(({ from, to, rule }) => ({ from, to, what: 'Gap', why: rule })),
    ...detail.falls.map(span => ({ ...span, what: 'Counter fell', why: 'no start notice; the stretch is worth 0' })),
    ...detail.restartsUnproven.map(span => ({
      ...span,
      what: 'Restart unproven',
      why: 'a start notice without a stop before it',
    })),
    ...detail.conflictsAt.map(at => ({
      from: at,
      to: at,
      what: 'Conflict',
      why: 'several readings; the least is billed',
    })),
  ].sort((a, b) => (a.from < b.from ? 1 : -1))
  if (notes.length === 0 && detail.glitches === 0)
    return (
      <p className="panel-note clear-line">
        <Icon name="check" size={14} /> Nothing: every reading follows the one before it.
      </p>
    )
  return (
    <>
      <table className="table">
        <thead>
          <tr>
            <th>What</th>
            <th>From</th>
            <th className="number">Lasted</th>
            <th className="c-sm">Rule</th>
          </tr>
        </thead>
        <tbody>
          {notes.slice(0, notesMax).map(({ from, to, what, why }) => (
            <tr key={`${what} ${from}`} data-testid="lowered-row">
              <td>{what}</td>
              <Moment at={from} zone={zone} />
              <td className="number">{from === to ? '–' : formatDuration(Date.parse(to) - Date.parse(from))}</td>
              <td className="c-sm quiet-wrap">{why}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {(notes.length > notesMax || detail.glitches > 0) && (
        <p className="panel-note quiet">
          {notes.length > notesMax && `The newest ${notesMax} of ${formatCount(notes.length)}. `}
          {detail.glitches > 0 && `${formatCount(detail.glitches)} single readings that dipped were passed over.`}
        </p>
      )}
    </>
  )
}
