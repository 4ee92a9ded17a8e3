import { Fragment, useState } from 'react'
import {
  type AlertRule,
  type AlertState,
  getTimeline,
  listAlerts,
  removeAlert,
  testAlert,
} from '../../api/log-rules.ts'
import { useNow } from '../../live/clock.ts'
import { asApiError, useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { logsRoute } from '../../router/route.ts'
import { formatCount } from '../../units/counts.ts'
import { formatMoment, formatRelative, parseMoment } from '../../units/time.ts'
import { NewAlert } from './new-alert.tsx'

const tones: Record<AlertState, string> = { ok: 'good', pending: 'warn', firing: 'bad', stalled: 'warn' }

/** What watches the logs while nobody does. */
export function AlertsTab() {
  const alerts = useResource('log alerts', listAlerts, 5_000)
  const [isCreating, setIsCreating] = useState(false)
  const [openId, setOpenId] = useState<string | null>(null)
  return (
    <Panel
      title="Alerts"
      aside={alerts.data && firingText(alerts.data.alerts)}
      actions={
        <button
          type="button"
          className="button small primary"
          onClick={() => setIsCreating(true)}
          data-testid="new-alert"
        >
          <Icon name="plus" size={14} />
          New alert
        </button>
      }
      testId="alerts"
    >
      <Loaded resource={alerts}>
        {({ alerts: rules }) =>
          rules.length === 0 ? (
            <Empty title="Nothing is watched yet">
              An alert counts the entries that match a query over a window of time, misses them when they stop, or sees
              their number change, and tells a webhook. Before it is kept, it shows what it would have done in the last
              seven days.
            </Empty>
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>Alert</th>
                  <th>State</th>
                  <th className="c-md">When</th>
                  <th className="c-sm">Query</th>
                  <th className="number c-lg">Now</th>
                  <th />
                </tr>
              </thead>
              <tbody>
                {rules.map(rule => (
                  <Fragment key={rule.id}>
                    <Row
                      rule={rule}
                      isOpen={openId === rule.id}
                      onToggle={() => setOpenId(openId === rule.id ? null : rule.id)}
                      reload={alerts.reload}
                    />
                    {openId === rule.id && <Timeline id={rule.id} />}
                  </Fragment>
                ))}
              </tbody>
            </table>
          )
        }
      </Loaded>
      {isCreating && <NewAlert onClose={() => setIsCreating(false)} onCreated={alerts.reload} />}
    </Panel>
  )
}

function firingText(rules: readonly AlertRule[]): string {
  const firing = rules.filter(({ state }) => state === 'firing').length
  return firing > 0 ? `${firing} of ${rules.length} firing` : rules.length > 0 ? 'all quiet' : ''
}

interface RowProps {
  rule: AlertRule
  isOpen: boolean
  onToggle: () => void
  reload: () => void
}

function Row({ rule, isOpen, onToggle, reload }: RowProps) {
  const nowMs = useNow()
  const [told, setTold] = useState('')
  const act = (work: () => Promise<string>) => {
    setTold('…')
    work()
      .then(setTold)
      .catch(error => setTold(asApiError(error).message))
  }
  return (
    <tr data-open={isOpen || undefined} data-testid="alert-row">
      <td className="ellipsis main">
        <button type="button" className="row-toggle" aria-expanded={isOpen} onClick={onToggle}>
          <Icon name="chevron" size={12} />
          {rule.name}
        </button>
      </td>
      <td>
        <span className="chip" data-tone={rule.enabled ? tones[rule.state] : undefined} data-testid="alert-state">
          {rule.enabled ? rule.state : 'off'}
        </span>
        {rule.since && <span className="hint c-md">{formatRelative(parseMoment(rule.since) ?? nowMs, nowMs)}</span>}
      </td>
      <td className="c-md quiet">{rule.problem ?? conditionText(rule)}</td>
      <td className="c-sm ellipsis">
        <Link to={logsRoute(rule.q)}>
          <code>{rule.q || 'every entry'}</code>
        </Link>
      </td>
      <td className="number c-lg">{rule.value ?? '–'}</td>
      <td className="row-actions">
        {told && <span className="quiet">{told}</span>}
        {rule.webhook && (
          <button
            type="button"
            className="button small"
            onClick={() =>
              act(async () => {
                const { delivered, status, problem } = await testAlert(rule.id)
                return delivered ? `delivered, ${status}` : (problem ?? `answered ${status}`)
              })
            }
          >
            Test
          </button>
        )}
        <button
          type="button"
          className="icon-button"
          aria-label={`Remove ${rule.name}`}
          title="Remove"
          onClick={() =>
            act(async () => {
              await removeAlert(rule.id)
              reload()
              return 'removed'
            })
          }
        >
          <Icon name="trash" size={14} />
        </button>
      </td>
    </tr>
  )
}

/** "more than 10 in 5m", "none for 10m", "± 50 % against the 1h before". */
export function conditionText({
  kind,
  op = '>',
  threshold = 0,
  window,
  for: held,
}: Pick<AlertRule, 'kind' | 'op' | 'threshold' | 'window' | 'for'>): string {
  const words = { '>': 'more than', '>=': 'at least', '<': 'fewer than', '<=': 'at most' }[op]
  const lasting = held && held !== '0s' ? `, for ${held}` : ''
  if (kind === 'absence') return `none for ${window}${lasting}`
  if (kind === 'rate') return `changed by ${op} ${threshold} % against the ${window} before${lasting}`
  return `${words} ${formatCount(threshold)} in ${window}${lasting}`
}

function Timeline({ id }: { id: string }) {
  const timeline = useResource(`alert ${id}`, signal => getTimeline(id, signal), 10_000)
  return (
    <tr className="row-detail">
      <td colSpan={6}>
        <Loaded resource={timeline}>
          {({ events, deliveries }) => (
            <div className="alert-timeline">
              <div>
                <h3>States</h3>
                {events.length === 0 ? (
                  <p className="quiet">It has been quiet since it was made.</p>
                ) : (
                  <ol>
                    {events.map(({ at, state, value }) => (
                      <li key={`${at} ${state}`}>
                        <time>{formatMoment(Date.parse(at))}</time>
                        <span className="chip" data-tone={tones[state]}>
                          {state}
                        </span>
                        {value !== null && <span className="quiet">{value}</span>}
                      </li>
                    ))}
                  </ol>
                )}
              </div>
              <div>
                <h3>Deliveries</h3>
                {deliveries.length === 0 ? (
                  <p className="quiet">Nobody was told anything.</p>
                ) : (
                  <ol>
                    {deliveries.map(({ id: delivery, state, attempts, status, problem, created_at }) => (
                      <li key={delivery} title={delivery}>
                        <time>{formatMoment(Date.parse(created_at))}</time>
                        <span
                          className="chip"
                          data-tone={state === 'delivered' ? 'good' : state === 'failed' ? 'bad' : 'busy'}
                        >
                          {state}
                        </span>
                        <span className="quiet">
                          {problem ?? (status === null ? '' : `answered ${status}`)}
                          {attempts > 1 && `, ${attempts} attempts`}
                        </span>
                      </li>
                    ))}
                  </ol>
                )}
              </div>
            </div>
          )}
        </Loaded>
      </td>
    </tr>
  )
}
