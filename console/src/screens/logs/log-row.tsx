import { useId, useState } from 'react'
import { type Entry, getContext } from '../../api/logs.ts'
import { useResource } from '../../live/use-resource.ts'
import { JsonTree, type OnFilter } from '../../logs/json-tree.tsx'
import { levelOf } from '../../logs/levels.ts'
import { LogLine } from '../../logs/log-line.tsx'
import { CopyButton } from '../../parts/copy.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, SkeletonRows } from '../../parts/panel.tsx'
import { formatMoment } from '../../units/time.ts'

/** By the keys of their entries: a row that leaves the screen may leave the document, and is open when it comes back. */
export function useOpenRows(): { isOpen: (key: string) => boolean; toggle: (key: string) => void } {
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set())
  return {
    isOpen: key => open.has(key),
    toggle: key => setOpen(before => before.symmetricDifference(new Set([key]))),
  }
}

export function LogRow({
  entry,
  onFilter,
  isOpen,
  onToggle,
  isNew = false,
}: {
  entry: Entry
  onFilter: OnFilter
  isOpen: boolean
  onToggle: () => void
  isNew?: boolean
}) {
  const id = useId()
  return (
    <article
      className="log-row"
      data-open={isOpen || undefined}
      data-new={isNew || undefined}
      data-tone={levelOf(entry.level).tone}
      data-testid="log-row"
    >
      <button type="button" className="log-line" aria-expanded={isOpen} aria-controls={id} onClick={onToggle}>
        <LogLine entry={entry} />
      </button>
      {isOpen && <Detail id={id} entry={entry} onFilter={onFilter} />}
    </article>
  )
}

/** What its line shows whole need not be said twice. */
function isLong(message: string): boolean {
  return message.length > 80 || message.includes('\n')
}

function Detail({ id, entry, onFilter }: { id: string; entry: Entry; onFilter: OnFilter }) {
  const fields: [string, string][] = [
    ['service', entry.service],
    ['level', entry.level],
    ...(entry.id === undefined ? [] : [['id', entry.id] satisfies [string, string]]),
  ]
  return (
    <div className="log-detail" id={id}>
      {isLong(entry.message) && <pre className="log-full">{entry.message}</pre>}
      <div className="json">
        <ul>
          <li>
            <span className="json-row">
              <span className="json-name">timestamp</span>
              <span className="json-value json-string" title={formatMoment(Date.parse(entry.timestamp))}>
                {entry.timestamp}
              </span>
            </span>
          </li>
          {fields.map(([name, value]) => (
            <li key={name}>
              <span className="json-row">
                <span className="json-name">{name}</span>
                <span className="json-value json-string">{value}</span>
                {name !== 'id' && (
                  <span className="json-actions">
                    <button
                      type="button"
                      aria-label={`Only this ${name}`}
                      title="Filter for this value"
                      onClick={() => onFilter(name, value, false)}
                    >
                      <Icon name="filterIn" size={14} />
                    </button>
                    <button
                      type="button"
                      aria-label={`Without this ${name}`}
                      title="Filter out this value"
                      onClick={() => onFilter(name, value, true)}
                    >
                      <Icon name="filterOut" size={14} />
                    </button>
                  </span>
                )}
              </span>
            </li>
          ))}
        </ul>
      </div>
      {entry.metadata && Object.keys(entry.metadata).length > 0 && (
        <JsonTree value={entry.metadata} onFilter={onFilter} />
      )}
      {entry.id !== undefined && <Neighbours id={entry.id} />}
      <CopyButton text={JSON.stringify(entry, null, 2)} label="Copy the entry as JSON" />
    </div>
  )
}

/** What the same service said just before and after. */
function Neighbours({ id }: { id: string }) {
  const [isAsked, setIsAsked] = useState(false)
  const context = useResource(isAsked ? `log context ${id}` : null, signal =>
    getContext(id, { before: 10, after: 10 }, signal),
  )
  if (!isAsked)
    return (
      <button type="button" className="link log-more" onClick={() => setIsAsked(true)} data-testid="log-context">
        Show the lines around it
      </button>
    )
  return (
    <Loaded resource={context} skeleton={<SkeletonRows rows={3} />}>
      {({ before, entry, after }) => (
        <ol className="log-context" data-testid="log-neighbours">
          {[...before, entry, ...after].map(one => (
            <li key={one.id} aria-current={one.id === id || undefined}>
              <LogLine entry={one} />
            </li>
          ))}
        </ol>
      )}
    </Loaded>
  )
}
