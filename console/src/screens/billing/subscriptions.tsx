import { useState } from 'react'
import type { Customer } from '../../api/billaged.ts'
import { listPlans, listSubscriptions, subscribe } from '../../api/billing-plans.ts'
import { runningPeriod } from '../../billing/periods.ts'
import { useResource } from '../../live/use-resource.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatDay } from '../../units/time.ts'

export function Subscriptions({ customer, onChanged }: { customer: Customer; onChanged: () => void }) {
  const subscriptions = useResource(
    `subscriptions ${customer.id}`,
    signal => listSubscriptions(customer.id, signal),
    60_000,
  )
  const [isAdding, setIsAdding] = useState(false)
  return (
    <Panel
      title="Subscriptions"
      actions={
        <button type="button" className="button small" onClick={() => setIsAdding(true)} data-testid="subscribe">
          <Icon name="plus" size={14} />
          Subscribe
        </button>
      }
      testId="subscriptions"
    >
      <Loaded resource={subscriptions}>
        {({ subscriptions: list }) =>
          list.length === 0 ? (
            <Empty title="On no plan">
              What it uses is measured and has no price.{' '}
              <Link to={billingRoute('plans', { id: 'example' })}>example</Link> is there from the start.
            </Empty>
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>Plan</th>
                  <th>From</th>
                  <th>Until</th>
                </tr>
              </thead>
              <tbody>
                {list.map(({ id, planId, from, to }) => (
                  <tr key={id}>
                    <td>
                      <Link to={billingRoute('plans', { id: planId })}>{planId}</Link>
                    </td>
                    <td className="time">{dayText(from)}</td>
                    <td className="time">{to === null ? 'open' : dayText(to)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )
        }
      </Loaded>
      {isAdding && (
        <Subscribe
          customer={customer}
          onClose={() => setIsAdding(false)}
          onDone={() => {
            setIsAdding(false)
            subscriptions.reload()
            onChanged()
          }}
        />
      )}
    </Panel>
  )
}

function Subscribe({ customer, onClose, onDone }: { customer: Customer; onClose: () => void; onDone: () => void }) {
  const plans = useResource('plans', listPlans)
  const [plan, setPlan] = useState('')
  const [from, setFrom] = useState(runningPeriod(customer, Date.now()).from.slice(0, 10))
  const [to, setTo] = useState('')
  const chosen = plan || plans.data?.plans[0]?.id || ''
  const isDay = (text: string) => /^\d{4}-\d\d-\d\d$/.test(text)
  return (
    <Dialog title={`Subscribe ${customer.name || customer.id}`} onClose={onClose}>
      <ActionForm
        submit="Subscribe"
        blocked={chosen === '' ? 'There is no plan yet' : isDay(from) && (to === '' || isDay(to)) ? '' : 'Choose a day'}
        onSubmit={async () => {
          const at = (day: string) => `${day}T00:00:00Z`
          await subscribe({ customerId: customer.id, planId: chosen, from: at(from), to: to === '' ? null : at(to) })
          onDone()
        }}
      >
        <Field label="Plan">
          <select value={chosen} onChange={event => setPlan(event.target.value)} data-testid="subscribe-plan">
            {(plans.data?.plans ?? []).map(({ id, name }) => (
              <option key={id} value={id}>
                {id}: {name}
              </option>
            ))}
          </select>
        </Field>
        <div className="form-row">
          <Field label="From" hint="00:00 UTC">
            <input type="date" value={from} onChange={event => setFrom(event.target.value)} />
          </Field>
          <Field label="Until" hint="Empty: until it is changed">
            <input type="date" value={to} onChange={event => setTo(event.target.value)} />
          </Field>
        </div>
      </ActionForm>
    </Dialog>
  )
}

function dayText(instant: string): string {
  const ms = Date.parse(instant)
  return `${formatDay(ms, 'UTC')} ${new Date(ms).getUTCFullYear()}`
}
