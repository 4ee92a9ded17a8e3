import { useState } from 'react'
import type { Customer } from '../../api/billaged.ts'
import { createPortalToken, listPortalTokens, revokePortalToken } from '../../api/billing-portal.ts'
import { serviceUrl } from '../../api/service-url.ts'
import { useNow } from '../../live/clock.ts'
import { asApiError, useResource } from '../../live/use-resource.ts'
import { CopyButton } from '../../parts/copy.tsx'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { formatMoment, formatRelative } from '../../units/time.ts'

const lifetimes = [
  { value: '1h', label: 'One hour' },
  { value: '24h', label: 'One day' },
  { value: '168h', label: 'A week' },
  { value: '744h', label: '31 days' },
] as const

/** Links to a page that shows this customer its own spend, VMs and invoices, and nothing else. */
export function PortalLinks({ customer }: { customer: Customer }) {
  const nowMs = useNow()
  const tokens = useResource(`portal ${customer.id}`, signal => listPortalTokens(customer.id, signal), 60_000)
  const [isCreating, setIsCreating] = useState(false)
  const [problem, setProblem] = useState('')
  const revoke = (id: string) => {
    setProblem('')
    revokePortalToken(id)
      .then(tokens.reload)
      .catch(cause => setProblem(asApiError(cause).message))
  }
  return (
    <Panel
      title="Portal"
      aside="what the customer sees"
      actions={
        <button
          type="button"
          className="button small"
          onClick={() => setIsCreating(true)}
          data-testid="new-portal-link"
        >
          <Icon name="plus" size={14} />
          Link
        </button>
      }
      testId="portal-links"
    >
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <Loaded resource={tokens}>
        {({ tokens: list }) => {
          const valid = list.filter(({ expired }) => !expired)
          return valid.length === 0 ? (
            <Empty title="No link is valid">
              A link opens a read-only page with spend, forecast, VMs, gaps, invoices and receipts of this customer.
            </Empty>
          ) : (
            <table className="table">
              <tbody>
                {valid.map(({ id, createdAt, expiresAt }) => (
                  <tr key={id} data-testid="portal-link">
                    <td className="time" title={formatMoment(Date.parse(createdAt), customer.timeZone)}>
                      made {formatRelative(Date.parse(createdAt), nowMs)}
                    </td>
                    <td className="time" title={formatMoment(Date.parse(expiresAt), customer.timeZone)}>
                      expires {formatRelative(Date.parse(expiresAt), nowMs)}
                    </td>
                    <td className="row-actions">
                      <button type="button" className="link" onClick={() => revoke(id)}>
                        Revoke
                      </button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )
        }}
      </Loaded>
      {isCreating && <NewLink customer={customer} onClose={() => setIsCreating(false)} onCreated={tokens.reload} />}
    </Panel>
  )
}

function NewLink({ customer, onClose, onCreated }: { customer: Customer; onClose: () => void; onCreated: () => void }) {
  const [ttl, setTtl] = useState<string>('24h')
  const [link, setLink] = useState('')
  if (link !== '')
    return (
      <Dialog title="The link" onClose={onClose}>
        <div className="form">
          <p>
            Copy it now: <strong>it is not shown again.</strong> Whoever has it sees this customer until it expires or
            is revoked.
          </p>
          <div className="secret">
            <code data-testid="portal-address">{link}</code>
            <CopyButton text={link} label="Copy the link" />
          </div>
          <p>
            <a href={link} target="_blank" rel="noreferrer">
              Look at it as the customer does
            </a>
          </p>
          <button type="button" className="button primary" onClick={onClose}>
            I have copied it
          </button>
        </div>
      </Dialog>
    )
  return (
    <Dialog title={`Portal link for ${customer.name || customer.id}`} onClose={onClose}>
      <ActionForm
        submit="Make the link"
        onSubmit={async () => {
          const made = await createPortalToken({ customerId: customer.id, ttl })
          setLink(`${serviceUrl('billaged')}${made.link}`)
          onCreated()
        }}
      >
        <Field label="Valid for" hint="The address is billaged's own; put your proxy's name in its place.">
          <select value={ttl} onChange={event => setTtl(event.target.value)}>
            {lifetimes.map(({ value, label }) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        </Field>
      </ActionForm>
    </Dialog>
  )
}
