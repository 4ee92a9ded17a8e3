import { useState } from 'react'
import type { ApiKey, CreatedApiKey, Tenant } from '../../../../services/budgetguard/api.ts'
import { createKey, listKeys, revokeKey } from '../../api/budgetguard.ts'
import { serviceUrl } from '../../api/service-url.ts'
import { useNow } from '../../live/clock.ts'
import { useResource } from '../../live/use-resource.ts'
import { Command, CopyButton } from '../../parts/copy.tsx'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { formatMoment, formatRelative, parseMoment } from '../../units/time.ts'

export function KeysTab({ tenant, all }: { tenant: Tenant | null; all: readonly Tenant[] }) {
  if (tenant) return <Keys tenant={tenant} />
  return (
    <section className="panel">
      <Empty
        title="Keys belong to one tenant"
        action={
          <div className="chip-row">
            {all.map(one => (
              <Link key={one.id} className="button small" to={{ screen: 'spend', tenant: one.id, tab: 'keys' }}>
                {one.name}
              </Link>
            ))}
          </div>
        }
      >
        Choose whose keys to see.
      </Empty>
    </section>
  )
}

function Keys({ tenant }: { tenant: Tenant }) {
  const keys = useResource(`keys ${tenant.id}`, signal => listKeys(tenant.id, signal), 30_000)
  const [isCreating, setIsCreating] = useState(false)
  const [revoking, setRevoking] = useState<ApiKey | null>(null)
  return (
    <Panel
      title={`Gateway keys of ${tenant.name}`}
      actions={
        <button type="button" className="button small" onClick={() => setIsCreating(true)} data-testid="new-key">
          <Icon name="plus" size={14} />
          Create key
        </button>
      }
      testId="keys"
    >
      <Loaded resource={keys}>
        {list =>
          list.length === 0 ? (
            <Empty title="No keys yet">
              An application sends its key as its OpenAI, Anthropic or Gemini key and changes nothing else.
            </Empty>
          ) : (
            <table className="table">
              <thead>
                <tr>
                  <th>Key</th>
                  <th>Name</th>
                  <th className="c-sm">Created</th>
                  <th className="c-md">Last used</th>
                  <th>State</th>
                  <th>
                    <span className="visually-hidden">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {list.map(key => (
                  <KeyRow key={key.id} apiKey={key} onRevoke={() => setRevoking(key)} />
                ))}
              </tbody>
            </table>
          )
        }
      </Loaded>
      {isCreating && <CreateKey tenant={tenant} onClose={() => setIsCreating(false)} onCreated={keys.reload} />}
      {revoking && (
        <Dialog title="Revoke this key?" onClose={() => setRevoking(null)}>
          <ActionForm
            submit="Revoke"
            onSubmit={async () => {
              await revokeKey(revoking.id)
              keys.reload()
              setRevoking(null)
            }}
          >
            <p>
              Calls with <code>{revoking.keyPrefix}…</code> {revoking.name && `(${revoking.name})`} are refused within a
              second, on every replica. This cannot be undone.
            </p>
          </ActionForm>
        </Dialog>
      )}
    </Panel>
  )
}

function KeyRow({ apiKey, onRevoke }: { apiKey: ApiKey; onRevoke: () => void }) {
  const nowMs = useNow()
  const [created, used, expires] = [
    parseMoment(apiKey.createdAt),
    parseMoment(apiKey.lastUsedAt),
    parseMoment(apiKey.expiresAt),
  ]
  const isExpired = expires !== null && expires <= nowMs
  const isUsable = apiKey.isActive && !isExpired
  return (
    <tr data-testid="key-row">
      <td>
        <code>{apiKey.keyPrefix}…</code>
      </td>
      <td className="ellipsis">{apiKey.name || <span className="quiet">unnamed</span>}</td>
      <td className="c-sm quiet" title={created === null ? undefined : formatMoment(created)}>
        {created === null ? '–' : formatRelative(created, nowMs)}
      </td>
      <td className="c-md quiet">{used === null ? 'never' : formatRelative(used, nowMs)}</td>
      <td>
        <span className="chip" data-tone={isUsable ? 'good' : 'idle'}>
          {apiKey.isActive ? (isExpired ? 'expired' : 'active') : 'revoked'}
        </span>
      </td>
      <td className="row-actions">
        {apiKey.isActive && (
          <button type="button" className="link" onClick={onRevoke}>
            Revoke
          </button>
        )}
      </td>
    </tr>
  )
}

function CreateKey({ tenant, onClose, onCreated }: { tenant: Tenant; onClose: () => void; onCreated: () => void }) {
  const [name, setName] = useState('')
  const [created, setCreated] = useState<CreatedApiKey | null>(null)
  if (!created)
    return (
      <Dialog title={`New key for ${tenant.name}`} onClose={onClose}>
        <ActionForm
          submit="Create key"
          onSubmit={async () => {
            setCreated(await createKey(tenant.id, name.trim()))
            onCreated()
          }}
        >
          <Field label="Name" hint="Optional. Which application or person will use it?">
            <input
              value={name}
              onChange={event => setName(event.target.value)}
              placeholder="checkout service"
              data-testid="key-name"
            />
          </Field>
        </ActionForm>
      </Dialog>
    )
  return (
    <Dialog title="Your new key" onClose={onClose}>
      <div className="form">
        <p>
          Copy it now: <strong>it is not shown again.</strong> Only its hash is kept.
        </p>
        <div className="secret">
          <code data-testid="created-key">{created.key}</code>
          <CopyButton text={created.key} label="Copy the key" />
        </div>
        <p>Try it. The echo model needs no provider key and costs nothing:</p>
        <Command text={curlFor(created.key)} />
        <button type="button" className="button primary" onClick={onClose}>
          I have copied it
        </button>
      </div>
    </Dialog>
  )
}

function curlFor(key: string): string {
  return `curl -s ${serviceUrl('budgetguard')}/v1/chat/completions \\
  -H 'authorization: Bearer ${key}' \\
  -H 'content-type: application/json' \\
  -d '{"model":"echo","messages":[{"role":"user","content":"hello"}]}'`
}
