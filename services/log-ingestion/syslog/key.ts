// Whose input syslog is: a key of the environment, else a stored one as soon as the directory can be asked.

import type { Tenancy } from '#platform/tenancy/tenancy'
import { type Caller, type Directory, writeScopes } from '../access/directory.ts'

/** Undefined while the key is not known; each call then asks again. */
export function createSyslogKey(o: {
  name: string | undefined
  directory: Directory
  tenancy: () => Tenancy | undefined
}): () => Caller | undefined {
  const { name } = o
  if (name === undefined) return () => callerOf('public', 'syslog', 'syslog')
  let stored: Caller | undefined
  let isAsking = false
  const ask = async ({ tenants, keys }: Tenancy) => {
    for (const { id, slug } of tenants.list()) {
      const key = (await keys.list(id)).find(key => key.name === name && key.revokedAt === null)
      if (key) stored = callerOf(slug, String(key.id), name)
      if (stored) return
    }
  }
  return () => {
    const known = o.directory.named(name) ?? stored
    const tenancy = o.tenancy()
    if (known || !tenancy || isAsking) return known
    isAsking = true
    void ask(tenancy)
      .catch(() => {})
      .finally(() => {
        isAsking = false
      })
    return undefined
  }
}

function callerOf(tenant: string, key: string, keyName: string): Caller {
  return { tenant, anyTenant: false, scopes: new Set(writeScopes), key, keyName }
}
