import { useEffect, useRef, useState } from 'react'
import { listBudgets, listTenants } from '../../api/budgetguard.ts'
import { useAdminLive } from '../../live/admin-live.ts'
import { useResource } from '../../live/use-resource.ts'
import { lineFrom, type TenantBudgets, withEvent } from './budget-line.ts'

/** Tenants whose budgets one screen asks for; each is one request, and a browser has six connections. */
const tenantsMax = 24
/** A reload starts over; events come faster than it takes. Milliseconds. */
const reloadEveryMs = 3_000

/** Every tenant with its budgets, refreshed by the minute and moved by /admin/live in between. */
export function useTenantBudgets() {
  const resource = useResource('tenant budgets', loadAll, 30_000)
  const reloadedAtMs = useRef(0)
  const [tenants, setTenants] = useState<readonly TenantBudgets[] | null>(resource.data)
  useEffect(() => setTenants(resource.data), [resource.data])
  const stream = useAdminLive(event => {
    setTenants(before => before && withEvent(before, event))
    // A tenant made a moment ago: shown now, not at the next refresh.
    const isNew = event.event === 'budget' && !tenants?.some(({ tenant }) => tenant.id === event.data.tenantId)
    if (!tenants || !isNew || tenants.length >= tenantsMax || Date.now() - reloadedAtMs.current < reloadEveryMs) return
    reloadedAtMs.current = Date.now()
    resource.reload()
  })
  return { resource, tenants, stream }
}

async function loadAll(signal: AbortSignal): Promise<TenantBudgets[]> {
  const tenants = await listTenants(signal)
  return Promise.all(
    tenants
      .slice(0, tenantsMax)
      .map(async tenant => ({ tenant, budgets: (await listBudgets(tenant.id, signal)).map(lineFrom) })),
  )
}
