import type { Usage } from '../../api/billaged.ts'
import { meterLabel } from '../../billing/meters.ts'
import { drawnFormat, drawnQuantity, type MeterSpans, spansByMeter } from '../../billing/series.ts'
import { Empty } from '../../parts/empty.tsx'
import { formatDuration } from '../../units/duration.ts'
import { formatQuantity } from '../../units/quantity.ts'
import { Bars } from './bars.tsx'

/** A small chart per meter, all on the same days. */
export function DayCharts({ usage }: { usage: Usage }) {
  // A peak is no sum; beside sums it would be read as one.
  const meters = spansByMeter(usage.rows, usage).filter(({ meter }) => meter !== 'vm_memory_peak')
  if (meters.length === 0)
    return (
      <Empty title="Nothing was used in this period">
        Services report by themselves; VMs through metald or the collector's workload metering.
      </Empty>
    )
  return (
    <>
      <div className="day-charts">
        {meters.map(spans => (
          <DayChart key={spans.meter} spans={spans} />
        ))}
      </div>
      <Missing ledger={usage.ledger} />
    </>
  )
}

function DayChart({ spans: { meter, unit, edgesMs, quantities } }: { spans: MeterSpans }) {
  const drawn = drawnFormat(unit, meter)
  return (
    <section className="day-chart" data-testid="usage-row">
      <header>
        <h3>{meterLabel(meter)}</h3>
        <b>{formatQuantity(sumOf(quantities), unit, meter)}</b>
      </header>
      <Bars
        label={meterLabel(meter)}
        startsMs={edgesMs.slice(0, -1)}
        values={quantities.map(quantity => drawnQuantity(quantity, drawn.unit))}
        texts={quantities.map(quantity => formatQuantity(quantity, unit, meter))}
        format={drawn.format}
      />
    </section>
  )
}

/** Whole base units; a meter with fractions has them cut off here, never in a bill. */
function sumOf(quantities: readonly string[]): string {
  return `${quantities.reduce((sum, quantity) => sum + BigInt(/^-?\d+/.exec(quantity)?.[0] ?? '0'), 0n)}`
}

/** Time we cannot account for is never billed, and is said. */
function Missing({ ledger }: { ledger: Usage['ledger'] }) {
  const words: readonly [keyof Usage['ledger'], string][] = [
    ['unmeasuredNs', 'without readings'],
    ['hostDownNs', 'with the host down'],
    ['disputedNs', 'disputed'],
  ]
  const parts = words.flatMap(([key, word]) =>
    /^[1-9]\d*$/.test(ledger[key]) ? [`${formatDuration(Number(BigInt(ledger[key]) / 1_000_000n))} ${word}`] : [],
  )
  return parts.length === 0 ? null : <p className="panel-note quiet">VM time not billed: {parts.join(', ')}.</p>
}
