import { useMemo, useState } from 'react'
import { type LogPattern, listPatterns } from '../../api/logs.ts'
import { useNow } from '../../live/clock.ts'
import { useHeld, useResource } from '../../live/use-resource.ts'
import { levelOf } from '../../logs/levels.ts'
import { phrase, term } from '../../logs/query.ts'
import { rangeDefault, ranges, spanOf } from '../../logs/range.ts'
import { Choice } from '../../parts/choice.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link, navigate } from '../../router/navigation.tsx'
import { logsRoute, type Route } from '../../router/route.ts'
import { formatCount, formatPercent } from '../../units/counts.ts'
import { formatMoment, formatRelative } from '../../units/time.ts'
import { QueryBar } from './query-bar.tsx'
import { positionOf, QueryProblem } from './query-problem.tsx'

type LogsRoute = Extract<Route, { screen: 'logs' }>

const patternsMax = 100

/** What is being said, whatever the numbers in it: a million lines are often twenty sentences. */
export function PatternsTab({ route }: { route: LogsRoute }) {
  const { query, range, from, to } = route
  const [attempt, setAttempt] = useState(0)
  // biome-ignore lint/correctness/useExhaustiveDependencies: each of these is a new question, asked now
  const askedAtMs = useMemo(() => Date.now(), [query, range, from, to, attempt])
  const { fromMs, toMs } = spanOf({ range, from, to }, askedAtMs)
  const asked = { q: query, from: new Date(fromMs).toISOString(), to: new Date(toMs).toISOString(), limit: patternsMax }
  const patterns = useHeld(useResource(`patterns ${JSON.stringify(asked)}`, signal => listPatterns(asked, signal)))
  const change = (patch: Partial<LogsRoute>) => navigate({ ...route, ...patch })
  return (
    <>
      <div className="logs-bar">
        <QueryBar
          query={query}
          onSubmit={text => (text === query ? setAttempt(attempt + 1) : change({ query: text }))}
        />
        <div className="screen-actions">
          <Choice
            label="Time range"
            value={from && to ? '' : range || rangeDefault}
            options={ranges.map(value => ({ value: value as string, label: value }))}
            onChange={value => change({ range: value === rangeDefault ? '' : value, from: '', to: '' })}
          />
        </div>
      </div>
      {patterns.error && positionOf(patterns.error) !== null ? (
        <QueryProblem query={query} error={patterns.error} />
      ) : (
        <Panel
          title="Patterns"
          aside={patterns.data && `${formatCount(BigInt(patterns.data.matches))} entries`}
          isOld={patterns.isOld}
          testId="patterns"
        >
          <Loaded resource={patterns}>
            {({ patterns: list, matches, complete }) =>
              list.length === 0 ? (
                <Empty title="Nothing to group">No entry in this stretch of time matches.</Empty>
              ) : (
                <>
                  <Table patterns={list} matches={Number(matches)} />
                  {!complete && (
                    <p className="panel-note quiet">
                      {list.length >= patternsMax
                        ? `These are the ${patternsMax} most frequent. A narrower range or query shows the rest.`
                        : 'Time or memory ran out before all entries were read: counts are those of the newest. A narrower range or query counts all.'}
                    </p>
                  )}
                </>
              )
            }
          </Loaded>
        </Panel>
      )}
    </>
  )
}

function Table({ patterns, matches }: { patterns: readonly LogPattern[]; matches: number }) {
  const nowMs = useNow()
  return (
    <table className="table">
      <thead>
        <tr>
          <th className="number">Count</th>
          <th className="number c-md">Share</th>
          <th>What is said</th>
          <th className="c-lg">Service</th>
          <th className="c-sm">First seen</th>
        </tr>
      </thead>
      <tbody>
        {patterns.map(({ template, count, services, levels, first_seen, new_since_yesterday, sample }) => (
          <tr key={template} data-testid="pattern-row">
            <td className="number">{formatCount(BigInt(count))}</td>
            <td className="number c-md quiet">{formatPercent(matches > 0 ? Number(count) / matches : 0)}</td>
            <td className="ellipsis main" title={sample}>
              <i className="tone-dot" data-tone={levelOf(levels[0] ?? 'INFO').tone} title={levels.join(', ')} />
              <Link to={logsRoute(queryFor(template, services))}>
                <code>{template}</code>
              </Link>
              {new_since_yesterday === true && (
                <span className="chip" data-tone="busy">
                  new
                </span>
              )}
            </td>
            <td className="c-lg quiet ellipsis">{services.join(', ')}</td>
            <td className="c-sm quiet" title={formatMoment(Date.parse(first_seen))}>
              {formatRelative(Date.parse(first_seen), nowMs)}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

/** Finds its entries again, as far as fixed words can: the longest stretch without a placeholder. */
export function queryFor(template: string, services: readonly string[]): string {
  const fixed = template
    .split(/<[^<>]*>/)
    .map(part => part.trim())
    .sort((a, b) => b.length - a.length)
  const words = fixed[0] ? [phrase(fixed[0])] : []
  const [service] = services
  if (services.length === 1 && service !== undefined) words.push(term('service', service))
  return words.join(' ')
}
