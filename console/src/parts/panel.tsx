import type { ReactNode } from 'react'
import type { ApiError } from '../api/http.ts'
import { useNow } from '../live/clock.ts'
import type { Resource } from '../live/use-resource.ts'
import { formatRelative } from '../units/time.ts'
import { Failure } from './failure.tsx'
import { Icon } from './icon.tsx'

interface PanelProps {
  title: ReactNode
  /** A short fact beside the title: a total, a count. */
  aside?: ReactNode
  actions?: ReactNode
  className?: string
  /** It shows the answer before, while the next one is on its way. */
  isOld?: boolean
  testId?: string
  children: ReactNode
}

export function Panel({ title, aside, actions, className = '', isOld = false, testId, children }: PanelProps) {
  return (
    <section
      className={`panel ${className}`}
      aria-busy={isOld || undefined}
      data-old={isOld || undefined}
      data-testid={testId}
    >
      <header className="panel-head">
        <h2>{title}</h2>
        {aside !== undefined && <div className="panel-aside">{aside}</div>}
        {actions !== undefined && <div className="panel-actions">{actions}</div>}
      </header>
      {children}
    </section>
  )
}

interface LoadedProps<T> {
  resource: Resource<T>
  /** What stands in the panel's place before the first answer: about as tall as the answer will be. */
  skeleton?: ReactNode
  children: (data: T) => ReactNode
}

/** Data, or the reason there is none. Old data stays, with a line that says it is old. */
export function Loaded<T>({ resource, skeleton, children }: LoadedProps<T>) {
  const { data, error, reload } = resource
  if (data === null && error !== null) return <Failure error={error} retry={reload} />
  if (data === null) return skeleton ?? <SkeletonRows rows={4} />
  return (
    <>
      {error !== null && <StaleLine error={error} loadedAtMs={resource.loadedAtMs} retry={reload} />}
      {children(data)}
    </>
  )
}

export function StaleLine({
  error,
  loadedAtMs,
  retry,
}: {
  error: ApiError
  loadedAtMs: number | null
  retry?: () => void
}) {
  const nowMs = useNow()
  return (
    <p className="stale" role="status" title={error.message}>
      <Icon name="alert" size={14} />
      <span>Not up to date: as of {loadedAtMs === null ? 'earlier' : formatRelative(loadedAtMs, nowMs)}.</span>
      {retry && (
        <button type="button" className="link" onClick={retry}>
          Try now
        </button>
      )}
    </p>
  )
}

export function SkeletonRows({ rows }: { rows: number }) {
  return (
    <div className="skeleton-rows" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, i) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: placeholders have no identity
        <div key={i} className="skeleton" />
      ))}
    </div>
  )
}
