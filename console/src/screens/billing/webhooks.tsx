import { useState } from 'react'
import {
  createWebhook,
  listWebhooks,
  type MessageType,
  removeWebhook,
  testWebhook,
  updateWebhook,
  type WebhookEndpoint,
} from '../../api/billing-alerts.ts'
import { useCustomers } from '../../billing/use-spends.ts'
import { asApiError, useResource } from '../../live/use-resource.ts'
import { CopyButton } from '../../parts/copy.tsx'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'

export const typeWords: Record<MessageType, string> = {
  'spend.threshold_reached': 'Spend reached a threshold',
  'invoice.finalised': 'An invoice was finalised',
  'invoice.adjusted': 'An invoice corrects an earlier one',
  'usage.unrated': 'Usage has no price',
  'host.down': 'A host went silent',
  'close.blocked': 'A period cannot close',
}
const types = Object.keys(typeWords).filter((type): type is MessageType => type in typeWords)

/** Who is told, as Standard Webhooks. */
export function Webhooks() {
  const webhooks = useResource('billing webhooks', listWebhooks, 15_000)
  const [isCreating, setIsCreating] = useState(false)
  return (
    <Panel
      title="Webhooks"
      actions={
        <button type="button" className="button small" onClick={() => setIsCreating(true)} data-testid="new-webhook">
          <Icon name="plus" size={14} />
          New webhook
        </button>
      }
      testId="webhooks"
    >
      <Loaded resource={webhooks}>
        {({ webhooks: list }) =>
          list.length === 0 ? (
            <Empty title="Nobody is told">
              A webhook gets every alert and invoice as a signed Standard Webhook, tried again for three days until it
              answers.
            </Empty>
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>Address</th>
                  <th className="c-md">About</th>
                  <th className="c-sm">State</th>
                  <th />
                </tr>
              </thead>
              <tbody>
                {list.map(webhook => (
                  <Row key={webhook.id} webhook={webhook} reload={webhooks.reload} />
                ))}
              </tbody>
            </table>
          )
        }
      </Loaded>
      {isCreating && <NewWebhook onClose={() => setIsCreating(false)} onCreated={webhooks.reload} />}
    </Panel>
  )
}

function Row({ webhook, reload }: { webhook: WebhookEndpoint; reload: () => void }) {
  const [told, setTold] = useState('')
  const [isRemoving, setIsRemoving] = useState(false)
  const act = (work: () => Promise<string>) => {
    setTold('…')
    work()
      .then(setTold)
      .catch(cause => setTold(asApiError(cause).message))
  }
  return (
    <tr data-testid="webhook-row">
      <td className="ellipsis main" title={webhook.url}>
        {hostOf(webhook.url)}
        {webhook.description && <span className="hint">{webhook.description}</span>}
      </td>
      <td className="c-md quiet-wrap">
        {webhook.customerId ?? 'every customer'}
        {webhook.types.length > 0 && `: ${webhook.types.join(', ')}`}
      </td>
      <td className="c-sm">
        <span className="chip" data-tone={webhook.enabled ? 'good' : undefined}>
          {webhook.enabled ? 'on' : 'off'}
        </span>
      </td>
      <td className="row-actions">
        {told && (
          <span className="quiet told" role="status">
            {told}
          </span>
        )}
        <button
          type="button"
          className="button small"
          onClick={() =>
            act(async () => {
              const { delivered, status, problem } = await testWebhook(webhook.id)
              return delivered ? `delivered, ${status}` : (problem ?? `answered ${status}`)
            })
          }
        >
          Test
        </button>
        <button
          type="button"
          className="button small"
          onClick={() =>
            act(async () => {
              await updateWebhook(webhook.id, { enabled: !webhook.enabled })
              reload()
              return ''
            })
          }
        >
          {webhook.enabled ? 'Turn off' : 'Turn on'}
        </button>
        <button
          type="button"
          className="icon-button"
          aria-label={`Remove the webhook to ${hostOf(webhook.url)}`}
          title="Remove"
          onClick={() => setIsRemoving(true)}
        >
          <Icon name="trash" size={14} />
        </button>
        {isRemoving && (
          <Dialog title="Remove this webhook" onClose={() => setIsRemoving(false)}>
            <ActionForm
              submit="Remove"
              onSubmit={async () => {
                await removeWebhook(webhook.id)
                setIsRemoving(false)
                reload()
              }}
            >
              <p>{hostOf(webhook.url)} is told nothing from now on, and its secret is gone.</p>
            </ActionForm>
          </Dialog>
        )}
      </td>
    </tr>
  )
}

/** The path of an address may be a secret of the receiver's; the host says enough. */
function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : url
}

function NewWebhook({ onClose, onCreated }: { onClose: () => void; onCreated: () => void }) {
  const customers = useCustomers()
  const [url, setUrl] = useState('')
  const [customer, setCustomer] = useState('')
  const [description, setDescription] = useState('')
  const [chosen, setChosen] = useState<readonly MessageType[]>([])
  const [created, setCreated] = useState<WebhookEndpoint | null>(null)
  if (created)
    return (
      <Dialog title="Its secret" onClose={onClose}>
        <div className="form">
          <p>
            Copy it now: <strong>it is not shown again.</strong> The receiver checks the signature of each message with
            it.
          </p>
          <div className="secret">
            <code data-testid="webhook-secret">{created.secret}</code>
            <CopyButton text={created.secret ?? ''} label="Copy the secret" />
          </div>
          <button type="button" className="button primary" onClick={onClose}>
            I have copied it
          </button>
        </div>
      </Dialog>
    )
  return (
    <Dialog title="New webhook" onClose={onClose}>
      <ActionForm
        submit="Create webhook"
        blocked={/^https?:\/\/./.test(url) ? '' : 'An http or https address'}
        onSubmit={async () => {
          const made = await createWebhook({
            url: url.trim(),
            types: [...chosen],
            ...(customer === '' ? {} : { customerId: customer }),
            ...(description.trim() === '' ? {} : { description: description.trim() }),
          })
          setCreated(made)
          onCreated()
        }}
      >
        <Field label="Address">
          <input
            type="url"
            value={url}
            placeholder="https://hooks.example.com/purser"
            onChange={event => setUrl(event.target.value)}
            data-testid="webhook-url"
          />
        </Field>
        <Field label="Customer">
          <select value={customer} onChange={event => setCustomer(event.target.value)}>
            <option value="">Every customer</option>
            {(customers.data?.customers ?? []).map(({ id, name }) => (
              <option key={id} value={id}>
                {name || id}
              </option>
            ))}
          </select>
        </Field>
        <fieldset className="check-list">
          <legend className="field-label">About</legend>
          {types.map(type => (
            <label key={type} className="check-field">
              <input
                type="checkbox"
                checked={chosen.includes(type)}
                onChange={event =>
                  setChosen(event.target.checked ? [...chosen, type] : chosen.filter(one => one !== type))
                }
              />
              {typeWords[type]}
            </label>
          ))}
          <span className="field-hint">None chosen: all of them, and those to come.</span>
        </fieldset>
        <Field label="Description">
          <input value={description} maxLength={500} onChange={event => setDescription(event.target.value)} />
        </Field>
      </ActionForm>
    </Dialog>
  )
}
