import { useState } from 'react'
import { type CreditView, type Customer, grantCredit, listCredits } from '../../api/billaged.ts'
import { useResource } from '../../live/use-resource.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { formatMoney, formatMoneyExact, nanoFrom, nanoFromUsd, shareOf } from '../../units/money.ts'
import { formatDay, formatMoment } from '../../units/time.ts'

const kinds = [
  { value: 'promotional', label: 'Promotional: taken off before tax' },
  { value: 'prepaid', label: 'Prepaid: paid ahead, taken off after tax' },
] as const

/** What a customer was given or has paid ahead; invoices burn it. */
export function Credits({ customer }: { customer: Customer }) {
  const credits = useResource(`credits ${customer.id}`, signal => listCredits(customer.id, signal), 60_000)
  const [isGranting, setIsGranting] = useState(false)
  return (
    <Panel
      title="Credits"
      actions={
        <button type="button" className="button small" onClick={() => setIsGranting(true)} data-testid="grant-credit">
          <Icon name="plus" size={14} />
          Grant
        </button>
      }
      testId="credits"
    >
      <Loaded resource={credits}>
        {({ credits: list }) =>
          list.length === 0 ? (
            <Empty title="No credits">Granted ones are taken off the next invoices, the most urgent first.</Empty>
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>Credit</th>
                  <th className="number">Left</th>
                  <th className="c-sm">Expires</th>
                </tr>
              </thead>
              <tbody>
                {list.map(credit => (
                  <Row key={credit.id} credit={credit} zone={customer.timeZone} />
                ))}
              </tbody>
            </table>
          )
        }
      </Loaded>
      {isGranting && (
        <Grant
          customer={customer}
          onClose={() => setIsGranting(false)}
          onDone={() => {
            setIsGranting(false)
            credits.reload()
          }}
        />
      )}
    </Panel>
  )
}

function Row({ credit, zone }: { credit: CreditView; zone: string }) {
  const [amount, left] = [nanoFrom(credit.amountNano), nanoFrom(credit.leftNano)]
  return (
    <tr data-testid="credit-row">
      <td className="ellipsis main" title={`${credit.id}, granted ${formatMoment(Date.parse(credit.createdAt), zone)}`}>
        {credit.kind}
        <span className="hint">{credit.note ?? (credit.sourceInvoiceId && `from ${credit.sourceInvoiceId}`)}</span>
      </td>
      <td className="number" title={formatMoneyExact(left, credit.currency)}>
        {formatMoney(left, credit.currency)}
        {shareOf(left, amount) < 1 && <span className="hint">of {formatMoney(amount, credit.currency)}</span>}
      </td>
      <td className="c-sm time">
        {credit.expires === null ? <span className="quiet">never</span> : formatDay(Date.parse(credit.expires), zone)}
      </td>
    </tr>
  )
}

function Grant({ customer, onClose, onDone }: { customer: Customer; onClose: () => void; onDone: () => void }) {
  const [kind, setKind] = useState<CreditView['kind']>('promotional')
  const [amount, setAmount] = useState('')
  const [expires, setExpires] = useState('')
  const [note, setNote] = useState('')
  const isAmount = /^\d{1,20}(\.\d{1,9})?$/.test(amount) && nanoFromUsd(amount) > 0n
  return (
    <Dialog title={`Grant ${customer.name || customer.id} a credit`} onClose={onClose}>
      <ActionForm
        submit="Grant"
        blocked={isAmount ? '' : 'Write an amount such as 25 or 0.50'}
        onSubmit={async () => {
          await grantCredit({
            customerId: customer.id,
            kind,
            amountNano: `${nanoFromUsd(amount)}`,
            ...(expires === '' ? {} : { expires: `${expires}T00:00:00Z` }),
            ...(note.trim() === '' ? {} : { note: note.trim() }),
          })
          onDone()
        }}
      >
        <Field label={`Amount in ${customer.currency}`}>
          <input
            inputMode="decimal"
            value={amount}
            onChange={event => setAmount(event.target.value.trim())}
            placeholder="25"
            data-testid="credit-amount"
          />
        </Field>
        <Field label="Kind">
          <select value={kind} onChange={event => setKind(kinds[event.target.selectedIndex]?.value ?? 'promotional')}>
            {kinds.map(({ value, label }) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        </Field>
        <Field label="Expires" hint="00:00 UTC. Empty: never.">
          <input type="date" value={expires} onChange={event => setExpires(event.target.value)} />
        </Field>
        <Field label="Note" hint="For whoever reads the audit. Grants are for ever.">
          <input value={note} maxLength={500} onChange={event => setNote(event.target.value)} />
        </Field>
      </ActionForm>
    </Dialog>
  )
}
