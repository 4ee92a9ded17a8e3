import { useEffect, useState } from 'react'
import { listBudgets, listTenants } from '../../api/budgetguard.ts'
import { useAdminLive } from '../../live/admin-live.ts'
import { useResource } from '../../live/use-resource.ts'
import { lineFrom, type TenantBudgets, withEvent } from './budget-line.ts'

/** Tenants whose budgets one screen asks for; each is one request, and a browser has six connections. */
const tenantsMax = 24

/** Every tenant with its budgets, refreshed by the minute and moved by /admin/live in between. */
export function useTenantBudgets() {
  const resource = useResource('tenant budgets', loadAll, 30_000)
  const [tenants, setTenants] = useState<readonly TenantBudgets[] | null>(resource.data)
  useEffect(() => setTenants(resource.data), [resource.data])
  const stream = useAdminLive(event => setTenants(before => before && withEvent(before, event)))
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
