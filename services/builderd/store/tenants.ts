// What builderd itself knows of tenants: their tier, and what they use.

import type { Queryable, Sql } from '#platform/postgres'
import { type LimitFigures, type Tier, tiers } from '../quotas/limits.ts'
import { dayOf } from '../quotas/violation.ts'

export interface TenantRecord {
  tenantId: string
  tier: Tier
  isTierSet: boolean
  overrides: Partial<LimitFigures>
}

export async function findTenant(sql: Sql, tenantId: string): Promise<TenantRecord | undefined> {
  const [row] = await sql<TenantRecord[]>`
    select tenant_id as "tenantId", tier, is_tier_set as "isTierSet", overrides from builderd.tenants
    where tenant_id = ${tenantId}`
  return row
}

export async function listTenants(sql: Sql): Promise<TenantRecord[]> {
  return sql<TenantRecord[]>`
    select tenant_id as "tenantId", tier, is_tier_set as "isTierSet", overrides from builderd.tenants order by tenant_id limit 10000`
}

/** Null gives the tier back to the platform's tenant, or the default. */
export async function setTier(sql: Sql, tenantId: string, tier: Tier | null, defaultTier: Tier): Promise<void> {
  await sql`
    insert into builderd.tenants (tenant_id, tier, is_tier_set) values (${tenantId}, ${tier ?? defaultTier}, ${tier !== null})
    on conflict (tenant_id) do update set tier = excluded.tier, is_tier_set = excluded.is_tier_set`
  await sql`insert into builderd.tenant_usage (tenant_id) values (${tenantId}) on conflict do nothing`
}

export function isTier(text: string): text is Tier {
  return tiers.some(tier => tier === text)
}

export interface TenantUsage {
  active: number
  queued: number
  storedBytes: bigint
  acceptedToday: number
  completedToday: number
  failedToday: number
  /** Of the current UTC month. */
  runningMs: bigint
}

export async function loadUsage(sql: Sql, tenantId: string, nowMs: number): Promise<TenantUsage> {
  const day = dayOf(nowMs)
  const [row] = await sql<TenantUsage[]>`
    select coalesce(u.active, 0) as active, coalesce(u.queued, 0) as queued, coalesce(u.stored_bytes, 0) as "storedBytes",
           coalesce(d.accepted, 0) as "acceptedToday", coalesce(d.completed, 0) as "completedToday",
           coalesce(d.failed, 0) as "failedToday",
           (select coalesce(sum(running_ms), 0)::int8 from builderd.tenant_days
            where tenant_id = ${tenantId} and day >= ${`${day.slice(0, 7)}-01`}::date) as "runningMs"
    from (select 1) as one
    left join builderd.tenant_usage u on u.tenant_id = ${tenantId}
    left join builderd.tenant_days d on d.tenant_id = ${tenantId} and d.day = ${day}`
  if (!row) throw new Error('BUG: a query of one row gave none')
  return row
}

/** For the gauges: the busiest tenants, and all of them together. */
export async function loadBusy(sql: Sql, limit: number) {
  const rows = await sql<{ tenantId: string; tier: Tier; active: number; queued: number; storedBytes: bigint }[]>`
    select tenant_id as "tenantId", tier, active, queued, stored_bytes as "storedBytes"
    from builderd.tenant_usage join builderd.tenants using (tenant_id)
    order by active desc, queued desc, stored_bytes desc limit ${limit}`
  const [all] = await sql<{ active: bigint; queued: bigint; storedBytes: bigint }[]>`
    select coalesce(sum(active), 0)::int8 as active, coalesce(sum(queued), 0)::int8 as queued,
           coalesce(sum(stored_bytes), 0)::int8 as "storedBytes" from builderd.tenant_usage`
  return { tenants: rows, all: all ?? { active: 0n, queued: 0n, storedBytes: 0n } }
}

/** Counters against the rows they count; what differs is put right. @returns the tenants that differed */
export async function reconcileUsage(sql: Sql): Promise<string[]> {
  const suspects = await sql<{ tenantId: string }[]>`
    select tenant_id as "tenantId" from (${counted(sql)}) c
    where (active, queued, stored, reserved) is distinct from (real_active, real_queued, real_stored, real_reserved)`
  const differed: string[] = []
  for (const { tenantId } of suspects) {
    const changed = await sql.begin(async tx => {
      // Whoever changes what is counted also changes this row, in one transaction: with it held, the next statement
      // sees both or neither.
      await tx`select from builderd.tenant_usage where tenant_id = ${tenantId} for update`
      return tx`
        update builderd.tenant_usage u
        set active = real_active, queued = real_queued, stored_bytes = real_stored, reserved_bytes = real_reserved
        from (${counted(tx)}) c
        where c.tenant_id = u.tenant_id and u.tenant_id = ${tenantId}
          and (c.active, c.queued, c.stored, c.reserved) is distinct from (real_active, real_queued, real_stored, real_reserved)`
    })
    if (changed.count > 0) differed.push(tenantId)
  }
  return differed
}

function counted(sql: Queryable) {
  return sql`
    select u.tenant_id, u.active, u.queued, u.stored_bytes as stored, u.reserved_bytes as reserved,
      (select count(*) from builderd.builds b where b.tenant_id = u.tenant_id and b.lease_owner is not null)::int as real_active,
      (select count(*) from builderd.builds b where b.tenant_id = u.tenant_id and b.state = 'PENDING')::int as real_queued,
      (select coalesce(sum(o.bytes), 0) from builderd.artifact_owners o where o.tenant_id = u.tenant_id)::int8 as real_stored,
      (select coalesce(sum(b.reserved_bytes), 0) from builderd.builds b
       where b.tenant_id = u.tenant_id and b.lease_owner is not null)::int8 as real_reserved
    from builderd.tenant_usage u`
}
