import type uPlot from 'uplot'
import { formatClock, formatDay, formatMinute } from '../units/time.ts'
import { faded, resolveColor } from './colors.ts'
import type { ChartSeries } from './time-chart.tsx'

// How our time charts look, in uPlot's terms.

export interface PlotLook {
  width: number
  height: number
  series: readonly ChartSeries[]
  isStacked: boolean
  labels: 'inside' | 'outside'
  isBytes: boolean
  /** Read at every draw, because data and its bounds change while the plot stays. */
  bounds: () => { max: number | undefined; atLeast: number }
  format: (value: number) => string
  onCursor: (u: uPlot) => void
}

const kibi = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
/** 4 GiB on an axis, and not 3.73: steps for bytes are powers of two. */
const byteSteps = [0, 1, 2, 3, 4, 5].flatMap(power => kibi.map(n => n * 1024 ** power))

export function plotOptions({
  width,
  height,
  series,
  isStacked,
  labels,
  isBytes,
  bounds,
  format,
  onCursor,
}: PlotLook): uPlot.Options {
  let highestStep = 0
  const isInside = labels === 'inside'
  const isCut = (x: number, end: number) => x > end - 16 || (isInside && x < 16)
  const axis = {
    stroke: resolveColor('var(--text-3)'),
    font: `11px ${getComputedStyle(document.body).fontFamily}`,
    ticks: { show: false },
    border: { show: false },
  }
  return {
    width,
    height,
    padding: [isInside ? 14 : 8, isInside ? 0 : 4, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: false, y: false },
      points: { size: 7, width: 2 },
      sync: { key: 'purser-time', setSeries: false },
    },
    scales: {
      x: { time: true },
      y: {
        range: (_u, low, high) => {
          const { max, atLeast } = bounds()
          const top = max ?? Math.max(atLeast, (Number.isFinite(high) ? high : 0) * 1.12)
          const bottom = low !== null && low < 0 ? Math.min(-atLeast, low * 1.12) : 0
          return [bottom, top > bottom ? top : bottom + 1]
        },
      },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 22,
        gap: 4,
        space: 72,
        // A label cut in half by the edge is worse than none.
        values: (u, splits) =>
          splits.map(time => (isCut(u.valToPos(time, 'x'), u.over.clientWidth) ? '' : axisTime(time, splits))),
      },
      {
        ...axis,
        grid: { stroke: resolveColor('var(--chart-grid)'), width: 1 },
        ...(isBytes ? { incrs: byteSteps } : {}),
        space: isInside ? 22 : 30,
        values: (_u, splits) => {
          highestStep = splits.at(-1) ?? 0
          return splits.map(value => (isInside ? '' : axisValue(format, value)))
        },
        ...(isInside
          ? { size: 0, gap: 0 }
          : {
              gap: 6,
              size: (_u: uPlot, values: string[] | null) =>
                Math.max(34, ...(values ?? []).map(text => text.length * 6.1 + 10)),
            }),
      },
    ],
    series: [{}, ...series.map((one, i) => (isStacked ? layer(one, i) : line(one)))],
    ...(isStacked
      ? {
          bands: series
            .slice(1)
            .map((one, i) => ({ series: [i + 2, i + 1] as [number, number], fill: faded(one.color, layerPercent) })),
        }
      : {}),
    hooks: {
      setCursor: [onCursor],
      draw: isInside ? [u => drawScale(u, axisValue(format, highestStep), highestStep)] : [],
    },
  }
}

const layerPercent = 62

/** Areas without outlines: the outline of a layer that is almost nothing would look like something. */
function layer({ label, color }: ChartSeries, index: number): uPlot.Series {
  const common = { label, stroke: resolveColor(color), width: 0, points: { show: false }, spanGaps: false }
  // Only the lowest layer is filled down to zero; bands fill those above it.
  return index === 0 ? { ...common, fill: faded(color, layerPercent) } : common
}

function line({ label, color, isMirrored }: ChartSeries): uPlot.Series {
  const [strong, weak] = [faded(color, 26), faded(color, 2)]
  return {
    label,
    stroke: resolveColor(color),
    width: 1.5,
    points: { show: false },
    spanGaps: false,
    fill: u => {
      const { top, height } = u.bbox
      if (!(height > 0)) return weak
      const zero = u.valToPos(0, 'y', true)
      const far = isMirrored ? top + height : top
      if (!Number.isFinite(zero) || zero === far) return weak
      const gradient = u.ctx.createLinearGradient(0, far, 0, zero)
      gradient.addColorStop(0, strong)
      gradient.addColorStop(1, weak)
      return gradient
    },
  }
}

/** Inside a small plot one label says the scale, standing on the highest grid line; more would lie over the data. */
function drawScale(u: uPlot, text: string, value: number): void {
  if (value === 0) return
  const ratio = devicePixelRatio
  u.ctx.save()
  u.ctx.font = `${11 * ratio}px ${getComputedStyle(document.body).fontFamily}`
  u.ctx.fillStyle = resolveColor('var(--text-3)')
  u.ctx.textAlign = 'left'
  u.ctx.textBaseline = 'bottom'
  u.ctx.fillText(text, u.bbox.left, u.valToPos(value, 'y', true) - 2 * ratio)
  u.ctx.restore()
}

/** Steps are round, so `8.00 GiB` on an axis is `8 GiB`. */
function axisValue(format: (value: number) => string, value: number): string {
  return format(Math.abs(value)).replace(/\.0+(?= )/, '')
}

function axisTime(time: number, splits: readonly number[]): string {
  const step = (splits[1] ?? time) - (splits[0] ?? time)
  if (step >= 86_400) return formatDay(time * 1000)
  return step < 60 && step > 0 ? formatClock(time * 1000) : formatMinute(time * 1000)
}
