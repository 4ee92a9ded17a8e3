import { useState } from 'react'
import { formatUsd } from '#platform/money'
import { type Budget, setBudget } from '../../api/billing-alerts.ts'
import { useCustomers } from '../../billing/use-spends.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { nanoFromUsd } from '../../units/money.ts'

export function EditBudget({
  budget,
  onClose,
  onDone,
}: {
  budget: Budget | null
  onClose: () => void
  onDone: () => void
}) {
  const customers = useCustomers()
  const [customer, setCustomer] = useState(budget?.customerId ?? '')
  const [amount, setAmount] = useState(budget === null ? '' : formatUsd(BigInt(budget.budgetNano)))
  const [percents, setPercents] = useState((budget?.alertPercents ?? [50, 75, 100]).join(', '))
  const [isStop, setIsStop] = useState(budget?.stopRequestedAtFull ?? false)
  const chosen = customer || customers.data?.customers[0]?.id || ''
  const numbers = percents.split(/[,\s]+/).filter(part => part !== '')
  const blocked =
    chosen === ''
      ? 'There is no customer yet'
      : !/^\d{1,20}(\.\d{1,9})?$/.test(amount) || nanoFromUsd(amount) === 0n
        ? 'Write an amount such as 500 or 0.25'
        : numbers.every(part => /^[1-9]\d{0,3}$/.test(part))
          ? ''
          : 'Thresholds are whole percents such as 50, 75, 100'
  return (
    <Dialog title={budget === null ? 'Set a budget' : `Budget of ${budget.customerId}`} onClose={onClose}>
      <ActionForm
        submit="Save"
        blocked={blocked}
        onSubmit={async () => {
          await setBudget({
            customerId: chosen,
            budgetNano: `${nanoFromUsd(amount)}`,
            alertPercents: numbers.map(Number),
            stopRequestedAtFull: isStop,
          })
          onDone()
        }}
      >
        {budget === null && (
          <Field label="Customer">
            <select value={chosen} onChange={event => setCustomer(event.target.value)} data-testid="budget-customer">
              {(customers.data?.customers ?? []).map(({ id, name }) => (
                <option key={id} value={id}>
                  {name || id}
                </option>
              ))}
            </select>
          </Field>
        )}
        <Field label="Per period" hint="In the customer's currency.">
          <input
            inputMode="decimal"
            value={amount}
            placeholder="500"
            onChange={event => setAmount(event.target.value.trim())}
            data-testid="spend-budget-amount"
          />
        </Field>
        <Field label="Alert at percent of it" hint="Each fires once a period.">
          <input value={percents} onChange={event => setPercents(event.target.value)} />
        </Field>
        <label className="check-field">
          <input type="checkbox" checked={isStop} onChange={event => setIsStop(event.target.checked)} />
          When it is full, ask the platform to stop: the event carries <code>stop_requested</code>
        </label>
      </ActionForm>
    </Dialog>
  )
}
