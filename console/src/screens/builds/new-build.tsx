import { useState } from 'react'
import { listTenants } from '../../api/budgetguard.ts'
import { createBuild } from '../../api/builderd.ts'
import { useResource } from '../../live/use-resource.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'

export function NewBuild({ onClose, onCreated }: { onClose: () => void; onCreated: (buildId: string) => void }) {
  const tenants = useResource('tenants', listTenants)
  const [tenant, setTenant] = useState('public')
  const [image, setImage] = useState('')
  const [name, setName] = useState('')
  const blocked =
    image.trim() === ''
      ? 'Name an image, such as alpine:3.20'
      : tenant.trim() === ''
        ? 'A build belongs to a tenant'
        : ''
  return (
    <Dialog title="New build" onClose={onClose}>
      <ActionForm
        submit="Build"
        blocked={blocked}
        onSubmit={async () => {
          const { buildId } = await createBuild(tenant.trim(), image.trim(), name.trim())
          onClose()
          onCreated(buildId)
        }}
      >
        <Field label="Container image" hint="A tag is resolved to its digest once, at the start, and recorded.">
          <input
            value={image}
            onChange={event => setImage(event.target.value)}
            placeholder="docker.io/library/alpine:3.20"
            spellCheck={false}
            autoCapitalize="off"
            data-testid="build-image"
          />
        </Field>
        <Field label="Tenant" hint="Its tier decides how many builds run at once and from which registries.">
          <input
            value={tenant}
            onChange={event => setTenant(event.target.value)}
            list="build-tenants"
            spellCheck={false}
            data-testid="build-tenant"
          />
          <datalist id="build-tenants">
            {tenants.data?.map(({ slug }) => (
              <option key={slug} value={slug} />
            ))}
          </datalist>
        </Field>
        <Field label="Name" hint="Optional">
          <input value={name} onChange={event => setName(event.target.value)} />
        </Field>
      </ActionForm>
    </Dialog>
  )
}
