import { useState } from 'react'
import { createPlan, listPlans } from '../../api/billing-plans.ts'
import { useResource } from '../../live/use-resource.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link, navigate } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatCount } from '../../units/counts.ts'

export function PlansTab() {
  const plans = useResource('plans', listPlans, 30_000)
  const [isCreating, setIsCreating] = useState(false)
  return (
    <Panel
      title="Plans"
      actions={
        <button
          type="button"
          className="button small primary"
          onClick={() => setIsCreating(true)}
          data-testid="new-plan"
        >
          <Icon name="plus" size={14} />
          New plan
        </button>
      }
      testId="plans"
    >
      <Loaded resource={plans}>
        {({ plans: list }) =>
          list.length === 0 ? (
            <Empty title="No plans">A plan says what usage costs. Make one, then subscribe customers to it.</Empty>
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>Plan</th>
                  <th className="c-sm">Name</th>
                  <th>Currency</th>
                  <th className="number">Versions</th>
                </tr>
              </thead>
              <tbody>
                {list.map(({ id, name, currency, versions }) => (
                  <tr key={id} data-testid="plan-row">
                    <td className="nowrap">
                      <Link to={billingRoute('plans', { id })}>
                        <b>{id}</b>
                      </Link>
                    </td>
                    <td className="c-sm ellipsis main" title={name}>
                      {name}
                    </td>
                    <td>{currency}</td>
                    <td className="number">
                      {versions === 0 ? (
                        <span className="chip" data-tone="warn">
                          none yet
                        </span>
                      ) : (
                        formatCount(versions)
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )
        }
      </Loaded>
      {isCreating && <NewPlan onClose={() => setIsCreating(false)} />}
    </Panel>
  )
}

function NewPlan({ onClose }: { onClose: () => void }) {
  const [id, setId] = useState('')
  const [name, setName] = useState('')
  const [currency, setCurrency] = useState('USD')
  const blocked = !/^[a-z0-9][a-z0-9._-]{0,62}$/.test(id)
    ? 'The id takes 1 to 63 of a-z 0-9 . _ - and begins with a letter or digit'
    : name.trim() === ''
      ? 'What is it called on invoices?'
      : ''
  return (
    <Dialog title="New plan" onClose={onClose}>
      <ActionForm
        submit="Create plan"
        blocked={blocked}
        onSubmit={async () => {
          await createPlan({ id, name: name.trim(), currency: currency.trim().toUpperCase() })
          navigate(billingRoute('plans', { id }))
        }}
      >
        <Field label="Id" hint="It never changes.">
          <input
            value={id}
            placeholder="std"
            onChange={event => setId(event.target.value.trim())}
            data-testid="plan-id"
          />
        </Field>
        <Field label="Name">
          <input
            value={name}
            placeholder="Standard"
            onChange={event => setName(event.target.value)}
            data-testid="plan-name"
          />
        </Field>
        <Field label="Currency" hint="ISO 4217. A plan bills in one.">
          <input value={currency} maxLength={3} onChange={event => setCurrency(event.target.value)} />
        </Field>
      </ActionForm>
    </Dialog>
  )
}
