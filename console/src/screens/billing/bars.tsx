import { useRef, useState } from 'react'
import { useWidth } from '../../charts/use-size.ts'
import { formatDay, formatMinute } from '../../units/time.ts'

interface BarsProps {
  label: string
  startsMs: readonly number[]
  values: readonly number[]
  /** The exact words of each bar. */
  texts: readonly string[]
  format: (value: number) => string
  height?: number
  /** Where the days begin; UTC, as periods do, when nothing is said. */
  zone?: string
}

/** Bars over time. The arrow keys move over them as the pointer does. */
export function Bars({ label, startsMs, values, texts, format, height = 84, zone = 'UTC' }: BarsProps) {
  const frame = useRef<HTMLDivElement>(null)
  const width = useWidth(frame)
  const [at, setAt] = useState<number | null>(null)
  const top = Math.max(...values, 0) || 1
  const step = width / Math.max(1, values.length)
  const isDays = (startsMs[1] ?? 0) - (startsMs[0] ?? 0) >= 86_400_000 * 0.9
  const name = (i: number) => {
    const ms = startsMs[i] ?? 0
    return isDays || values.length === 1 ? formatDay(ms, zone) : `${formatDay(ms, zone)} ${formatMinute(ms, zone)}`
  }
  const move = (by: number) =>
    setAt(before => Math.min(values.length - 1, Math.max(0, (before ?? (by > 0 ? -1 : values.length)) + by)))
  const highest = values.indexOf(Math.max(...values))
  return (
    <div
      ref={frame}
      className="bars"
      role="img"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: the arrow keys read the bars one by one
      tabIndex={0}
      aria-label={`${label}: ${values.length} bars, highest ${texts[highest] ?? ''} on ${name(highest)}${
        at === null ? '' : `; ${name(at)} ${texts[at] ?? ''}`
      }`}
      onPointerMove={event => {
        const x = event.clientX - event.currentTarget.getBoundingClientRect().left
        setAt(Math.min(values.length - 1, Math.max(0, Math.floor(x / Math.max(step, 1e-6)))))
      }}
      onPointerLeave={() => setAt(null)}
      onBlur={() => setAt(null)}
      onKeyDown={event => {
        if (event.key === 'ArrowRight') move(1)
        else if (event.key === 'ArrowLeft') move(-1)
        else return
        event.preventDefault()
      }}
    >
      <svg width={width} height={height} aria-hidden="true">
        <line className="bars-base" x1="0" x2={width} y1={height - 0.5} y2={height - 0.5} />
        {values.map((value, i) => {
          const tall = value <= 0 ? 0 : Math.max(1.5, (value / top) * (height - 16))
          return (
            <rect
              key={startsMs[i]}
              className="bar"
              data-here={i === at || undefined}
              x={i * step + Math.min(1, step * 0.12)}
              width={Math.max(0.5, step - Math.min(2, step * 0.24))}
              y={height - 1 - tall}
              height={tall}
              rx={Math.min(1.5, step / 4)}
            />
          )
        })}
      </svg>
      <div className="bars-axis" aria-hidden="true">
        <span>{name(0)}</span>
        {at === null ? (
          <span className="quiet">highest {format(values[highest] ?? 0)}</span>
        ) : (
          <b>
            {name(at)}: {texts[at]}
          </b>
        )}
        <span>{name(values.length - 1)}</span>
      </div>
    </div>
  )
}
