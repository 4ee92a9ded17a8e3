import { useState } from 'react'
import { discardQuarantined, listQuarantine, type QuarantinedEntry, replayQuarantined } from '../../api/logs.ts'
import { useNow } from '../../live/clock.ts'
import { useResource } from '../../live/use-resource.ts'
import { Choice } from '../../parts/choice.tsx'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { formatMoment, formatRelative, parseMoment } from '../../units/time.ts'

const pageEntries = 100
const statuses = [
  { value: 'open', label: 'Open' },
  { value: 'replayed', label: 'Replayed' },
  { value: 'discarded', label: 'Discarded' },
] as const
type Status = (typeof statuses)[number]['value']

/** Entries the database refused for what they are: kept whole until somebody decides. */
export function QuarantineTab() {
  const [status, setStatus] = useState<Status>('open')
  const list = useResource(
    `quarantine ${status}`,
    signal => listQuarantine({ status, limit: pageEntries }, signal),
    5_000,
  )
  const [decided, setDecided] = useState<{ entry: QuarantinedEntry; how: 'replay' | 'discard' } | null>(null)
  const nowMs = useNow()
  return (
    <Panel
      title="Quarantine"
      aside={list.data && (list.data.entries.length === 1 ? '1 entry' : `${list.data.entries.length} entries`)}
      actions={<Choice label="Status" value={status} options={statuses} onChange={setStatus} />}
      testId="quarantine"
    >
      <Loaded resource={list}>
        {({ entries }) =>
          entries.length === 0 ? (
            <Empty title={status === 'open' ? 'Nothing waits for a decision' : `Nothing was ${status}`}>
              An entry that the database refuses is set aside here alone; its neighbours are stored. Until somebody
              replays or discards it, it is kept whole.
            </Empty>
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>Received</th>
                  <th className="c-md">Tenant</th>
                  <th className="c-lg">Key</th>
                  <th>Entry</th>
                  <th className="c-sm">Why</th>
                  <th />
                </tr>
              </thead>
              <tbody>
                {entries.map(entry => {
                  const receivedMs = parseMoment(entry.received_at) ?? nowMs
                  return (
                    <tr key={entry.id} data-testid="quarantine-row">
                      <td className="time" title={formatMoment(receivedMs)}>
                        {formatRelative(receivedMs, nowMs)}
                      </td>
                      <td className="c-md">{entry.tenant}</td>
                      <td className="c-lg quiet">{entry.key}</td>
                      <td className="ellipsis main" title={JSON.stringify(entry.entry)}>
                        <code>{messageOf(entry)}</code>
                      </td>
                      <td className="ellipsis c-sm" title={`${entry.reason}: ${entry.detail}`}>
                        {entry.detail || entry.reason}
                      </td>
                      <td className="row-actions">
                        {entry.status === 'open' ? (
                          <>
                            <button
                              type="button"
                              className="button small"
                              onClick={() => setDecided({ entry, how: 'replay' })}
                            >
                              Replay
                            </button>
                            <button
                              type="button"
                              className="button small"
                              onClick={() => setDecided({ entry, how: 'discard' })}
                            >
                              Discard
                            </button>
                          </>
                        ) : (
                          <span className="quiet" title={entry.decision ?? undefined}>
                            {entry.decided_by ?? ''}
                          </span>
                        )}
                      </td>
                    </tr>
                  )
                })}
              </tbody>
            </table>
          )
        }
      </Loaded>
      {decided && (
        <Decision
          key={decided.entry.id}
          {...decided}
          onClose={() => setDecided(null)}
          onDone={() => {
            setDecided(null)
            list.reload()
          }}
        />
      )}
    </Panel>
  )
}

function messageOf({ entry }: QuarantinedEntry): string {
  const isObject = typeof entry === 'object' && entry !== null && !Array.isArray(entry)
  const message: unknown = isObject ? Reflect.get(entry, 'message') : undefined
  return typeof message === 'string' ? message : JSON.stringify(entry)
}

interface DecisionProps {
  entry: QuarantinedEntry
  how: 'replay' | 'discard'
  onClose: () => void
  onDone: () => void
}

function Decision({ entry, how, onClose, onDone }: DecisionProps) {
  const original = JSON.stringify(entry.entry, null, 2)
  const [text, setText] = useState(original)
  const [reason, setReason] = useState('')
  const mended = parse(text)
  if (how === 'discard')
    return (
      <Dialog title="Discard this entry" onClose={onClose}>
        <ActionForm
          submit="Discard"
          blocked={reason.trim() === '' ? 'Say why, for whoever looks for it later' : ''}
          onSubmit={async () => {
            await discardQuarantined(entry.id, reason.trim())
            onDone()
          }}
        >
          <pre className="quarantine-entry">{original}</pre>
          <Field label="Reason" hint="It stays with the entry and in the audit.">
            <input value={reason} onChange={event => setReason(event.target.value)} data-testid="discard-reason" />
          </Field>
        </ActionForm>
      </Dialog>
    )
  return (
    <Dialog title="Replay this entry" onClose={onClose}>
      <ActionForm
        submit={text === original ? 'Replay as it is' : 'Replay as mended'}
        blocked={mended === undefined ? 'This is not JSON yet' : ''}
        onSubmit={async () => {
          await replayQuarantined(entry.id, text === original ? undefined : mended)
          onDone()
        }}
      >
        <p className="problem">
          {entry.reason}: {entry.detail}
        </p>
        <Field label="Entry" hint="It goes through the journal like any other, once, and keeps its time of acceptance.">
          <textarea
            className="code"
            rows={10}
            spellCheck={false}
            value={text}
            onChange={event => setText(event.target.value)}
            data-testid="replay-entry"
          />
        </Field>
      </ActionForm>
    </Dialog>
  )
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
