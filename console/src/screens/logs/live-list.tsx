import { useNow } from '../../live/clock.ts'
import type { OnFilter } from '../../logs/json-tree.tsx'
import { useTail } from '../../logs/use-tail.ts'
import { Failure } from '../../parts/failure.tsx'
import { Icon } from '../../parts/icon.tsx'
import { LiveMark } from '../../parts/live-mark.tsx'
import { StaleLine } from '../../parts/panel.tsx'
import { formatCount } from '../../units/counts.ts'
import { LogRow, useOpenRows } from './log-row.tsx'
import { positionOf, QueryProblem } from './query-problem.tsx'
import { SendOne } from './send-one.tsx'

/** Lines kept while the tail runs; older ones are one search away. */
const tailKeep = 1_000

export function LiveList({ query, onFilter }: { query: string; onFilter: OnFilter }) {
  const { items, state, clear } = useTail({ query, keep: tailKeep, before: 50 })
  const nowMs = useNow()
  const open = useOpenRows()
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
        <SendOne title="Listening">
          New entries{query ? ' that match' : ''} appear here as soon as they are on disk.
        </SendOne>
      )}
      {items.map(item =>
        item.kind === 'gap' ? (
          <p key={item.key} className="log-gap" role="status" data-testid="log-gap">
            <Icon name="alert" size={14} />
            {item.missed === null
              ? 'Lines that came while this page was away are not shown here. A search finds them.'
              : `${formatCount(item.missed)} lines came faster than this page could read and are not shown here. A search finds them.`}
          </p>
        ) : (
          <LogRow
            key={item.key}
            entry={item.entry}
            onFilter={onFilter}
            isOpen={open.isOpen(item.key)}
            onToggle={() => open.toggle(item.key)}
            isNew={item.isNew}
          />
        ),
      )}
    </section>
  )
}
