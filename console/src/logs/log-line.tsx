import './log-line.css'
import type { Entry } from '../api/logs.ts'
import { formatClockMs, formatMoment } from '../units/time.ts'
import { levelOf } from './levels.ts'
import { metadataSummary } from './summary.ts'

/** The one-line form of an entry, the same wherever lines are shown. */
export function LogLine({ entry }: { entry: Entry }) {
  const level = levelOf(entry.level)
  const ms = Date.parse(entry.timestamp)
  const summary = metadataSummary(entry.metadata, entry.message)
  return (
    <>
      <time dateTime={entry.timestamp} title={formatMoment(ms)}>
        {formatClockMs(ms)}
      </time>
      <span className={`level tone-${level.tone}`}>{level.name}</span>
      <span className="log-service">{entry.service}</span>
      <span className="log-message">
        {entry.message}
        {summary && <span className="log-summary">{summary}</span>}
      </span>
    </>
  )
}
