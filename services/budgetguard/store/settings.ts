// What budgetguard keeps of a tenant beside what tenancy knows.

import type { Queryable } from '#platform/postgres'

export async function storeSettings(
  sql: Queryable,
  tenantId: number,
  patch: { rateLimitPerMin?: number | null; defaultSessionBudget?: bigint | null },
): Promise<void> {
  const { rateLimitPerMin, defaultSessionBudget } = patch
  await sql`
    insert into budgetguard.tenant_settings (tenant_id, rate_limit_per_min, default_session_budget_nano)
    values (${tenantId}, ${rateLimitPerMin ?? null}, ${defaultSessionBudget ?? null})
    on conflict (tenant_id) do update set updated_at = now(),
      rate_limit_per_min = ${rateLimitPerMin === undefined ? sql`tenant_settings.rate_limit_per_min` : sql`excluded.rate_limit_per_min`},
      default_session_budget_nano = ${defaultSessionBudget === undefined ? sql`tenant_settings.default_session_budget_nano` : sql`excluded.default_session_budget_nano`}`
}

export async function hasSettings(sql: Queryable, tenantId: number): Promise<boolean> {
  const rows = await sql`select 1 from budgetguard.tenant_settings where tenant_id = ${tenantId}`
  return rows.length > 0
}

export async function removeSettings(sql: Queryable, tenantId: number): Promise<void> {
  await sql`delete from budgetguard.tenant_settings where tenant_id = ${tenantId}`
}
