import { Fragment, useDeferredValue, useRef, useState } from 'react'
import { type ListedEvent, listEvents, voidEvent } from '../../api/billing-meters.ts'
import { serviceUrl } from '../../api/service-url.ts'
import { useNow } from '../../live/clock.ts'
import { useResource } from '../../live/use-resource.ts'
import { Choice } from '../../parts/choice.tsx'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatMoment, formatRelative } from '../../units/time.ts'
import { Fact } from '../hosts/hosts.tsx'

const rowsShown = 100
const kinds = [
  { value: 'all', label: 'All' },
  { value: 'odd', label: 'With a problem' },
] as const
type Kind = (typeof kinds)[number]['value']

/** What arrives, with what is wrong with it, as it arrives. */
export function EventsTab() {
  const [kind, setKind] = useState<Kind>('all')
  const [subject, setSubject] = useState('')
  const [isLive, setIsLive] = useState(true)
  const [openKey, setOpenKey] = useState<string | null>(null)
  const [voiding, setVoiding] = useState<ListedEvent | null>(null)
  const wanted = useDeferredValue(subject.trim())
  const seen = useRef<Set<string> | null>(null)
  const events = useResource(
    `events ${kind} ${wanted}`,
    async signal => {
      const list = await listEvents(
        {
          limit: rowsShown,
          ...(wanted === '' ? {} : { subject: wanted }),
          ...(kind === 'odd' ? { hasError: 'true' as const } : {}),
        },
        signal,
      )
      const before = seen.current
      seen.current = new Set(list.map(keyOf))
      return { list, fresh: new Set(before === null ? [] : list.map(keyOf).filter(key => !before.has(key))) }
    },
    isLive ? 2_000 : 0,
  )
  return (
    <Panel
      title="Events"
      aside="newest first"
      actions={
        <>
          <input
            className="small"
            aria-label="Only of this subject"
            placeholder="Subject"
            value={subject}
            onChange={event => setSubject(event.target.value)}
          />
          <Choice label="Which events" value={kind} options={kinds} onChange={setKind} />
          <button
            type="button"
            className="button small live-switch"
            role="switch"
            aria-checked={isLive}
            onClick={() => setIsLive(!isLive)}
          >
            <Icon name={isLive ? 'pause' : 'play'} size={12} />
            Live
          </button>
        </>
      }
      testId="events"
    >
      <Loaded resource={events}>
        {({ list, fresh }) =>
          list.length === 0 ? (
            kind === 'odd' || wanted !== '' ? (
              <Empty title="No such event">{kind === 'odd' ? 'Every event of the last month is metered.' : ''}</Empty>
            ) : (
              <Empty title="No events yet" command={example()}>
                Builds, logs and AI calls report here by themselves. One by hand, as any CloudEvents client sends it:
              </Empty>
            )
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>Received</th>
                  <th>Type</th>
                  <th className="c-sm">Customer</th>
                  <th className="c-md">Metered</th>
                </tr>
              </thead>
              <tbody>
                {list.map(one => {
                  const key = keyOf(one)
                  return (
                    <Fragment key={key}>
                      <Row
                        listed={one}
                        isNew={fresh.has(key)}
                        isOpen={openKey === key}
                        onToggle={() => setOpenKey(openKey === key ? null : key)}
                      />
                      {openKey === key && <Detail listed={one} onVoid={() => setVoiding(one)} />}
                    </Fragment>
                  )
                })}
              </tbody>
            </table>
          )
        }
      </Loaded>
      {voiding && (
        <VoidEvent
          listed={voiding}
          onClose={() => setVoiding(null)}
          onDone={() => {
            setVoiding(null)
            events.reload()
          }}
        />
      )}
    </Panel>
  )
}

function keyOf({ event, ingestedAt }: ListedEvent): string {
  return `${event.source}\n${event.id}\n${ingestedAt}`
}

function Row({
  listed,
  isNew,
  isOpen,
  onToggle,
}: {
  listed: ListedEvent
  isNew: boolean
  isOpen: boolean
  onToggle: () => void
}) {
  const nowMs = useNow()
  const { event, customerId, validationError, ingestedAt } = listed
  const receivedMs = Date.parse(ingestedAt)
  return (
    <tr data-testid="event-row" data-open={isOpen || undefined} data-new={isNew || undefined}>
      <td className="time" title={formatMoment(receivedMs)}>
        <button type="button" className="row-toggle" aria-expanded={isOpen} onClick={onToggle}>
          <Icon name="chevron" size={12} />
          {formatRelative(receivedMs, nowMs)}
        </button>
      </td>
      <td className="ellipsis main" title={event.type}>
        {event.type}
      </td>
      <td className="c-sm ellipsis">
        {customerId ? (
          <Link to={billingRoute('customers', { id: customerId })}>{customerId}</Link>
        ) : (
          <span className="quiet">{event.subject ?? 'none'}</span>
        )}
      </td>
      <td className="c-md">
        {validationError === undefined ? (
          <span className="chip" data-tone="good">
            metered
          </span>
        ) : (
          <span className="chip" data-tone="warn" title={validationError}>
            {validationError.startsWith('voided') ? 'voided' : 'not metered'}
          </span>
        )}
      </td>
    </tr>
  )
}

function Detail({
  listed: { event, customerId, validationError, ingestedAt },
  onVoid,
}: {
  listed: ListedEvent
  onVoid: () => void
}) {
  return (
    <tr className="row-detail">
      <td colSpan={4}>
        {validationError && <p className="problem">{validationError}</p>}
        <dl className="facts">
          <Fact name="Id" value={event.id} />
          <Fact name="Source" value={event.source} />
          <Fact name="Subject" value={event.subject ?? '–'} />
          <Fact name="Customer" value={customerId ?? 'unclaimed'} />
          <Fact name="Time" value={event.time === undefined ? '–' : formatMoment(Date.parse(event.time))} />
          <Fact name="Received" value={formatMoment(Date.parse(ingestedAt))} />
        </dl>
        <pre className="payload">{JSON.stringify(event.data ?? null, null, 2)}</pre>
        {!validationError?.startsWith('voided') && (
          <button type="button" className="button small" onClick={onVoid}>
            Void this event
          </button>
        )}
      </td>
    </tr>
  )
}

function VoidEvent({
  listed: { event },
  onClose,
  onDone,
}: {
  listed: ListedEvent
  onClose: () => void
  onDone: () => void
}) {
  const [reason, setReason] = useState('')
  return (
    <Dialog title="Void this event" onClose={onClose}>
      <ActionForm
        submit="Void"
        blocked={reason.trim() === '' ? 'Say why, for whoever reads the audit' : ''}
        onSubmit={async () => {
          await voidEvent({ source: event.source, id: event.id, reason: reason.trim() })
          onDone()
        }}
      >
        <p>
          It stays in the set and counts nothing from now on; invoices that counted it get an adjustment. A correction
          is sent as a new event.
        </p>
        <Field label="Reason">
          <input value={reason} onChange={change => setReason(change.target.value)} data-testid="void-reason" />
        </Field>
      </ActionForm>
    </Dialog>
  )
}

function example(): string {
  return `curl -s ${serviceUrl('billaged')}/api/v1/events -H "Authorization: Bearer $BILLAGED_API_KEY" \\
  -H 'content-type: application/cloudevents+json' \\
  -d '{"specversion":"1.0","id":"1","source":"hand","type":"builderd.build_time","subject":"acme","data":{"running_ms":"1000"}}'`
}
