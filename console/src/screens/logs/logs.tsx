import { type FormEvent, useEffect, useRef, useState } from 'react'
import type { ApiError } from '../../api/http.ts'
import { getHistogram } from '../../api/logs.ts'
import { serviceUrl } from '../../api/service-url.ts'
import { barsFrom, LevelHistogram } from '../../charts/level-histogram.tsx'
import { useNow } from '../../live/clock.ts'
import { useResource } from '../../live/use-resource.ts'
import { type Tone, toneLabels, toneQueries, tones } from '../../logs/levels.ts'
import { withTerm, words } from '../../logs/query.ts'
import { barIntervalMs, rangeDefault, ranges, type Span, spanOf } from '../../logs/range.ts'
import { useTail } from '../../logs/use-tail.ts'
import { Choice } from '../../parts/choice.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Failure } from '../../parts/failure.tsx'
import { Icon } from '../../parts/icon.tsx'
import { LiveMark } from '../../parts/live-mark.tsx'
import { Loaded, SkeletonRows, StaleLine } from '../../parts/panel.tsx'
import { navigate } from '../../router/navigation.tsx'
import type { Route } from '../../router/route.ts'
import { formatCount, formatCountShort } from '../../units/counts.ts'
import { goDuration } from '../../units/duration.ts'
import { formatMoment } from '../../units/time.ts'
import { LogRow } from './log-row.tsx'
import { positionOf, QueryProblem } from './query-problem.tsx'
import { useSearch } from './use-search.ts'

type LogsRoute = Extract<Route, { screen: 'logs' }>

/** Lines kept while the tail runs; older ones are one search away. */
const tailKeep = 1_000
const barsMax = 90

export function Logs({ route }: { route: LogsRoute }) {
  const { query, range, from, to, isLive } = route
  const [attempt, setAttempt] = useState(0)
  // "The last hour" ends when it was asked for, so that pages of one search do not move under the reader.
  const [askedAtMs, setAskedAtMs] = useState(() => Date.now())
  // biome-ignore lint/correctness/useExhaustiveDependencies: each of these is a new question, asked now
  useEffect(() => setAskedAtMs(Date.now()), [query, range, from, to, isLive, attempt])

  const span = spanOf({ range, from, to }, askedAtMs)
  const change = (patch: Partial<LogsRoute>) => navigate({ ...route, ...patch })
  const filter = (name: string, value: string | number | boolean | null, negate: boolean) =>
    change({ query: withTerm(query, name, value, negate) })

  return (
    <div className="screen logs">
      <header className="screen-head">
        <h1>Logs</h1>
        <div className="screen-actions">
          <Choice
            label="Time range"
            value={from && to ? '' : range || rangeDefault}
            options={ranges.map(value => ({ value: value as string, label: value }))}
            onChange={value => change({ range: value === rangeDefault ? '' : value, from: '', to: '', isLive: false })}
          />
          <button
            type="button"
            className="button live-switch"
            role="switch"
            aria-checked={isLive}
            data-testid="live-switch"
            onClick={() => change({ isLive: !isLive, from: '', to: '' })}
          >
            <Icon name={isLive ? 'pause' : 'play'} size={14} />
            {isLive ? 'Pause' : 'Live'}
          </button>
        </div>
      </header>
      <QueryBar query={query} onSubmit={text => (text === query ? setAttempt(attempt + 1) : change({ query: text }))} />
      {isLive ? (
        <LiveList query={query} onFilter={filter} />
      ) : (
        <Found
          key={`${query} ${span.fromMs} ${span.toMs}`}
          query={query}
          span={span}
          onFilter={filter}
          onTone={tone =>
            change({ query: words(query).includes(toneQueries[tone]) ? query : `${query} ${toneQueries[tone]}`.trim() })
          }
          onZoom={(fromMs, toMs) =>
            change({ from: new Date(fromMs).toISOString(), to: new Date(toMs).toISOString(), range: '' })
          }
          onWiden={span.isRelative ? undefined : () => change({ from: '', to: '' })}
        />
      )}
    </div>
  )
}

function QueryBar({ query, onSubmit }: { query: string; onSubmit: (query: string) => void }) {
  const [text, setText] = useState(query)
  const input = useRef<HTMLInputElement>(null)
  useEffect(() => setText(query), [query])
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof HTMLElement && event.target.matches('input, textarea, select')
      if (event.key !== '/' || isTyping || event.metaKey || event.ctrlKey) return
      event.preventDefault()
      input.current?.focus()
    }
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  }, [])

  const submit = (event: FormEvent) => {
    event.preventDefault()
    onSubmit(text.trim())
  }
  return (
    <search>
      <form className="query-bar" onSubmit={submit}>
        <Icon name="search" />
        <input
          ref={input}
          type="text"
          value={text}
          onChange={event => setText(event.target.value)}
          placeholder='level>=warn service:shop "card declined"'
          aria-label="Search logs"
          spellCheck={false}
          autoCapitalize="off"
          autoComplete="off"
          data-testid="log-query"
        />
        {text && (
          <button
            type="button"
            className="icon-button"
            aria-label="Clear the search"
            onClick={() => {
              setText('')
              onSubmit('')
              input.current?.focus()
            }}
          >
            <Icon name="close" size={14} />
          </button>
        )}
        <span className="kbd" aria-hidden="true">
          /
        </span>
        <button type="submit" className="button">
          Search
        </button>
      </form>
    </search>
  )
}

