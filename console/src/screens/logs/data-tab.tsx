import { useState } from 'react'
import {
  countDeletion,
  createRetention,
  type Deletion,
  listDeletions,
  listRetention,
  removeRetention,
  startDeletion,
} from '../../api/log-rules.ts'
import { useNow } from '../../live/clock.ts'
import { asApiError, useResource } from '../../live/use-resource.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { formatBytes } from '../../units/bytes.ts'
import { formatCount } from '../../units/counts.ts'
import { formatMoment, formatRelative } from '../../units/time.ts'
import { StorePanel } from './store-panel.tsx'

/** What is kept and whether it still holds, how long entries stay, and what was taken before its time, by whom and why. */
export function DataTab() {
  return (
    <>
      <StorePanel />
      <Retention />
      <Deletions />
    </>
  )
}

function Retention() {
  const rules = useResource('log retention', listRetention, 30_000)
  const [isCreating, setIsCreating] = useState(false)
  const [problem, setProblem] = useState('')
  const remove = (id: string) =>
    removeRetention(id)
      .then(rules.reload)
      .catch(error => setProblem(asApiError(error).message))
  return (
    <Panel
      title="Retention"
      aside="the most specific rule decides"
      actions={
        <button type="button" className="button small" onClick={() => setIsCreating(true)} data-testid="new-retention">
          <Icon name="plus" size={14} />
          New rule
        </button>
      }
      testId="retention"
    >
      {problem && <p className="problem">{problem}</p>}
      <Loaded resource={rules}>
        {({ retention, default_keep }) =>
          retention.length === 0 ? (
            <Empty title="No rules of your own">
              The default holds for everything: {spanWords(default_keep)} (<code>LOG_INGESTION_RETENTION</code>).
            </Empty>
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>Service</th>
                  <th>Level</th>
                  <th>Kept</th>
                  <th className="c-md">By</th>
                  <th />
                </tr>
              </thead>
              <tbody>
                {retention.map(({ id, service, level, keep, created_by }) => (
                  <tr key={id} data-testid="retention-row">
                    <td>{service ?? <span className="quiet">every service</span>}</td>
                    <td>{level ?? <span className="quiet">every level</span>}</td>
                    <td>{spanWords(keep)}</td>
                    <td className="c-md quiet">{created_by}</td>
                    <td className="row-actions">
                      <button
                        type="button"
                        className="icon-button"
                        aria-label="Remove this rule"
                        title="Remove"
                        onClick={() => void remove(id)}
                      >
                        <Icon name="trash" size={14} />
                      </button>
                    </td>
                  </tr>
                ))}
                {retention.every(({ service, level }) => service || level) && (
                  <tr className="quiet" data-testid="retention-default">
                    <td colSpan={2}>everything else</td>
                    <td>{spanWords(default_keep)}</td>
                    <td className="c-md">the default</td>
                    <td />
                  </tr>
                )}
              </tbody>
            </table>
          )
        }
      </Loaded>
      {isCreating && <NewRetention onClose={() => setIsCreating(false)} onCreated={rules.reload} />}
    </Panel>
  )
}

const spanWords = (keep: string) => (keep === 'forever' ? 'for ever' : keep)

