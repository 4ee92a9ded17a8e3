import './hosts.css'
import type { ReactNode } from 'react'
import { ChartLegend, type ChartSeries, TimeChart } from '../../charts/time-chart.tsx'
import { lastKnown, type SeriesTable } from '../../series/table.ts'
import { formatBytes, formatBytesPerSecond } from '../../units/bytes.ts'
import { formatPercent } from '../../units/counts.ts'
import type { HostFacts } from './host-metrics.ts'
import type { HostTables } from './host-ticks.ts'

export const cpuSeries: readonly ChartSeries[] = [
  { key: 'user', label: 'User', color: 'var(--chart-1)' },
  { key: 'system', label: 'System', color: 'var(--chart-2)' },
  { key: 'iowait', label: 'Waiting for disk', color: 'var(--chart-3)' },
  { key: 'steal', label: 'Stolen', color: 'var(--chart-5)' },
]
export const memorySeries: readonly ChartSeries[] = [
  { key: 'used', label: 'In use', color: 'var(--chart-1)' },
  { key: 'cache', label: 'Cache', color: 'var(--chart-6)' },
]
export const networkSeries: readonly ChartSeries[] = [
  { key: 'received', label: 'Received', color: 'var(--chart-2)' },
  { key: 'sent', label: 'Sent', color: 'var(--chart-4)', isMirrored: true },
]
export const diskSeries: readonly ChartSeries[] = [
  { key: 'read', label: 'Read', color: 'var(--chart-5)' },
  { key: 'written', label: 'Written', color: 'var(--chart-3)', isMirrored: true },
]

interface HostChartsProps {
  tables: HostTables
  windowS: number
  height: number
  facts: HostFacts | null
  /** For the overview: small charts, no legends. */
  isCompact?: boolean
}

/** CPU, memory, network, disk. Four charts that line up, share a cursor and each say their newest value in words. */
export function HostCharts({ tables, windowS, height, facts, isCompact = false }: HostChartsProps) {
  const { cpu, memory, network, disk, load } = tables
  const busy = sumOf(cpu, cpuSeries)
  const used = lastKnown(memory.columns.used)
  const total = lastKnown(memory.columns.total)
  const load1 = lastKnown(load.columns.load1)
  const common = { windowS, height, labels: isCompact ? ('inside' as const) : ('outside' as const) }
  return (
    <div className="host-charts">
      <ChartCard
        title="CPU"
        value={busy === null ? null : formatPercent(busy)}
        detail={[facts?.cores ? `${facts.cores} cores` : '', load1 === null ? '' : `load ${load1.toFixed(2)}`]}
        legend={!isCompact && <ChartLegend table={cpu} series={cpuSeries} format={formatPercent} />}
      >
        <TimeChart
          {...common}
          label="CPU use"
          table={cpu}
          series={cpuSeries}
          format={formatPercent}
          isStacked
          max={1}
          testId="host-chart-cpu"
        />
      </ChartCard>
      <ChartCard
        title="Memory"
        value={used === null ? null : formatBytes(used)}
        detail={[
          total === null ? '' : `of ${formatBytes(total)}`,
          used !== null && total ? formatPercent(used / total) : '',
        ]}
        legend={!isCompact && <ChartLegend table={memory} series={memorySeries} format={formatBytes} />}
      >
        <TimeChart
          {...common}
          label="Memory"
          table={memory}
          series={memorySeries}
          format={formatBytes}
          isStacked
          max={total ?? undefined}
          isBytes
          testId="host-chart-memory"
        />
      </ChartCard>
      <FlowCard
        title="Network"
        table={network}
        series={networkSeries}
        testId="host-chart-network"
        hasLegend={!isCompact}
        {...common}
      />
      <FlowCard
        title="Disk"
        table={disk}
        series={diskSeries}
        testId="host-chart-disk"
        hasLegend={!isCompact}
        {...common}
      />
    </div>
  )
}

interface FlowCardProps {
  title: string
  table: SeriesTable
  series: readonly ChartSeries[]
  testId: string
  hasLegend: boolean
  windowS: number
  height: number
  labels: 'inside' | 'outside'
}

/** Two directions of one flow, in above and out below the line. */
function FlowCard({ title, table, series, testId, hasLegend, ...common }: FlowCardProps) {
  const [into, out] = series
  const now = into && lastKnown(table.columns[into.key])
  const other = out && lastKnown(table.columns[out.key])
  return (
    <ChartCard
      title={title}
      value={now === null || now === undefined ? null : formatBytesPerSecond(now)}
      detail={[
        into ? into.label.toLowerCase() : '',
        other === null || other === undefined ? '' : `${formatBytesPerSecond(other)} ${out?.label.toLowerCase()}`,
      ]}
      legend={hasLegend && <ChartLegend table={table} series={series} format={formatBytesPerSecond} />}
    >
      <TimeChart
        {...common}
        label={title}
        table={table}
        series={series}
        format={formatBytesPerSecond}
        atLeast={16_384}
        isBytes
        testId={testId}
      />
    </ChartCard>
  )
}

interface ChartCardProps {
  title: string
  value: string | null
  detail: readonly string[]
  legend: ReactNode
  children: ReactNode
}

function ChartCard({ title, value, detail, legend, children }: ChartCardProps) {
  return (
    <section className="panel chart-card" data-testid="host-chart">
      <header>
        <h3>{title}</h3>
        <p className="chart-value">{value ?? '–'}</p>
        <p className="chart-detail">{value === null ? 'waiting for samples' : detail.filter(Boolean).join(' · ')}</p>
      </header>
      {children}
      {legend}
    </section>
  )
}

function sumOf(table: SeriesTable, series: readonly ChartSeries[]): number | null {
  const values = series.map(({ key }) => lastKnown(table.columns[key])).filter(value => value !== null)
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0)
}
