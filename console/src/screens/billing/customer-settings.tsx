import { useState } from 'react'
import { formatUsd } from '#platform/money'
import { type Customer, updateCustomer } from '../../api/billaged.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { nanoFromUsd } from '../../units/money.ts'

const intervals = [
  { value: 1, label: 'Every month' },
  { value: 3, label: 'Every three months' },
  { value: 12, label: 'Every year' },
] as const

export function CustomerSettings({
  customer,
  onClose,
  onDone,
}: {
  customer: Customer
  onClose: () => void
  onDone: () => void
}) {
  const [name, setName] = useState(customer.name ?? '')
  const [budget, setBudget] = useState(customer.budgetNano === null ? '' : formatUsd(BigInt(customer.budgetNano)))
  const [timeZone, setTimeZone] = useState(customer.timeZone)
  const [anchorDay, setAnchorDay] = useState(String(customer.anchorDay))
  const [intervalMonths, setIntervalMonths] = useState(customer.intervalMonths)
  const [tax, setTax] = useState(formatUsd(BigInt(customer.taxPpm) * 100_000n))
  const [taxName, setTaxName] = useState(customer.taxName ?? '')
  const blocked = !/^(\d{1,20}(\.\d{1,9})?)?$/.test(budget)
    ? 'The budget is an amount such as 500 or 0.25'
    : !/^([1-9]|[12]\d|3[01])$/.test(anchorDay)
      ? 'The day is 1 to 31'
      : !/^\d{1,3}(\.\d{1,4})?$/.test(tax)
        ? 'Tax is a percentage with at most four decimals'
        : ''
  return (
    <Dialog title={`Settings of ${customer.name || customer.id}`} onClose={onClose}>
      <ActionForm
        submit="Save"
        blocked={blocked}
        onSubmit={async () => {
          const isCycle = Number(anchorDay) !== customer.anchorDay || intervalMonths !== customer.intervalMonths
          await updateCustomer(customer.id, {
            name: name.trim() === '' ? null : name.trim(),
            timeZone: timeZone.trim(),
            budgetNano: budget === '' || nanoFromUsd(budget) === 0n ? null : `${nanoFromUsd(budget)}`,
            // A percent is ten thousand millionths.
            taxPpm: Number(nanoFromUsd(tax) / 100_000n),
            taxName: taxName.trim() === '' ? null : taxName.trim(),
            ...(isCycle ? { anchorDay: Number(anchorDay), intervalMonths } : {}),
          })
          onDone()
          onClose()
        }}
      >
        <Field label="Name" hint="On invoices.">
          <input value={name} maxLength={200} onChange={event => setName(event.target.value)} />
        </Field>
        <Field
          label={`Budget per period in ${customer.currency}`}
          hint="Shown and warned about, never enforced. Empty: none."
        >
          <input
            inputMode="decimal"
            value={budget}
            placeholder="500"
            onChange={event => setBudget(event.target.value.trim())}
            data-testid="customer-budget"
          />
        </Field>
        <Field label="Time zone" hint="For showing times. Periods have their edges at 00:00 UTC.">
          <input value={timeZone} list="time-zones" onChange={event => setTimeZone(event.target.value)} />
        </Field>
        <datalist id="time-zones">
          {Intl.supportedValuesOf('timeZone').map(zone => (
            <option key={zone} value={zone} />
          ))}
        </datalist>
        <div className="form-row">
          <Field label="Period starts on day">
            <input inputMode="numeric" value={anchorDay} onChange={event => setAnchorDay(event.target.value.trim())} />
          </Field>
          <Field label="Billed">
            <select value={intervalMonths} onChange={event => setIntervalMonths(Number(event.target.value))}>
              {intervals.map(({ value, label }) => (
                <option key={value} value={value}>
                  {label}
                </option>
              ))}
            </select>
          </Field>
        </div>
        <div className="form-row">
          <Field label="Tax in percent">
            <input inputMode="decimal" value={tax} onChange={event => setTax(event.target.value.trim())} />
          </Field>
          <Field label="Called">
            <input
              value={taxName}
              placeholder="VAT"
              maxLength={63}
              onChange={event => setTaxName(event.target.value)}
            />
          </Field>
        </div>
      </ActionForm>
    </Dialog>
  )
}