const levels = ['', 'TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'CRITICAL', 'FATAL'] as const

function NewRetention({ onClose, onCreated }: { onClose: () => void; onCreated: () => void }) {
  const [service, setService] = useState('')
  const [level, setLevel] = useState<(typeof levels)[number]>('')
  const [keep, setKeep] = useState('30d')
  return (
    <Dialog title="New retention rule" onClose={onClose}>
      <ActionForm
        submit="Create rule"
        blocked={keep.trim() === '' ? 'Say how long' : ''}
        onSubmit={async () => {
          await createRetention({
            ...(service.trim() === '' ? {} : { service: service.trim() }),
            ...(level === '' ? {} : { level }),
            keep: keep.trim(),
          })
          onCreated()
          onClose()
        }}
      >
        <Field label="Service" hint="Empty: every service.">
          <input value={service} onChange={event => setService(event.target.value)} data-testid="retention-service" />
        </Field>
        <Field label="Level">
          <select value={level} onChange={event => setLevel(levels[event.target.selectedIndex] ?? '')}>
            {levels.map(one => (
              <option key={one} value={one}>
                {one || 'every level'}
              </option>
            ))}
          </select>
        </Field>
        <Field
          label="Keep for"
          hint="7d, 90d, 36h, or forever. Older entries are not found from the moment they expire, and gone within a day."
        >
          <input value={keep} onChange={event => setKeep(event.target.value)} data-testid="retention-keep" />
        </Field>
      </ActionForm>
    </Dialog>
  )
}

function Deletions() {
  const deletions = useResource('log deletions', listDeletions, 5_000)
  const [isAsking, setIsAsking] = useState(false)
  return (
    <Panel
      title="Deletions"
      actions={
        <button type="button" className="button small" onClick={() => setIsAsking(true)} data-testid="new-deletion">
          <Icon name="trash" size={14} />
          Delete entries
        </button>
      }
      testId="deletions"
    >
      <Loaded resource={deletions}>
        {({ deletions: jobs }) =>
          jobs.length === 0 ? (
            <Empty title="Nothing was deleted">
              Each deletion stays here with who asked for it, why, and a signed note of what was taken.
            </Empty>
          ) : (
            <DeletionTable jobs={jobs} />
          )
        }
      </Loaded>
      {isAsking && <NewDeletion onClose={() => setIsAsking(false)} onStarted={deletions.reload} />}
    </Panel>
  )
}

function DeletionTable({ jobs }: { jobs: readonly Deletion[] }) {
  const nowMs = useNow()
  return (
    <table className="table">
      <thead>
        <tr>
          <th>Asked for</th>
          <th className="c-md">By</th>
          <th>Entries that match</th>
          <th className="c-sm">Why</th>
          <th className="number">Erased</th>
          <th>State</th>
        </tr>
      </thead>
      <tbody>
        {jobs.map(job => (
          <tr key={job.id} title={job.problem ?? `Deletion ${job.id}`} data-testid="deletion-row">
            <td className="time" title={formatMoment(Date.parse(job.requested_at))}>
              {formatRelative(Date.parse(job.requested_at), nowMs)}
            </td>
            <td className="c-md quiet">{job.requested_by}</td>
            <td className="ellipsis main">
              <code>{job.q}</code>
              <span className="hint">
                {formatMoment(Date.parse(job.from))} – {formatMoment(Date.parse(job.to))}
              </span>
            </td>
            <td className="ellipsis c-sm">{job.reason}</td>
            <td className="number" title={formatBytes(BigInt(job.bytes))}>
              {formatCount(BigInt(job.rows))}
            </td>
            <td>
              <span className="chip" data-tone={job.state === 'done' ? 'good' : 'busy'}>
                {job.state === 'done' ? 'gone' : 'hidden, erasing'}
              </span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

function NewDeletion({ onClose, onStarted }: { onClose: () => void; onStarted: () => void }) {
  const [q, setQ] = useState('')
  const [from, setFrom] = useState('-30d')
  const [to, setTo] = useState('now')
  const [reason, setReason] = useState('')
  const [counted, setCounted] = useState<{ wish: string; text: string; rows: string | null } | null>(null)
  const wish = { q: q.trim(), from: from.trim(), to: to.trim() }
  const isCounted = counted?.wish === JSON.stringify(wish) && counted.rows !== null
  const count = async () => {
    const asked = JSON.stringify(wish)
    setCounted({ wish: asked, text: 'Counting…', rows: null })
    try {
      const { rows, partial } = await countDeletion(wish)
      const text = `${partial ? 'At least ' : ''}${formatCount(BigInt(rows))} entries match.`
      setCounted({ wish: asked, text, rows })
    } catch (error) {
      setCounted({ wish: asked, text: asApiError(error).message, rows: null })
    }
  }
  return (
    <Dialog title="Delete entries" onClose={onClose}>
      <ActionForm
        submit={isCounted ? `Delete ${formatCount(BigInt(counted.rows ?? 0))} entries for good` : 'Delete for good'}
        blocked={!isCounted ? 'Count them first' : reason.trim() === '' ? 'Say why: the reason stays' : ''}
        onSubmit={async () => {
          await startDeletion({ ...wish, reason: reason.trim() })
          onStarted()
          onClose()
        }}
      >
        <Field label="Entries that match">
          <input
            className="code"
            spellCheck={false}
            placeholder="service:shop user_id:u17"
            value={q}
            onChange={event => setQ(event.target.value)}
            data-testid="deletion-query"
          />
        </Field>
        <div className="form-row">
          <Field label="From">
            <input className="code" value={from} onChange={event => setFrom(event.target.value)} />
          </Field>
          <Field label="To">
            <input className="code" value={to} onChange={event => setTo(event.target.value)} />
          </Field>
        </div>
        <Field label="Reason">
          <input
            value={reason}
            placeholder="Erasure request 4711"
            onChange={event => setReason(event.target.value)}
            data-testid="deletion-reason"
          />
        </Field>
        <div className="alert-preview">
          <button
            type="button"
            className="button small"
            disabled={wish.q === ''}
            onClick={() => void count()}
            data-testid="deletion-count"
          >
            Count what would go
          </button>
          {counted && <p className={counted.rows === null ? 'quiet' : ''}>{counted.text}</p>}
        </div>
      </ActionForm>
    </Dialog>
  )
}
