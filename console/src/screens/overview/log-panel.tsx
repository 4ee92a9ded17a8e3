import { getHistogram } from '../../api/logs.ts'
import { serviceUrl } from '../../api/service-url.ts'
import { barsFrom, LevelHistogram } from '../../charts/level-histogram.tsx'
import { useResource } from '../../live/use-resource.ts'
import { toneLabels, tones } from '../../logs/levels.ts'
import { LogLine } from '../../logs/log-line.tsx'
import { useTail } from '../../logs/use-tail.ts'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { LiveMark } from '../../parts/live-mark.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { logsRoute } from '../../router/route.ts'
import { formatCount, formatCountShort, formatPerSecond } from '../../units/counts.ts'

const windowMs = 15 * 60_000
const intervalMs = 15_000
/** More than fit: the list is cut off where the panel ends. */
const linesShown = 24

/** Rate by level over a quarter of an hour, and the newest lines as they come. */
export function LogPanel() {
  const histogram = useResource(
    'overview histogram',
    signal => {
      const toMs = Math.ceil(Date.now() / intervalMs) * intervalMs
      const [from, to] = [new Date(toMs - windowMs).toISOString(), new Date(toMs).toISOString()]
      return getHistogram({ q: '', from, to, interval: `${intervalMs / 1000}s` }, signal)
    },
    5_000,
  )
  const tail = useTail({ query: '', keep: linesShown * 2, before: linesShown })
  const entries = tail.items.filter(item => item.kind === 'entry').slice(0, linesShown)
  const bars = histogram.data ? barsFrom(histogram.data.buckets) : []
  // The newest bucket is still filling and would always look like a drop.
  const full = bars.slice(-5, -1)
  const perSecond = full.reduce((sum, bar) => sum + bar.total, 0) / Math.max(1, (full.length * intervalMs) / 1000)
  return (
    <Panel
      className="log-panel"
      title={
        <Link to={logsRoute('')}>
          Logs <Icon name="chevron" size={12} />
        </Link>
      }
      aside={histogram.data ? formatPerSecond(perSecond) : undefined}
      actions={<LiveMark state={tail.state} />}
      testId="log-panel"
    >
      <Loaded resource={histogram} skeleton={<div className="skeleton" style={{ height: '96px' }} />}>
        {() => (
          <>
            <LevelHistogram bars={bars} intervalMs={intervalMs} height={96} />
            <ul className="tone-legend">
              {tones.map(tone => (
                <li key={tone}>
                  <i className={`tone-${tone}`} />
                  {toneLabels[tone]}
                  <b title={formatCount(sumOf(bars, tone))}>{formatCountShort(sumOf(bars, tone))}</b>
                </li>
              ))}
            </ul>
          </>
        )}
      </Loaded>
      {(histogram.data || entries.length > 0) &&
        tail.state.status !== 'refused' &&
        (entries.length === 0 ? (
          <Empty
            title={histogram.data && bars.some(bar => bar.total > 0) ? 'Quiet at the moment' : 'No lines yet'}
            command={tailCommand()}
          >
            New lines appear here by themselves.
          </Empty>
        ) : (
          <ol className="log-stream" aria-label="Newest lines" data-stale={tail.state.status !== 'live' || undefined}>
            {entries.map(({ key, entry, isNew }) => (
              <li key={key} data-new={isNew || undefined} data-testid="log-stream-line">
                <LogLine entry={entry} />
              </li>
            ))}
          </ol>
        ))}
    </Panel>
  )
}

function sumOf(
  bars: readonly { counts: Record<(typeof tones)[number], number> }[],
  tone: (typeof tones)[number],
): number {
  return bars.reduce((sum, bar) => sum + bar.counts[tone], 0)
}

function tailCommand(): string {
  return `tail -f app.log | curl -sT- ${serviceUrl('log-ingestion')}/api/v1/logs/ndjson?service=app -H "X-API-Key: $KEY"`
}
