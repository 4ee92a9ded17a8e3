// The SQL of tenancy. Returns domain types, never rows.

import { arrayLiteral, type Queryable, type Sql } from '../postgres.ts'
import { type AuditEntry, type AuditRow, auditBody, chainHash, firstHash } from './audit.ts'
import { numberedSlug, slugFrom } from './slug.ts'

export interface Tenant {
  /** Internal, in admin APIs. */
  id: number
  /** What every wire and every other service calls it; never changes. */
  slug: string
  name: string
  displayName: string | null
  /** IANA zone. */
  timezone: string
  tier: string | null
  createdAt: Date
  updatedAt: Date
  deletedAt: Date | null
}

export interface ApiKey {
  id: bigint
  tenantId: number
  /** The first 8 characters, for people. */
  prefix: string
  name: string
  scopes: readonly string[]
  createdAt: Date
  createdBy: string
  expiresAt: Date | null
  revokedAt: Date | null
  /** Day of last use (UTC), written in batches. */
  lastUsedOn: Date | null
}

export interface Snapshot {
  version: bigint
  tenants: Tenant[]
  /** Keys that may still authenticate, with their keyed hash. */
  keys: (ApiKey & { hash: Buffer })[]
}

export async function loadVersion(sql: Queryable): Promise<bigint> {
  const [row] = await sql<{ version: bigint }[]>`select version from tenancy.change`
  return row?.version ?? 0n
}

/** Everything in one snapshot of the database; a change that commits meanwhile has a higher version. */
export async function loadSnapshot(sql: Sql): Promise<Snapshot> {
  return sql.begin('isolation level repeatable read read only', async tx => ({
    version: await loadVersion(tx),
    tenants: await tx<Tenant[]>`select ${tenantColumns(tx)} from tenancy.tenant order by id`,
    keys: await tx<(ApiKey & { hash: Buffer })[]>`
      select ${keyColumns(tx)}, k.hash from tenancy.api_key k
      join tenancy.tenant t on t.id = k.tenant_id and t.deleted_at is null
      where k.revoked_at is null`,
  }))
}

const tenantColumns = (sql: Queryable) => sql`
  id, slug, name, display_name as "displayName", timezone, tier, created_at as "createdAt", updated_at as "updatedAt", deleted_at as "deletedAt"`

const keyColumns = (sql: Queryable) => sql`
  k.id, k.tenant_id as "tenantId", k.prefix, k.name, k.scopes, k.created_at as "createdAt", k.created_by as "createdBy",
  k.expires_at as "expiresAt", k.revoked_at as "revokedAt", k.last_used_on as "lastUsedOn"`

export interface NewTenant {
  name: string
  displayName?: string | null
  timezone?: string
  /** Taken as it is when free; made from the name otherwise. */
  slug?: string
}

/** Undefined when a living tenant has this name. */
export async function insertTenant(sql: Queryable, o: NewTenant): Promise<Tenant | undefined> {
  const base = o.slug ?? slugFrom(o.name)
  for (let n = 1; ; n++) {
    const [row] = await sql<Tenant[]>`
      insert into tenancy.tenant (slug, name, display_name, timezone)
      values (${numberedSlug(base, n)}, ${o.name}, ${o.displayName ?? null}, ${o.timezone ?? 'UTC'})
      on conflict do nothing returning ${tenantColumns(sql)}`
    if (row) return row
    const [named] = await sql`select 1 from tenancy.tenant where name = ${o.name} and deleted_at is null`
    if (named) return undefined
  }
}

export async function findTenant(sql: Queryable, slugOrName: string): Promise<Tenant | undefined> {
  const [row] = await sql<Tenant[]>`
    select ${tenantColumns(sql)} from tenancy.tenant
    where deleted_at is null and (slug = ${slugOrName} or name = ${slugOrName}) order by slug = ${slugOrName} desc limit 1`
  return row
}