interface FoundProps {
  query: string
  span: Span
  onFilter: (name: string, value: string | number | boolean | null, negate: boolean) => void
  onTone: (tone: Tone) => void
  onZoom: (fromMs: number, toMs: number) => void
  onWiden: (() => void) | undefined
}

function Found({ query, span, onFilter, onTone, onZoom, onWiden }: FoundProps) {
  const [from, to] = [new Date(span.fromMs).toISOString(), new Date(span.toMs).toISOString()]
  const intervalMs = barIntervalMs(span, barsMax)
  const histogram = useResource(`histogram ${query} ${from} ${to}`, signal =>
    getHistogram({ q: query, from, to, interval: goDuration(intervalMs) }, signal),
  )
  const search = useSearch({ query, from, to })
  const bars = histogram.data ? barsFrom(histogram.data.buckets) : []
  const total = bars.reduce((sum, bar) => sum + bar.total, 0)

  const problem = firstProblem(search.error, histogram.error)
  if (problem) return <QueryProblem query={query} error={problem} />

  return (
    <>
      <section className="panel">
        <div className="histogram-head">
          <strong>{histogram.data ? `${formatCount(total)} ${total === 1 ? 'entry' : 'entries'}` : 'Counting…'}</strong>
          <span className="quiet">
            {formatMoment(span.fromMs)} – {formatMoment(span.toMs)}
          </span>
          {onWiden && (
            <button type="button" className="link" onClick={onWiden}>
              Back to the last hour
            </button>
          )}
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
        </div>
        <Loaded resource={histogram} skeleton={<div className="skeleton" style={{ height: '110px' }} />}>
          {() => <LevelHistogram bars={bars} intervalMs={intervalMs} height={110} onZoom={onZoom} />}
        </Loaded>
      </section>
      <section className="panel log-list" aria-label="Entries, newest first" data-testid="log-list">
        {search.error && search.entries.length === 0 && <Failure error={search.error} retry={search.more} />}
        {!search.error && !search.isLoading && search.entries.length === 0 && <NothingFound query={query} />}
        {search.entries.map(entry => (
          <LogRow key={`${entry.id}`} entry={entry} onFilter={onFilter} />
        ))}
        {search.isLoading && <SkeletonRows rows={search.entries.length === 0 ? 12 : 3} />}
        {search.error && search.entries.length > 0 && (
          <StaleLine error={search.error} loadedAtMs={null} retry={search.more} />
        )}
        {search.entries.length > 0 && !search.isLoading && !search.error && (
          <div className="log-end">
            {search.cursor ? (
              <button type="button" className="button" onClick={search.more} data-testid="load-more">
                {search.isPartial ? 'Search further back' : 'Load more'}
              </button>
            ) : (
              <span className="quiet">That is all of them: {formatCount(search.entries.length)}.</span>
            )}
          </div>
        )}
      </section>
    </>
  )
}

function LiveList({ query, onFilter }: Pick<FoundProps, 'query' | 'onFilter'>) {
  const { items, state, clear } = useTail(query, tailKeep)
  const nowMs = useNow()
  if (state.status === 'refused' && positionOf(state.error) !== null)
    return <QueryProblem query={query} error={state.error} />
  const lastMinute = items.filter(
    item => item.kind === 'entry' && nowMs - Date.parse(item.entry.created_at ?? item.entry.timestamp) < 60_000,
  )
  return (
    <section className="panel log-list" aria-label="Live entries, newest first" data-testid="log-list">
      <div className="log-live-head">
        <LiveMark state={state} />
        <span className="quiet">
          {items.length === 0
            ? 'Waiting for the next line'
            : `${formatCount(items.length)} lines · ${formatCount(lastMinute.length)} in the last minute`}
        </span>
        {items.length > 0 && (
          <button type="button" className="link" onClick={clear}>
            Clear
          </button>
        )}
      </div>
      {state.status === 'waiting' && <StaleLine error={state.error} loadedAtMs={null} />}
      {state.status === 'refused' && <Failure error={state.error} />}
      {items.length === 0 && state.status === 'live' && (
        <Empty title="Listening" command={curlOneLine()}>
          New entries{query ? ' that match' : ''} appear here as soon as they are on disk. To send one:
        </Empty>
      )}
      {items.map(item =>
        item.kind === 'gap' ? (
          <p key={item.key} className="log-gap" role="status" data-testid="log-gap">
            <Icon name="alert" size={14} />
            {formatCount(item.missed)} lines came faster than this page could read and are not shown here. A search
            finds them.
          </p>
        ) : (
          <LogRow key={item.key} entry={item.entry} onFilter={onFilter} isNew />
        ),
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
    <Empty title="No entries yet" command={curlOneLine()}>
      Send the first line with a write key (<code>npm start</code> prints one):
    </Empty>
  )
}

function curlOneLine(): string {
  return `curl -s ${serviceUrl('log-ingestion')}/api/v1/logs -H "X-API-Key: $KEY" \\
  -d '{"log":{"timestamp":"'$(date -u +%FT%TZ)'","service":"shop","level":"info","message":"hello"}}'`
}

/** A refused query is shown once, in place of everything it would have filled. */
function firstProblem(...errors: (ApiError | null)[]): ApiError | null {
  return errors.find(error => error !== null && positionOf(error) !== null) ?? null
}
