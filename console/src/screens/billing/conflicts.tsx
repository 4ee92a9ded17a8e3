import { useState } from 'react'
import { type Conflicts as Answer, listConflicts } from '../../api/billing-invoices.ts'
import { voidEvent } from '../../api/billing-meters.ts'
import { useCustomers } from '../../billing/use-spends.ts'
import { useResource } from '../../live/use-resource.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatCount } from '../../units/counts.ts'
import { formatDayMinute, formatMoment } from '../../units/time.ts'

const spanMs = 31 * 86_400_000

type EventConflict = Answer['events'][number]

/** What was said twice and differently, of one customer: all of it is kept, the bill takes what charges least. */
export function Conflicts() {
  const customers = useCustomers()
  const [chosen, setChosen] = useState('')
  const [voiding, setVoiding] = useState<EventConflict | null>(null)
  const customer = chosen || customers.data?.customers[0]?.id || ''
  const zone = customers.data?.customers.find(({ id }) => id === customer)?.timeZone ?? 'UTC'
  const conflicts = useResource(
    customer === '' ? null : `conflicts ${customer}`,
    signal => listConflicts(customer, new Date(Date.now() - spanMs).toISOString(), signal),
    60_000,
  )
  return (
    <Panel
      title="Conflicts"
      aside="of the last 31 days"
      actions={
        customer !== '' && (
          <select
            className="small"
            aria-label="Of which customer"
            value={customer}
            onChange={event => setChosen(event.target.value)}
          >
            {(customers.data?.customers ?? []).map(({ id, name }) => (
              <option key={id} value={id}>
                {name || id}
              </option>
            ))}
          </select>
        )
      }
      testId="conflicts"
    >
      {customer === '' ? (
        <Empty title="No customers yet" command="bin/billaged-cli demo" />
      ) : (
        <Loaded resource={conflicts}>
          {({ events, vms }) =>
            events.length + vms.length === 0 ? (
              <Empty title="Nobody contradicted anybody">
                Different readings of one instant, or different events under one id, are all kept and listed here. They
                are billed at what charges least.
              </Empty>
            ) : (
              <table className="table">
                <thead>
                  <tr>
                    <th>What</th>
                    <th>Which</th>
                    <th className="number c-sm">Variants</th>
                    <th className="c-md">When</th>
                    <th />
                  </tr>
                </thead>
                <tbody>
                  {vms.map(({ vmId, conflicts: count, at }) => (
                    <tr key={vmId} data-testid="conflict-row">
                      <td>readings</td>
                      <td className="ellipsis main">
                        <Link to={billingRoute('customers', { id: customer, vm: vmId })}>{vmId}</Link>
                        <span className="hint">
                          {formatCount(count)} {count === 1 ? 'instant' : 'instants'}
                        </span>
                      </td>
                      <td className="number c-sm">–</td>
                      <td className="c-md time" title={at.map(one => formatMoment(Date.parse(one), zone)).join('\n')}>
                        {formatDayMinute(Date.parse(at.at(-1) ?? ''), zone)}
                      </td>
                      <td />
                    </tr>
                  ))}
                  {events.map(event => (
                    <tr key={`${event.source} ${event.id}`} data-testid="conflict-row">
                      <td>event</td>
                      <td className="ellipsis main" title={`${event.source} ${event.id}`}>
                        {event.type}
                        <code className="hint">{event.id}</code>
                      </td>
                      <td className="number c-sm">{formatCount(event.variants)}</td>
                      <td className="c-md time">{formatDayMinute(Date.parse(event.at), zone)}</td>
                      <td className="row-actions">
                        {event.voided ? (
                          <span className="quiet">voided</span>
                        ) : (
                          <button type="button" className="button small" onClick={() => setVoiding(event)}>
                            Void
                          </button>
                        )}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            )
          }
        </Loaded>
      )}
      {voiding && (
        <VoidAll
          event={voiding}
          onClose={() => setVoiding(null)}
          onDone={() => {
            setVoiding(null)
            conflicts.reload()
          }}
        />
      )}
    </Panel>
  )
}

function VoidAll({ event, onClose, onDone }: { event: EventConflict; onClose: () => void; onDone: () => void }) {
  const [reason, setReason] = useState('')
  return (
    <Dialog title="Void all variants" onClose={onClose}>
      <ActionForm
        submit="Void"
        blocked={reason.trim() === '' ? 'Say why, for whoever reads the audit' : ''}
        onSubmit={async () => {
          await voidEvent({ source: event.source, id: event.id, reason: reason.trim() })
          onDone()
        }}
      >
        <p>
          None of the {formatCount(event.variants)} contents of <code>{event.id}</code> counts from now on. Left alone,
          the one with the lowest value does.
        </p>
        <Field label="Reason">
          <input value={reason} maxLength={500} onChange={change => setReason(change.target.value)} />
        </Field>
      </ActionForm>
    </Dialog>
  )
}