export async function updateTenant(
  sql: Queryable,
  id: number,
  patch: { name?: string; displayName?: string | null; timezone?: string; tier?: string | null },
): Promise<Tenant | undefined> {
  const [row] = await sql<Tenant[]>`
    update tenancy.tenant set
      name = ${patch.name ?? sql`name`},
      display_name = ${patch.displayName === undefined ? sql`display_name` : patch.displayName},
      timezone = ${patch.timezone ?? sql`timezone`},
      tier = ${patch.tier === undefined ? sql`tier` : patch.tier},
      updated_at = now()
    where id = ${id} and deleted_at is null returning ${tenantColumns(sql)}`
  return row
}

/** Its keys are revoked with it; its rows elsewhere stay. */
export async function deleteTenant(sql: Queryable, id: number): Promise<Tenant | undefined> {
  const [row] = await sql<Tenant[]>`
    update tenancy.tenant set deleted_at = now(), updated_at = now() where id = ${id} and deleted_at is null returning ${tenantColumns(sql)}`
  if (row) await sql`update tenancy.api_key set revoked_at = now() where tenant_id = ${id} and revoked_at is null`
  return row
}

/** Undefined when this very key is there already. */
export async function insertKey(
  sql: Queryable,
  o: {
    tenantId: number
    hash: Buffer
    prefix: string
    name: string
    scopes: readonly string[]
    createdBy: string
    expiresAt: Date | null
  },
): Promise<ApiKey | undefined> {
  const [row] = await sql<ApiKey[]>`
    insert into tenancy.api_key as k (tenant_id, hash, prefix, name, scopes, created_by, expires_at)
    values (${o.tenantId}, ${o.hash}, ${o.prefix}, ${o.name}, ${arrayLiteral([...o.scopes])}::text[], ${o.createdBy}, ${o.expiresAt})
    on conflict (hash) do nothing returning ${keyColumns(sql)}`
  return row
}

export async function findKeyByHash(sql: Queryable, hash: Buffer): Promise<ApiKey | undefined> {
  const [row] = await sql<ApiKey[]>`select ${keyColumns(sql)} from tenancy.api_key k where hash = ${hash}`
  return row
}

export async function listKeys(sql: Queryable, tenantId: number): Promise<ApiKey[]> {
  return sql<ApiKey[]>`select ${keyColumns(sql)} from tenancy.api_key k where tenant_id = ${tenantId} order by id`
}

/** Undefined when there is no such key, or it was revoked before. */
export async function revokeKey(sql: Queryable, id: bigint): Promise<ApiKey | undefined> {
  const [row] = await sql<ApiKey[]>`
    update tenancy.api_key as k set revoked_at = now() where id = ${id} and revoked_at is null returning ${keyColumns(sql)}`
  return row
}

export async function writeLastUsed(sql: Queryable, days: ReadonlyMap<bigint, string>): Promise<void> {
  const ids = [...days.keys()]
  await sql`
    update tenancy.api_key k set last_used_on = u.day
    from unnest(${arrayLiteral(ids.map(String))}::bigint[], ${arrayLiteral([...days.values()])}::date[]) as u(id, day)
    where k.id = u.id and (k.last_used_on is null or k.last_used_on < u.day)`
}

/** Appends to the chain; acts are rare, so they simply take turns. `at` is RFC 3339 with milliseconds. */
export async function appendAudit(sql: Queryable, entry: AuditEntry, at: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended('purser.audit', 0))`
  const [last] = await sql<
    { seq: bigint; hash: Buffer }[]
  >`select seq, hash from tenancy.audit order by seq desc limit 1`
  const seq = (last?.seq ?? 0n) + 1n
  const prevHash = last?.hash ?? firstHash
  const body = auditBody(entry)
  await sql`
    insert into tenancy.audit (seq, at, body, prev_hash, hash)
    values (${seq}, ${at}, ${body}, ${prevHash}, ${chainHash(prevHash, seq, at, body)})`
}

export async function loadAudit(sql: Queryable, o: { afterSeq?: bigint; limit: number }): Promise<AuditRow[]> {
  const rows = await sql<{ seq: bigint; at: Date; body: string; prevHash: Buffer; hash: Buffer }[]>`
    select seq, at, body, prev_hash as "prevHash", hash from tenancy.audit where seq > ${o.afterSeq ?? 0n} order by seq limit ${o.limit}`
  return rows.map(row => ({ ...row, at: row.at.toISOString() }))
}
