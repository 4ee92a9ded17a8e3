import { useState } from 'react'
import { bandsOf, type Stretch, stripWords, totalsOf } from '../../billing/life-strip.ts'
import type { BillingPeriod } from '../../billing/periods.ts'
import { formatDuration } from '../../units/duration.ts'
import { formatDay, formatMoment } from '../../units/time.ts'

/** Stretches named below the strip; the strip itself shows all of them. */
const listedMax = 12

/** A period of a VM's life. Kinds differ in pattern as well as colour, and each is named and counted below. */
export function LifeStrip({
  stretches,
  period,
  asOf,
  zone,
}: {
  stretches: readonly Stretch[]
  period: BillingPeriod
  asOf: string
  zone: string
}) {
  const [isAll, setIsAll] = useState(false)
  const [fromMs, toMs] = [Date.parse(period.from), Date.parse(period.to)]
  const totals = totalsOf(stretches)
  const livedMs = totals.reduce((sum, { ms }) => sum + ms, 0)
  const text = totals.map(({ kind, ms }) => `${stripWords[kind].label} ${formatDuration(ms)}`).join(', ')
  const odd = stretches.filter(({ kind }) => kind !== 'measured')
  const nowShare = (Date.parse(asOf) - fromMs) / (toMs - fromMs)
  return (
    <div className="life">
      <div
        className="life-strip"
        role="img"
        aria-label={`From ${period.label}: ${text || 'no life'}`}
        data-testid="life-strip"
      >
        {bandsOf(stretches, fromMs, toMs).map(({ kind, left, width }) => (
          <i
            key={left}
            data-kind={kind}
            style={{ left: `${left * 100}%`, width: `${width * 100}%` }}
            title={kind === 'none' ? 'No life' : stripWords[kind].label}
          />
        ))}
        {nowShare > 0 && nowShare < 1 && <b className="life-now" style={{ left: `${nowShare * 100}%` }} title="Now" />}
      </div>
      <div className="bars-axis" aria-hidden="true">
        <span>{formatDay(fromMs, 'UTC')}</span>
        <span>{formatDay(toMs - 1, 'UTC')}</span>
      </div>
      <ul className="life-legend">
        {totals.map(({ kind, ms }) => (
          <li key={kind} data-testid={`life-${kind}`}>
            <i className="life-key" data-kind={kind} />
            <b>{stripWords[kind].label}</b>
            <span>
              {formatDuration(ms)} · {shareText(ms, livedMs)}
            </span>
            <span className="quiet">{stripWords[kind].meaning}</span>
          </li>
        ))}
        {totals.length === 0 && <li className="quiet">No reading and no heartbeat lies in this period.</li>}
      </ul>
      {odd.length > 0 && (
        <ol className="life-odd" aria-label="Stretches that were not simply measured">
          {odd.slice(0, isAll ? 500 : listedMax).map(({ kind, fromMs: start, toMs: end }) => (
            <li key={start}>
              <i className="life-key" data-kind={kind} />
              <span>{stripWords[kind].label}</span>
              <time>{formatMoment(start, zone)}</time>
              <span className="number">{formatDuration(end - start)}</span>
            </li>
          ))}
        </ol>
      )}
      {odd.length > listedMax && (
        <button type="button" className="link" onClick={() => setIsAll(!isAll)}>
          {isAll ? 'Show fewer' : `Show all ${odd.length}`}
        </button>
      )}
    </div>
  )
}

/** With anything missing, nothing is ever 100 %. */
function shareText(ms: number, livedMs: number): string {
  return ms === livedMs ? '100 %' : `${Math.min(99.9, Math.max(0.1, (ms / livedMs) * 100)).toFixed(1)} %`
}
