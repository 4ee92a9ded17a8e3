import { useState } from 'react'
import { createTenant } from '../../api/budgetguard.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { navigate } from '../../router/navigation.tsx'

export function NewTenant({ onClose, onCreated }: { onClose: () => void; onCreated: () => void }) {
  const [name, setName] = useState('')
  const [amount, setAmount] = useState('')
  const blocked =
    name.trim() === ''
      ? 'A tenant needs a name'
      : /^(\d+(\.\d{1,9})?)?$/.test(amount)
        ? ''
        : 'Write an amount in dollars, such as 50 or 0.25'
  return (
    <Dialog title="New tenant" onClose={onClose}>
      <ActionForm
        submit="Create tenant"
        blocked={blocked}
        onSubmit={async () => {
          const budgets = amount === '' ? {} : { budgets: [{ period: 'monthly' as const, amountUsd: amount }] }
          const tenant = await createTenant({ name: name.trim(), ...budgets })
          onCreated()
          onClose()
          navigate({ screen: 'spend', tenant: tenant.id, tab: 'keys' })
        }}
      >
        <Field label="Name" hint="Its slug, made from the name once, is what every service calls it.">
          <input
            value={name}
            onChange={event => setName(event.target.value)}
            placeholder="acme"
            data-testid="tenant-name"
          />
        </Field>
        <Field label="Monthly budget in US dollars" hint="Empty: the default budget applies.">
          <input
            inputMode="decimal"
            value={amount}
            onChange={event => setAmount(event.target.value.trim())}
            placeholder="50"
            data-testid="tenant-budget"
          />
        </Field>
      </ActionForm>
    </Dialog>
  )
}
