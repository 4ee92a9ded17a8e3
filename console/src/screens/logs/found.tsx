import type { ApiError } from '../../api/http.ts'
import { getHistogram } from '../../api/logs.ts'
import { barsFrom, type HistogramBar, LevelHistogram } from '../../charts/level-histogram.tsx'
import { useHeld, useResource } from '../../live/use-resource.ts'
import type { OnFilter } from '../../logs/json-tree.tsx'
import { type Tone, toneLabels, tones } from '../../logs/levels.ts'
import { barIntervalMs, type Span } from '../../logs/range.ts'
import { CopyButton } from '../../parts/copy.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Failure } from '../../parts/failure.tsx'
import { Loaded, SkeletonRows, StaleLine } from '../../parts/panel.tsx'
import { VirtualRows } from '../../parts/virtual-rows.tsx'
import { formatRoute } from '../../router/route.ts'
import { formatCount, formatCountShort } from '../../units/counts.ts'
import { goDuration } from '../../units/duration.ts'
import { formatMoment } from '../../units/time.ts'
import { LogRow, useOpenRows } from './log-row.tsx'
import { positionOf, QueryProblem } from './query-problem.tsx'
import { SendOne } from './send-one.tsx'
import { type Search, useSearch } from './use-search.ts'

const barsMax = 90
/** A line of log, closed. Pixels. */
const rowHeightGuess = 24

interface FoundProps {
  query: string
  span: Span
  onFilter: OnFilter
  onTone: (tone: Tone) => void
  onZoom: (fromMs: number, toMs: number) => void
  /** Given when the span is fixed: back to the moving one. */
  onWiden: (() => void) | undefined
}

/** What a search found: how much and when, then the entries themselves. */
export function Found({ query, span, onFilter, onTone, onZoom, onWiden }: FoundProps) {
  const [from, to] = [new Date(span.fromMs).toISOString(), new Date(span.toMs).toISOString()]
  const histogram = useHeld(
    useResource(`histogram ${query} ${from} ${to}`, async signal => {
      const intervalMs = barIntervalMs(span, barsMax)
      const answer = await getHistogram({ q: query, from, to, interval: goDuration(intervalMs) }, signal)
      return { ...answer, span, intervalMs }
    }),
  )
  const search = useSearch({ query, from, to })
  const counted = histogram.data
  const bars = counted ? barsFrom(counted.buckets) : []
  // A count and the stretch it was counted in belong together.
  const shown = counted?.span ?? span
  const total = bars.reduce((sum, bar) => sum + bar.total, 0)

  const problem = unreadable(search.error, histogram.error)
  if (problem) return <QueryProblem query={query} error={problem} />
  // The same service would fail both halves with the same words.
  if (search.error && search.entries.length === 0 && histogram.error)
    return (
      <section className="panel">
        <Failure
          error={search.error}
          retry={() => {
            histogram.reload()
            search.more()
          }}
        />
      </section>
    )

  return (
    <>
      <section className="panel" aria-busy={histogram.isOld} data-old={histogram.isOld || undefined}>
        <div className="histogram-head">
          <strong>{counted ? `${formatCount(total)} ${total === 1 ? 'entry' : 'entries'}` : 'Counting…'}</strong>
          {counted?.partial && <span className="hint">at least: the count was cut short</span>}
          <span className="quiet">
            {formatMoment(shown.fromMs)} – {formatMoment(shown.toMs)}
          </span>
          <CopyButton text={linkTo(query, shown)} label="Copy a link to exactly these entries" />
          {onWiden && (
            <button type="button" className="link" onClick={onWiden}>
              Back to the last hour
            </button>
          )}
          <ToneLegend bars={bars} onTone={onTone} />
        </div>
        <Loaded resource={histogram} skeleton={<div className="skeleton" style={{ height: '110px' }} />}>
          {({ intervalMs }) => <LevelHistogram bars={bars} intervalMs={intervalMs} height={110} onZoom={onZoom} />}
        </Loaded>
      </section>
      <Entries query={query} search={search} onFilter={onFilter} />
    </>
  )
}

/** For somebody else, tomorrow: with both ends fixed. */
function linkTo(query: string, { fromMs, toMs }: Span): string {
  const [from, to] = [new Date(fromMs).toISOString(), new Date(toMs).toISOString()]
  const route = formatRoute({ screen: 'logs', tab: 'search', query, range: '', from, to, isLive: false })
  return new URL(route, window.location.href).href
}

function ToneLegend({ bars, onTone }: { bars: readonly HistogramBar[]; onTone: (tone: Tone) => void }) {
  return (
    <ul className="tone-legend">
      {tones.map(tone => {
        const count = bars.reduce((sum, bar) => sum + bar.counts[tone], 0)
        return (
          <li key={tone}>
            <button
              type="button"
              disabled={count === 0}
              onClick={() => onTone(tone)}
              title={count === 0 ? `No ${toneLabels[tone]} entries` : `Only ${toneLabels[tone]}`}
            >
              <i className={`tone-${tone}`} />
              {toneLabels[tone]}
              <b>{formatCountShort(count)}</b>
            </button>
          </li>
        )
      })}
    </ul>
  )
}

function Entries({ query, search, onFilter }: { query: string; search: Search; onFilter: OnFilter }) {
  const { entries, error, isLoading, isOld, cursor, isPartial, isFull, more } = search
  const open = useOpenRows()
  const hasAnswer = !error && (isOld || !isLoading)
  return (
    <section
      className="panel log-list"
      aria-label="Entries, newest first"
      aria-busy={isOld}
      data-old={isOld || undefined}
      data-testid="log-list"
    >
      {error && entries.length === 0 && <Failure error={error} retry={more} />}
      {hasAnswer && entries.length === 0 && <NothingFound query={query} />}
      <VirtualRows items={entries} keyOf={entry => entry.id} heightGuess={rowHeightGuess}>
        {entry => (
          <LogRow
            entry={entry}
            onFilter={onFilter}
            isOpen={open.isOpen(entry.id)}
            onToggle={() => open.toggle(entry.id)}
          />
        )}
      </VirtualRows>
      {isLoading && !isOld && !error && <SkeletonRows rows={entries.length === 0 ? 12 : 3} />}
      {error && entries.length > 0 && <StaleLine error={error} loadedAtMs={null} retry={more} />}
      {entries.length > 0 && hasAnswer && (
        <div className="log-end">
          {isFull ? (
            <span className="quiet">
              {formatCount(entries.length)} are enough for one page. Narrow the range to see older ones.
            </span>
          ) : cursor ? (
            <button type="button" className="button" onClick={more} data-testid="load-more">
              {isPartial ? 'Search further back' : 'Load more'}
            </button>
          ) : (
            <span className="quiet">That is all of them: {formatCount(entries.length)}.</span>
          )}
        </div>
      )}
    </section>
  )
}

function NothingFound({ query }: { query: string }) {
  return query ? (
    <Empty title="Nothing matches">
      No entry in this stretch of time matches the search. Widen the range, or drop a term.
    </Empty>
  ) : (
    <SendOne title="No entries yet">Send the first line.</SendOne>
  )
}

/** A refused query is shown once, in place of everything it would have filled. */
function unreadable(...errors: (ApiError | null)[]): ApiError | null {
  return errors.find(error => error !== null && positionOf(error) !== null) ?? null
}
