import { Fragment, useState } from 'react'
import { decideFault, type Fault, listFaults, listNotices, type Notice } from '../../api/faults.ts'
import { useNow } from '../../live/clock.ts'
import { asApiError, useResource } from '../../live/use-resource.ts'
import { JsonTree } from '../../logs/json-tree.tsx'
import { curlNotice } from '../../logs/own-key.ts'
import { Choice } from '../../parts/choice.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import type { Route } from '../../router/route.ts'
import { formatCount } from '../../units/counts.ts'
import { formatMoment, formatRelative } from '../../units/time.ts'
import { SendOne } from './send-one.tsx'

const pageFaults = 50
const shown = [
  { value: '-is:resolved -is:ignored', label: 'Open' },
  { value: 'is:resolved', label: 'Resolved' },
  { value: 'is:ignored', label: 'Ignored' },
] as const
type Shown = (typeof shown)[number]['value']

/** Exceptions that programs reported, one line per cause. */
export function ErrorsTab() {
  const [q, setQ] = useState<Shown>('-is:resolved -is:ignored')
  const [openId, setOpenId] = useState<number | null>(null)
  const faults = useResource(`faults ${q}`, signal => listFaults({ q, limit: pageFaults, offset: 0 }, signal), 5_000)
  return (
    <Panel
      title="Errors"
      aside={faults.data && (faults.data.total === 1 ? '1 cause' : `${formatCount(faults.data.total)} causes`)}
      actions={<Choice label="State" value={q} options={shown} onChange={setQ} />}
      testId="faults"
    >
      <Loaded resource={faults}>
        {({ faults: list, total }) =>
          list.length === 0 ? (
            <SendOne title={q.startsWith('-') ? 'No open errors' : 'None'} command={curlNotice}>
              Programs report exceptions here: any Honeybadger client pointed at this service, or a line of curl.
            </SendOne>
          ) : (
            <>
              <table className="table">
                <thead>
                  <tr>
                    <th>Error</th>
                    <th className="c-md">Where</th>
                    <th className="c-lg">Environment</th>
                    <th className="number">Times</th>
                    <th className="c-sm">Last seen</th>
                    <th />
                  </tr>
                </thead>
                <tbody>
                  {list.map(fault => (
                    <Fragment key={fault.id}>
                      <Row
                        fault={fault}
                        isOpen={openId === fault.id}
                        onToggle={() => setOpenId(openId === fault.id ? null : fault.id)}
                        reload={faults.reload}
                      />
                      {openId === fault.id && <Notices fault={fault} />}
                    </Fragment>
                  ))}
                </tbody>
              </table>
              {total > list.length && (
                <p className="panel-more quiet">and {formatCount(total - list.length)} more, seen longer ago</p>
              )}
            </>
          )
        }
      </Loaded>
    </Panel>
  )
}

interface RowProps {
  fault: Fault
  isOpen: boolean
  onToggle: () => void
  reload: () => void
}

function Row({ fault, isOpen, onToggle, reload }: RowProps) {
  const nowMs = useNow()
  const [problem, setProblem] = useState('')
  const decide = (how: 'resolve' | 'unresolve' | 'ignore') =>
    decideFault(fault.id, how)
      .then(reload)
      .catch(error => setProblem(asApiError(error).message))
  const lastMs = Date.parse(fault.last_seen_at)
  return (
    <tr data-open={isOpen || undefined} data-testid="fault-row">
      <td className="ellipsis main" title={fault.message}>
        <button type="button" className="row-toggle" aria-expanded={isOpen} onClick={onToggle}>
          <Icon name="chevron" size={12} />
          <b>{fault.error_class}</b>
        </button>{' '}
        <span className="quiet">{fault.message}</span>
      </td>
      <td className="c-md ellipsis">{fault.location && <code>{fault.location}</code>}</td>
      <td className="c-lg quiet">{fault.environment}</td>
      <td className="number">{formatCount(fault.occurrence_count)}</td>
      <td className="c-sm quiet" title={formatMoment(lastMs)}>
        {formatRelative(lastMs, nowMs)}
      </td>
      <td className="row-actions">
        {problem && <span className="quiet">{problem}</span>}
        {fault.resolved ? (
          <button type="button" className="button small" onClick={() => void decide('unresolve')}>
            Reopen
          </button>
        ) : (
          <>
            <button type="button" className="button small" onClick={() => void decide('resolve')}>
              Resolve
            </button>
            {!fault.ignored && (
              <button type="button" className="button small c-md" onClick={() => void decide('ignore')}>
                Ignore
              </button>
            )}
          </>
        )}
      </td>
    </tr>
  )
}

const aroundMs = 30_000

/** The lines of the time around a notice, of any service. */
function linesAround(notice: Notice): Route {
  const atMs = Date.parse(notice.created_at)
  return {
    screen: 'logs',
    tab: 'search',
    query: '',
    range: '',
    from: new Date(atMs - aroundMs).toISOString(),
    to: new Date(atMs + aroundMs).toISOString(),
    isLive: false,
  }
}

function Notices({ fault }: { fault: Fault }) {
  const notices = useResource(`notices ${fault.id}`, signal => listNotices(fault.id, signal), 10_000)
  return (
    <tr className="row-detail">
      <td colSpan={6}>
        <Loaded resource={notices}>
          {({ notices: list }) => {
            const [newest] = list
            if (!newest) return <p className="quiet">Its notices have been deleted.</p>
            return (
              <div className="fault-detail" data-testid="fault-detail">
                <p>
                  {formatMoment(Date.parse(newest.created_at))}
                  {newest.hostname && ` on ${newest.hostname}`}
                  {newest.revision && `, revision ${newest.revision.slice(0, 12)}`}
                  {' · '}
                  <Link to={linesAround(newest)}>log lines around it</Link>
                </p>
                {newest.backtrace && newest.backtrace.length > 0 && (
                  <ol className="backtrace">
                    {newest.backtrace.slice(0, 30).map((frame, i) => (
                      // biome-ignore lint/suspicious/noArrayIndexKey: frames have no identity but their place
                      <li key={i}>
                        <code>
                          {frame.file}
                          {frame.line !== undefined && `:${frame.line}`}
                        </code>{' '}
                        <span className="quiet">{frame.function}</span>
                      </li>
                    ))}
                  </ol>
                )}
                {(['context', 'params', 'session'] as const).map(name =>
                  isFilled(newest[name]) ? (
                    <section key={name}>
                      <h3>{name}</h3>
                      <JsonTree value={newest[name]} />
                    </section>
                  ) : null,
                )}
              </div>
            )
          }}
        </Loaded>
      </td>
    </tr>
  )
}

function isFilled(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.keys(value).length > 0
}
