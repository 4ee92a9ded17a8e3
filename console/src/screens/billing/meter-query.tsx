import { useState } from 'react'
import { type Meter, type MeterResult, queryMeter } from '../../api/billing-meters.ts'
import { drawnFormat, drawnQuantity } from '../../billing/series.ts'
import { useCustomers } from '../../billing/use-spends.ts'
import { ChartLegend, type ChartSeries, TimeChart } from '../../charts/time-chart.tsx'
import { useResource } from '../../live/use-resource.ts'
import { Choice } from '../../parts/choice.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import type { Column, SeriesTable } from '../../series/table.ts'
import { formatQuantity } from '../../units/quantity.ts'
import { Bars } from './bars.tsx'

const spans = {
  '1h': { label: '1 h', ms: 3_600_000, windowSize: 'MINUTE' },
  '24h': { label: '24 h', ms: 86_400_000, windowSize: 'HOUR' },
  '7d': { label: '7 d', ms: 7 * 86_400_000, windowSize: 'HOUR' },
  '31d': { label: '31 d', ms: 31 * 86_400_000, windowSize: 'DAY' },
} as const
type Span = keyof typeof spans

/** Lines drawn; beyond them, the rest is added up as one. */
const linesMax = 5

export function MeterQueryPanel({ meter, name }: { meter: Meter; name: string }) {
  const [span, setSpan] = useState<Span>('31d')
  const [groupBy, setGroupBy] = useState('')
  const [subject, setSubject] = useState('')
  const customers = useCustomers()
  const { ms, windowSize } = spans[span]
  const result = useResource(
    `meter ${meter.slug} ${span} ${groupBy} ${subject}`,
    signal => {
      // Whole windows, so that the first and the last bar are not cut.
      const step = { MINUTE: 60_000, HOUR: 3_600_000, DAY: 86_400_000 }[windowSize]
      const toMs = Math.ceil(Date.now() / step) * step
      return queryMeter(
        meter.slug,
        {
          from: new Date(toMs - ms).toISOString(),
          to: new Date(toMs).toISOString(),
          windowSize,
          ...(groupBy === '' ? {} : { groupBy: [groupBy] }),
          ...(subject === '' ? {} : { subject: [subject] }),
        },
        signal,
      )
    },
    span === '1h' ? 5_000 : 30_000,
  )
  return (
    <Panel
      title={name}
      aside={result.data && `${formatQuantity(totalOf(result.data), meter.unit, meter.slug)} in all`}
      actions={
        <Choice
          label="Time range"
          value={span}
          options={Object.entries(spans).map(([value, { label }]) => ({ value: value as Span, label }))}
          onChange={setSpan}
        />
      }
      testId="meter-query"
    >
      <div className="filters">
        <label className="inline-field">
          <span className="quiet">Group by</span>
          <select
            className="small"
            value={groupBy}
            onChange={event => setGroupBy(event.target.value)}
            data-testid="group-by"
          >
            <option value="">nothing</option>
            <option value="subject">customer</option>
            {Object.keys(meter.groupBy).map(one => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
        <label className="inline-field">
          <span className="quiet">Customer</span>
          <select className="small" value={subject} onChange={event => setSubject(event.target.value)}>
            <option value="">all</option>
            {(customers.data?.customers ?? []).map(({ id, name: label }) => (
              <option key={id} value={id}>
                {label || id}
              </option>
            ))}
          </select>
        </label>
      </div>
      <Loaded resource={result} skeleton={<SkeletonRows rows={6} />}>
        {answer => (
          <Drawn result={answer} meter={meter} groupBy={groupBy} windowMs={windowMsOf(windowSize)} spanMs={ms} />
        )}
      </Loaded>
    </Panel>
  )
}

interface DrawnProps {
  result: MeterResult
  meter: Meter
  groupBy: string
  windowMs: number
  spanMs: number
}

function Drawn({ result, meter, groupBy, windowMs, spanMs }: DrawnProps) {
  if (result.data.length === 0)
    return (
      <Empty
        title="Nothing counted in this time"
        {...(meter.eventType === 'vm' ? { command: 'bin/billaged-cli demo -live' } : {})}
      >
        {meter.eventType === 'vm' ? (
          'Readings of VMs come from metald or the collector; the demo keeps one running:'
        ) : (
          <>
            Events of type <code>{meter.eventType}</code> are posted to <code>/api/v1/events</code>.
          </>
        )}
      </Empty>
    )
  const { unit, format } = drawnFormat(meter.unit, meter.slug)
  const toMs = result.to === undefined ? Date.now() : Date.parse(result.to)
  const times = Array.from({ length: Math.round(spanMs / windowMs) }, (_, i) => toMs - spanMs + i * windowMs)
  const keys = keysOf(result, groupBy)
  const column = (key: string | null): string[] => {
    const found = new Map<number, bigint>()
    let hasFraction = ''
    for (const row of result.data) {
      if (key !== null && keyOf(row, groupBy, keys) !== key) continue
      const at = Date.parse(row.windowStart)
      if (row.valueExact.includes('.')) hasFraction = row.valueExact
      found.set(at, (found.get(at) ?? 0n) + BigInt(row.valueExact.split('.')[0] ?? '0'))
    }
    // An average or a level has decimals and one row a window: shown as it is.
    return times.map(at =>
      hasFraction === ''
        ? `${found.get(at) ?? 0n}`
        : (result.data.find(
            row => Date.parse(row.windowStart) === at && (key === null || keyOf(row, groupBy, keys) === key),
          )?.valueExact ?? '0'),
    )
  }
  if (keys.length <= 1 && groupBy === '') {
    const quantities = column(null)
    return (
      <div className="meter-bars">
        <Bars
          label={meter.slug}
          startsMs={times}
          values={quantities.map(quantity => drawnQuantity(quantity, unit))}
          texts={quantities.map(quantity => formatQuantity(quantity, meter.unit, meter.slug))}
          format={format}
          height={190}
        />
      </div>
    )
  }
  const series: ChartSeries[] = keys.map((key, i) => ({ key, label: key, color: `var(--chart-${(i % 6) + 1})` }))
  const columns: Record<string, Column> = Object.fromEntries(
    keys.map(key => [key, column(key).map(quantity => drawnQuantity(quantity, unit))]),
  )
  const table: SeriesTable = { times: times.map(ms => ms / 1000), columns }
  return (
    <>
      <div className="vm-chart">
        <TimeChart
          label={meter.slug}
          table={table}
          series={series}
          format={format}
          height={210}
          isStacked
          testId="meter-chart"
        />
      </div>
      <ChartLegend table={table} series={series} format={format} />
      <table className="table">
        <thead>
          <tr>
            <th>{groupBy === 'subject' ? 'Customer' : groupBy}</th>
            <th className="number">In all</th>
          </tr>
        </thead>
        <tbody>
          {keys.map(key => (
            <tr key={key} data-testid="meter-group">
              <td>{key}</td>
              <td className="number">
                {formatQuantity(
                  totalOf(result, row => keyOf(row, groupBy, keys) === key),
                  meter.unit,
                  meter.slug,
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  )
}

type Row = MeterResult['data'][number]
const others = 'others'

function keysOf(result: MeterResult, groupBy: string): string[] {
  if (groupBy === '') return []
  const totals = new Map<string, bigint>()
  for (const row of result.data) {
    const key = nameOf(row, groupBy)
    totals.set(key, (totals.get(key) ?? 0n) + BigInt(row.valueExact.split('.')[0] ?? '0'))
  }
  const names = [...totals].sort(([, a], [, b]) => (a < b ? 1 : -1)).map(([key]) => key)
  return names.length <= linesMax + 1 ? names : [...names.slice(0, linesMax), others]
}

function keyOf(row: Row, groupBy: string, keys: readonly string[]): string {
  const name = nameOf(row, groupBy)
  return keys.includes(name) ? name : others
}

function nameOf(row: Row, groupBy: string): string {
  return (groupBy === 'subject' ? row.subject : row.groupBy[groupBy]) || 'none'
}

function totalOf(result: MeterResult, isWanted: (row: Row) => boolean = () => true): string {
  const rows = result.data.filter(isWanted)
  const only = rows.length === 1 ? rows[0] : undefined
  return only?.valueExact ?? `${rows.reduce((sum, row) => sum + BigInt(row.valueExact.split('.')[0] ?? '0'), 0n)}`
}

function windowMsOf(size: 'MINUTE' | 'HOUR' | 'DAY'): number {
  return { MINUTE: 60_000, HOUR: 3_600_000, DAY: 86_400_000 }[size]
}
