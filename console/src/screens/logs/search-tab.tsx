import { useMemo, useState } from 'react'
import { toneQueries } from '../../logs/levels.ts'
import { withTerm, words } from '../../logs/query.ts'
import { rangeDefault, ranges, spanOf } from '../../logs/range.ts'
import { Choice } from '../../parts/choice.tsx'
import { Icon } from '../../parts/icon.tsx'
import { navigate } from '../../router/navigation.tsx'
import type { Route } from '../../router/route.ts'
import { Found } from './found.tsx'
import { LiveList } from './live-list.tsx'
import { QueryBar } from './query-bar.tsx'

type LogsRoute = Extract<Route, { screen: 'logs' }>

export function SearchTab({ route }: { route: LogsRoute }) {
  const { query, range, from, to, isLive } = route
  const [attempt, setAttempt] = useState(0)
  // "The last hour" ends when it was asked for, so that pages of one search do not move under the reader.
  // biome-ignore lint/correctness/useExhaustiveDependencies: each of these is a new question, asked now
  const askedAtMs = useMemo(() => Date.now(), [query, range, from, to, isLive, attempt])
  const span = spanOf({ range, from, to }, askedAtMs)
  const change = (patch: Partial<LogsRoute>) => navigate({ ...route, ...patch })
  const filter = (name: string, value: string | number | boolean | null, negate: boolean) =>
    change({ query: withTerm(query, name, value, negate) })

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
            value={isLive || (from && to) ? '' : range || rangeDefault}
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
      </div>
      {isLive ? (
        <LiveList key={query} query={query} onFilter={filter} />
      ) : (
        <Found
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
    </>
  )
}
