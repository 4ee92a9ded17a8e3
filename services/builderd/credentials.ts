// Whether any key of the installation is meant for builds: as soon as one is, AUTH_MODE=auto stops being open.

import type { Logger } from '#platform/telemetry'
import type { Tenancy } from '#platform/tenancy/tenancy'

export async function watchCredentials(tenancy: Tenancy, log: Logger): Promise<() => boolean> {
  let isAny = await anyBuildsKey(tenancy)
  tenancy.onChange(() => {
    anyBuildsKey(tenancy).then(
      found => {
        if (found !== isAny)
          log.info({ auth: found ? 'required' : 'open' }, 'keys with a builds scope changed the way in')
        isAny = found
      },
      error => log.warn({ err: error }, 'keys could not be read; the way in stays as it is'),
    )
  })
  return () => isAny
}

async function anyBuildsKey(tenancy: Tenancy): Promise<boolean> {
  for (const tenant of tenancy.tenants.list()) {
    const keys = await tenancy.keys.list(tenant.id)
    if (keys.some(key => key.revokedAt === null && key.scopes.some(scope => scope.startsWith('builds:')))) return true
  }
  return false
}
