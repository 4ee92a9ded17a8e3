import { useState } from 'react'
import {
  decideQuarantined,
  listQuarantine,
  type QuarantinedItem,
  type QuarantineState,
} from '../../api/billing-invoices.ts'
import { useNow } from '../../live/clock.ts'
import { useResource } from '../../live/use-resource.ts'
import { Choice } from '../../parts/choice.tsx'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatCount } from '../../units/counts.ts'
import { formatMoment, formatRelative } from '../../units/time.ts'
import { Conflicts } from './conflicts.tsx'

const pageRows = 100
const states: readonly { value: QuarantineState; label: string }[] = [
  { value: 'open', label: 'Open' },
  { value: 'released', label: 'Released' },
  { value: 'discarded', label: 'Discarded' },
]
const reasonWords: Record<string, string> = {
  no_timestamp: 'It does not say when it was measured',
  before_2000: 'From before the year 2000',
  too_far_ahead: 'Further ahead of the clock than MAX_FUTURE',
  too_old: 'Older than MAX_PAST',
  expired: 'Of an hour whose samples have expired; it can only be discarded',
}

/** Readings and events that are valid and doubtful: kept, not billed, until a person decides. */
export function QuarantineTab() {
  const [state, setState] = useState<QuarantineState>('open')
  const [decided, setDecided] = useState<{ item: QuarantinedItem; how: 'release' | 'discard' } | null>(null)
  const list = useResource(
    `billing quarantine ${state}`,
    signal => listQuarantine({ state, limit: pageRows }, signal),
    5_000,
  )
  return (
    <>
      <Panel
        title="Quarantine"
        aside={list.data && `${formatCount(list.data.items.length)}${list.data.nextCursor === null ? '' : ' or more'}`}
        actions={<Choice label="State" value={state} options={states} onChange={setState} />}
        testId="billing-quarantine"
      >
        <Loaded resource={list}>
          {({ items, nextCursor }) =>
            items.length === 0 ? (
              <Empty title={state === 'open' ? 'Nothing waits for a decision' : `Nothing was ${state}`}>
                A reading from the future, from too long ago or without a time is set aside here and answered as
                accepted. A period with open items does not close.
              </Empty>
            ) : (
              <>
                <Rows items={items} onDecide={(item, how) => setDecided({ item, how })} />
                {nextCursor !== null && (
                  <p className="panel-note quiet">The oldest {pageRows}; decide, and more follow.</p>
                )}
              </>
            )
          }
        </Loaded>
        {decided && (
          <Decision
            key={decided.item.id}
            {...decided}
            onClose={() => setDecided(null)}
            onDone={() => {
              setDecided(null)
              list.reload()
            }}
          />
        )}
      </Panel>
      <Conflicts />
    </>
  )
}

function Rows({
  items,
  onDecide,
}: {
  items: readonly QuarantinedItem[]
  onDecide: (item: QuarantinedItem, how: 'release' | 'discard') => void
}) {
  const nowMs = useNow()
  return (
    <table className="table">
      <thead>
        <tr>
          <th>Received</th>
          <th>Customer</th>
          <th className="c-sm">What</th>
          <th className="c-md">Why</th>
          <th />
        </tr>
      </thead>
      <tbody>
        {items.map(item => {
          const receivedMs = Date.parse(item.receivedAt)
          return (
            <tr key={item.id} data-testid="quarantine-row">
              <td className="time" title={formatMoment(receivedMs)}>
                {formatRelative(receivedMs, nowMs)}
              </td>
              <td className="ellipsis main">
                {item.customerId === null ? (
                  <span className="quiet">nobody</span>
                ) : (
                  <Link to={billingRoute('customers', { id: item.customerId })}>{item.customerId}</Link>
                )}
                {item.vmId && <span className="hint">{item.vmId}</span>}
              </td>
              <td className="c-sm">{item.what}</td>
              <td className="c-md quiet-wrap" title={item.reason}>
                {reasonWords[item.reason] ?? item.reason}
              </td>
              <td className="row-actions">
                {item.state === 'open' ? (
                  <>
                    <button type="button" className="button small" onClick={() => onDecide(item, 'release')}>
                      Release
                    </button>
                    <button type="button" className="button small" onClick={() => onDecide(item, 'discard')}>
                      Discard
                    </button>
                  </>
                ) : (
                  <span className="quiet">{item.state}</span>
                )}
              </td>
            </tr>
          )
        })}
      </tbody>
    </table>
  )
}

interface DecisionProps {
  item: QuarantinedItem
  how: 'release' | 'discard'
  onClose: () => void
  onDone: () => void
}

function Decision({ item, how, onClose, onDone }: DecisionProps) {
  const [reason, setReason] = useState('')
  const isDiscard = how === 'discard'
  return (
    <Dialog title={isDiscard ? 'Discard this for good' : 'Release this into usage'} onClose={onClose}>
      <ActionForm
        submit={isDiscard ? 'Discard' : 'Release'}
        blocked={isDiscard && reason.trim() === '' ? 'Say why, for whoever looks for it later' : ''}
        onSubmit={async () => {
          await decideQuarantined(item.id, how, reason.trim() === '' ? undefined : reason.trim())
          onDone()
        }}
      >
        <p>
          {isDiscard
            ? 'It is kept and never billed. The decision is final.'
            : 'It goes through the journal like any other and counts as what it says. The decision is final.'}
        </p>
        <pre className="payload">{pretty(item.payload)}</pre>
        <Field label={isDiscard ? 'Reason' : 'Reason, if you like'} hint="It stays in the audit.">
          <input
            value={reason}
            maxLength={500}
            onChange={event => setReason(event.target.value)}
            data-testid="quarantine-reason"
          />
        </Field>
      </ActionForm>
    </Dialog>
  )
}

/** As it was sent, a member to a line; digits are moved and never read. */
function pretty(json: string): string {
  return json.length > 4_000 ? json : json.replace(/([{,])\s*(?=")/g, '$1\n  ').replace(/\}\s*$/, '\n}')
}
