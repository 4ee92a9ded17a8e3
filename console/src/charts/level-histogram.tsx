import { type PointerEvent, useRef, useState } from 'react'
import type { HistogramAnswer } from '../api/logs.ts'
import { countsByTone, type Tone, toneLabels, tones } from '../logs/levels.ts'
import { formatCount } from '../units/counts.ts'
import { formatClock, formatDay, formatMinute } from '../units/time.ts'
import { useWidth } from './use-size.ts'

export interface HistogramBar {
  timeMs: number
  total: number
  counts: Record<Tone, number>
}

/** Counts are decimal strings on the wire; as the height of a bar they may lose their last digits. */
export function barsFrom(buckets: HistogramAnswer['buckets']): HistogramBar[] {
  return buckets.map(({ time, count, by }) => ({
    timeMs: Date.parse(time),
    total: Number(count),
    counts: countsByTone(by, Number(count)),
  }))
}

interface LevelHistogramProps {
  bars: readonly HistogramBar[]
  intervalMs: number
  height: number
  /** Given: dragging over bars asks for that stretch of time. */
  onZoom?: (fromMs: number, toMs: number) => void
}

/** Counts over time, severe levels on top where the eye looks for them. SVG: a hundred bars, each a real element. */
export function LevelHistogram({ bars, intervalMs, height, onZoom }: LevelHistogramProps) {
  const frame = useRef<HTMLDivElement>(null)
  const width = useWidth(frame)
  const [hover, setHover] = useState<number | null>(null)
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null)

  const axis = 18
  const room = Math.max(1, height - axis)
  const slot = bars.length === 0 ? 0 : width / bars.length
  const gap = slot >= 6 ? 2 : slot >= 3 ? 1 : 0
  const highest = Math.max(1, ...bars.map(bar => bar.total))
  const indexAt = (event: PointerEvent) => {
    const box = frame.current?.getBoundingClientRect()
    if (!box || slot === 0) return null
    return Math.min(bars.length - 1, Math.max(0, Math.floor((event.clientX - box.left) / slot)))
  }

  function onDown(event: PointerEvent): void {
    const index = indexAt(event)
    if (!onZoom || index === null || event.button !== 0) return
    event.currentTarget.setPointerCapture(event.pointerId)
    setDrag({ from: index, to: index })
  }

  function onMove(event: PointerEvent): void {
    const index = indexAt(event)
    setHover(index)
    if (drag && index !== null) setDrag({ ...drag, to: index })
  }

  function onUp(): void {
    const [first, last] = drag ? [bars[Math.min(drag.from, drag.to)], bars[Math.max(drag.from, drag.to)]] : []
    setDrag(null)
    if (first && last && onZoom) onZoom(first.timeMs, last.timeMs + intervalMs)
  }

  const hovered = hover === null ? undefined : bars[hover]
  return (
    <div
      ref={frame}
      className="histogram"
      data-zoomable={onZoom ? true : undefined}
      role="img"
      aria-label={histogramSummary(bars)}
      data-testid="level-histogram"
      style={{ height: `${height}px` }}
      onPointerDown={onDown}
      onPointerMove={onMove}
      onPointerUp={onUp}
      onPointerCancel={() => setDrag(null)}
      onPointerLeave={() => setHover(null)}
    >
      {width > 0 && (
        <svg width={width} height={height} aria-hidden="true">
          <line className="histogram-base" x1={0} x2={width} y1={room + 0.5} y2={room + 0.5} />
          {drag && (
            <rect
              className="histogram-drag"
              x={Math.min(drag.from, drag.to) * slot}
              y={0}
              width={(Math.abs(drag.to - drag.from) + 1) * slot}
              height={room}
            />
          )}
          {bars.map((bar, i) => (
            <Stack
              key={bar.timeMs}
              bar={bar}
              x={i * slot + gap / 2}
              width={Math.max(1, slot - gap)}
              room={room}
              highest={highest}
              isDim={hover !== null && hover !== i}
            />
          ))}
          {ticks(bars, slot, width).map(({ x, text, anchor }) => (
            <text key={x} className="histogram-tick" x={x} y={height - 4} textAnchor={anchor}>
              {text}
            </text>
          ))}
        </svg>
      )}
      {hovered && !drag && <Tip bar={hovered} intervalMs={intervalMs} x={((hover ?? 0) + 0.5) * slot} width={width} />}
    </div>
  )
}

interface StackProps {
  bar: HistogramBar
  x: number
  width: number
  room: number
  highest: number
  isDim: boolean
}

function Stack({ bar, x, width, room, highest, isDim }: StackProps) {
  if (bar.total === 0) return null
  // A bar with anything in it is at least two pixels: one error in an hour of silence must be seen.
  const full = Math.max(2, (bar.total / highest) * (room - 2))
  let y = room
  return (
    <g className="histogram-bar" data-dim={isDim || undefined}>
      {tones.map(tone => {
        const h = (bar.counts[tone] / bar.total) * full
        y -= h
        return h > 0 ? <rect key={tone} className={`tone-${tone}`} x={x} y={y} width={width} height={h} /> : null
      })}
    </g>
  )
}

function Tip({ bar, intervalMs, x, width }: { bar: HistogramBar; intervalMs: number; x: number; width: number }) {
  const isRight = x > width / 2
  return (
    <div className="chart-tip" style={isRight ? { right: `${width - x + 10}px` } : { left: `${x + 10}px` }}>
      <time>
        {formatClock(bar.timeMs)} – {formatClock(bar.timeMs + intervalMs)}
      </time>
      {tones.toReversed().map(tone =>
        bar.counts[tone] > 0 ? (
          <div key={tone}>
            <i className={`tone-${tone}`} />
            {toneLabels[tone]}
            <b>{formatCount(bar.counts[tone])}</b>
          </div>
        ) : null,
      )}
      <div className="chart-tip-total">
        All<b>{formatCount(bar.total)}</b>
      </div>
    </div>
  )
}

function ticks(bars: readonly HistogramBar[], slot: number, width: number) {
  const every = Math.max(1, Math.ceil(96 / Math.max(slot, 0.1)))
  const isLong = (bars.at(-1)?.timeMs ?? 0) - (bars[0]?.timeMs ?? 0) > 36 * 3_600_000
  const found: { x: number; text: string; anchor: 'start' | 'middle' }[] = []
  for (let i = 0; i < bars.length; i += every) {
    const bar = bars[i]
    const x = i * slot
    if (bar && x < width - 40)
      found.push({ x, text: (isLong ? formatDay : formatMinute)(bar.timeMs), anchor: i === 0 ? 'start' : 'middle' })
  }
  return found
}

function histogramSummary(bars: readonly HistogramBar[]): string {
  const [first, last] = [bars[0], bars.at(-1)]
  if (!first || !last) return 'Log entries over time: none'
  const sums = tones.map(
    tone => `${toneLabels[tone]} ${formatCount(bars.reduce((sum, bar) => sum + bar.counts[tone], 0))}`,
  )
  return `Log entries from ${formatMinute(first.timeMs)} to ${formatMinute(last.timeMs)}: ${sums.join(', ')}`
}
