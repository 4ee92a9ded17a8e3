import { Fragment, useState } from 'react'
import { listDeliveries, replayDelivery, type WebhookDelivery } from '../../api/billing-alerts.ts'
import { useNow } from '../../live/clock.ts'
import { asApiError, useResource } from '../../live/use-resource.ts'
import { Choice } from '../../parts/choice.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { formatMoment, formatRelative } from '../../units/time.ts'

const states = [
  { value: '', label: 'All' },
  { value: 'pending', label: 'Waiting' },
  { value: 'failed', label: 'Failed' },
] as const
type State = (typeof states)[number]['value']
const tones: Record<WebhookDelivery['state'], string> = { pending: 'busy', delivered: 'good', failed: 'bad' }

/** Whether those who should know have heard it; what failed is sent again by hand. */
export function Deliveries() {
  const [state, setState] = useState<State>('')
  const [openId, setOpenId] = useState<string | null>(null)
  const deliveries = useResource(`deliveries ${state}`, signal => listDeliveries(state, signal), 5_000)
  return (
    <Panel
      title="Deliveries"
      actions={<Choice label="State" value={state} options={states} onChange={setState} />}
      testId="deliveries"
    >
      <Loaded resource={deliveries}>
        {({ deliveries: list }) =>
          list.length === 0 ? (
            <Empty title={state === '' ? 'Nothing was told yet' : 'None'}>
              {state === '' && 'Each message to each webhook becomes a row here, with every attempt.'}
            </Empty>
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>When</th>
                  <th>Message</th>
                  <th>State</th>
                  <th className="c-md">Answer</th>
                  <th />
                </tr>
              </thead>
              <tbody>
                {list.map(delivery => (
                  <Fragment key={delivery.id}>
                    <Row
                      delivery={delivery}
                      isOpen={openId === delivery.id}
                      onToggle={() => setOpenId(openId === delivery.id ? null : delivery.id)}
                      reload={deliveries.reload}
                    />
                    {openId === delivery.id && (
                      <tr className="row-detail">
                        <td colSpan={5}>
                          <pre className="payload">{JSON.stringify(delivery.payload, null, 2)}</pre>
                        </td>
                      </tr>
                    )}
                  </Fragment>
                ))}
              </tbody>
            </table>
          )
        }
      </Loaded>
    </Panel>
  )
}

interface RowProps {
  delivery: WebhookDelivery
  isOpen: boolean
  onToggle: () => void
  reload: () => void
}

function Row({ delivery, isOpen, onToggle, reload }: RowProps) {
  const nowMs = useNow()
  const [told, setTold] = useState('')
  const replay = () => {
    setTold('…')
    replayDelivery(delivery.id)
      .then(() => {
        setTold('queued')
        reload()
      })
      .catch(cause => setTold(asApiError(cause).message))
  }
  const { createdAt, nextAt, attempts, lastStatus, lastProblem, state } = delivery
  return (
    <tr data-testid="delivery-row" data-open={isOpen || undefined}>
      <td className="time" title={formatMoment(Date.parse(createdAt))}>
        <button type="button" className="row-toggle" aria-expanded={isOpen} onClick={onToggle}>
          <Icon name="chevron" size={12} />
          {formatRelative(Date.parse(createdAt), nowMs)}
        </button>
      </td>
      <td className="ellipsis main">
        {delivery.type}
        {delivery.customerId && <span className="hint">{delivery.customerId}</span>}
      </td>
      <td className="nowrap">
        <span className="chip" data-tone={tones[state]}>
          {state === 'pending' ? 'waiting' : state}
        </span>
        {nextAt !== null && attempts > 0 && (
          <span className="hint c-sm">{formatRelative(Date.parse(nextAt), nowMs)}</span>
        )}
      </td>
      <td className="c-md quiet-wrap">
        {lastProblem ?? (lastStatus === null ? '–' : `answered ${lastStatus}`)}
        {attempts > 1 && `, ${attempts} attempts`}
      </td>
      <td className="row-actions">
        {told && <span className="quiet">{told}</span>}
        {state !== 'pending' && (
          <button type="button" className="button small" onClick={replay}>
            Replay
          </button>
        )}
      </td>
    </tr>
  )
}
