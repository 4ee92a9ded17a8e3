import { useEffect, useMemo, useRef } from 'react'
import uPlot from 'uplot'
import { type Column, lastKnown, type SeriesTable, stack } from '../series/table.ts'
import { useIsDark } from '../theme.ts'
import { formatClock, formatMinute } from '../units/time.ts'
import { plotOptions } from './plot-options.ts'
import { useWidth } from './use-size.ts'

export interface ChartSeries {
  key: string
  label: string
  /** A CSS colour, custom properties welcome. */
  color: string
  /** Drawn below zero, for the other direction of the same thing (sent against received). */
  isMirrored?: boolean
}

export interface TimeChartProps {
  label: string
  table: SeriesTable
  series: readonly ChartSeries[]
  format: (value: number) => string
  height: number
  isStacked?: boolean
  /** The axis reaches at least this far, so that noise near zero does not look like load. */
  atLeast?: number
  /** A known end of the axis, such as all memory or 100 %. */
  max?: number | undefined
  windowS?: number
  /** Inside the plot, labels leave a small chart its width; outside, they never cover a line. */
  labels?: 'inside' | 'outside'
  isBytes?: boolean
  testId?: string
}

/** A host that has just started fills the chart with the little there is, down to this many seconds. */
const narrowestS = 120

/** A line or stacked area over time. Charts on one page share the position of the cursor. */
export function TimeChart(props: TimeChartProps) {
  const {
    label,
    table,
    series,
    format,
    height,
    isStacked = false,
    windowS,
    labels = 'outside',
    isBytes = false,
    testId,
  } = props
  const frame = useRef<HTMLDivElement>(null)
  const tip = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | null>(null)
  const width = useWidth(frame)
  const isDark = useIsDark()
  const latest = useRef(props)
  latest.current = props

  const shape = series.map(one => one.key).join(' ')
  const data = useMemo(() => drawnData(table, series, isStacked), [table, series, isStacked])
  const hasRoom = width > 0

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new theme or shape needs a new plot, new data does not
  useEffect(() => {
    if (!frame.current || !hasRoom) return
    const options = plotOptions({
      width,
      height,
      series,
      isStacked,
      labels,
      isBytes,
      bounds: () => ({ max: latest.current.max, atLeast: latest.current.atLeast ?? 0 }),
      format: value => latest.current.format(value),
      onCursor: u => showTip(u, tip.current, latest.current),
    })
    const made = new uPlot(options, data, frame.current)
    plot.current = made
    return () => {
      made.destroy()
      plot.current = null
    }
  }, [shape, isDark, height, labels, isStacked, hasRoom])

  // biome-ignore lint/correctness/useExhaustiveDependencies: a plot made anew needs its scale again
  useEffect(() => {
    const u = plot.current
    if (!u) return
    u.batch(() => {
      u.setData(data, false)
      const [first, last] = [data[0][0], data[0].at(-1)]
      // Setting x makes uPlot range y anew from what is visible.
      if (first !== undefined && last !== undefined)
        u.setScale('x', { min: Math.max(Math.min(first, last - narrowestS), last - (windowS ?? Infinity)), max: last })
    })
  }, [data, windowS, shape, isDark, height, labels, isStacked, hasRoom])

  useEffect(() => {
    if (width > 0) plot.current?.setSize({ width, height })
  }, [width, height])

  return (
    <div
      ref={frame}
      className="time-chart"
      role="img"
      aria-label={summary(label, table, series, format)}
      data-testid={testId}
      data-points={table.times.length}
      style={{ height: `${height}px` }}
    >
      <div ref={tip} className="chart-tip" hidden />
    </div>
  )
}

/** Names, colours and newest values, outside the canvas where everyone can read them. */
export function ChartLegend({ table, series, format }: Pick<TimeChartProps, 'table' | 'series' | 'format'>) {
  return (
    <ul className="chart-legend">
      {series.map(({ key, label, color }) => {
        const value = lastKnown(table.columns[key])
        return (
          <li key={key}>
            <i style={{ background: color }} />
            {label}
            <b>{value === null ? '–' : format(value)}</b>
          </li>
        )
      })}
    </ul>
  )
}

type Drawn = [number[], ...Column[]]

function drawnData(table: SeriesTable, series: readonly ChartSeries[], isStacked: boolean): Drawn {
  const columns = series.map(({ key, isMirrored }) => {
    const column = table.columns[key] ?? new Array<null>(table.times.length).fill(null)
    return isMirrored ? column.map(value => (value === null ? null : -value)) : column
  })
  return [[...table.times], ...(isStacked ? stack(columns) : columns)]
}

/** Written with DOM calls on every mouse move: a React render per pixel would be felt. */
function showTip(u: uPlot, tip: HTMLDivElement | null, { table, series, format }: TimeChartProps): void {
  if (!tip) return
  const { idx, left = -1, top = -1 } = u.cursor
  // The cursor is shared between charts; only the one under the pointer shows its values.
  const isHere = u.over.matches(':hover')
  const time = idx === null || idx === undefined ? undefined : table.times[idx]
  if (!isHere || time === undefined || left < 0 || top < 0) {
    tip.hidden = true
    return
  }
  const rows = series.map(({ key, label, color }) => {
    const value = table.columns[key]?.[idx ?? -1] ?? null
    const row = document.createElement('div')
    const swatch = document.createElement('i')
    swatch.style.background = color
    const amount = document.createElement('b')
    amount.textContent = value === null ? '–' : format(value)
    row.append(swatch, label, amount)
    return row
  })
  const head = document.createElement('time')
  head.textContent = formatClock(time * 1000)
  tip.replaceChildren(head, ...rows)
  tip.hidden = false
  const x = u.over.offsetLeft + left
  const isRight = x > u.width / 2
  tip.style.transform = `translate(${isRight ? x - tip.offsetWidth - 12 : x + 12}px, ${u.over.offsetTop}px)`
}

function summary(
  label: string,
  table: SeriesTable,
  series: readonly ChartSeries[],
  format: (value: number) => string,
): string {
  const [from, to] = [table.times[0], table.times.at(-1)]
  if (from === undefined || to === undefined) return `${label}: no data yet`
  const parts = series.map(({ key, label: name }) => {
    const known = (table.columns[key] ?? []).filter(value => value !== null)
    if (known.length === 0) return `${name} unknown`
    return `${name} ${format(known.at(-1) ?? 0)} now, highest ${format(Math.max(...known))}`
  })
  return `${label} from ${formatMinute(from * 1000)} to ${formatMinute(to * 1000)}: ${parts.join('; ')}`
}
