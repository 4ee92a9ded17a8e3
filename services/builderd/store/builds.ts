// Accepting builds and reading them back.

import type { Sql, Tx } from '#platform/postgres'
import { rfc3339 } from '#platform/time'
import type { BuildState } from '../build-state.ts'
import { type Limits, queuedMax, type Tier } from '../quotas/limits.ts'
import { dayOf, nextDayMs, QuotaExceeded } from '../quotas/violation.ts'
import { type Build, type BuildRow, buildColumns, toBuild } from './build.ts'
import { appendLines, stateOf } from './logs.ts'

export const queueChannel = 'builderd_queue'

export interface NewBuild {
  buildId: string
  tenantId: string
  customerId: string
  tier: Tier
  name: string
  config: Uint8Array
  labels: Readonly<Record<string, string>>
  sourceKind: string
  imageRef: string
  priority: number
  limits: Limits
  nowMs: number
  rootfsPath: string
  sealedSecrets: Buffer | undefined
  idempotency: { key: string; hash: Buffer } | undefined
}

export interface Accepted {
  buildId: string
  state: BuildState
  createdAt: Date
  rootfsPath: string
  /** False: an earlier request with the same Idempotency-Key made it. */
  isNew: boolean
}

/** The key was used for another request within its memory. */
export class IdempotencyConflict extends Error {}

/** How long an Idempotency-Key is remembered. */
const idempotencyMs = 24 * 3_600_000

/** Row, quota and queue entry in one commit. @throws QuotaExceeded, IdempotencyConflict */
export async function acceptBuild(sql: Sql, build: NewBuild, queuedMaxAll: number): Promise<Accepted> {
  return sql.begin(async tx => {
    await rememberTenant(tx, build)
    // Everything below takes turns per tenant, so no two requests can take the same last place.
    const [usage] = await tx<{ queued: number; storedBytes: bigint }[]>`
      select queued, stored_bytes + reserved_bytes as "storedBytes" from builderd.tenant_usage
      where tenant_id = ${build.tenantId} for update`
    if (!usage) throw new Error('BUG: a tenant without counters')
    const earlier = await findEarlier(tx, build)
    if (earlier) return earlier
    await requireRoom(tx, build, usage, queuedMaxAll)
    await insertBuild(tx, build)
    return {
      buildId: build.buildId,
      state: 'PENDING',
      createdAt: new Date(build.nowMs),
      rootfsPath: build.rootfsPath,
      isNew: true,
    }
  })
}

async function rememberTenant(tx: Tx, { tenantId, tier, nowMs }: NewBuild) {
  await tx`
    insert into builderd.tenants (tenant_id, tier, first_seen_at) values (${tenantId}, ${tier}, ${new Date(nowMs)})
    on conflict (tenant_id) do update set tier = excluded.tier
      where not builderd.tenants.is_tier_set and builderd.tenants.tier <> excluded.tier`
  await tx`insert into builderd.tenant_usage (tenant_id) values (${tenantId}) on conflict do nothing`
}

async function findEarlier(tx: Tx, { tenantId, idempotency, nowMs }: NewBuild): Promise<Accepted | undefined> {
  if (!idempotency) return undefined
  const [row] = await tx<(Omit<Accepted, 'state' | 'isNew'> & { state: string; hash: Buffer })[]>`
    select build_id as "buildId", state, created_at as "createdAt", rootfs_path as "rootfsPath", idempotency_hash as hash
    from builderd.builds where tenant_id = ${tenantId} and idempotency_key = ${idempotency.key}`
  if (!row) return undefined
  if (row.createdAt.getTime() <= nowMs - idempotencyMs) {
    await tx`update builderd.builds set idempotency_key = null where build_id = ${row.buildId}`
    return undefined
  }
  if (!row.hash.equals(idempotency.hash)) throw new IdempotencyConflict()
  const { hash: _, ...build } = row
  return { ...build, state: stateOf(row.state), isNew: false }
}

async function requireRoom(
  tx: Tx,
  { tenantId, limits, nowMs }: NewBuild,
  usage: { queued: number; storedBytes: bigint },
  queuedMaxAll: number,
) {
  const queuedLimit = queuedMax(limits)
  if (usage.queued >= queuedLimit)
    throw new QuotaExceeded({ quotaType: 'queued_builds', current: BigInt(usage.queued), limit: BigInt(queuedLimit) })
  const [all] = await tx<
    { queued: bigint }[]
  >`select coalesce(sum(queued), 0)::int8 as queued from builderd.tenant_usage`
  if (all && all.queued >= BigInt(queuedMaxAll))
    throw new QuotaExceeded({ quotaType: 'queued_builds', current: all.queued, limit: BigInt(queuedMaxAll) })
  if (usage.storedBytes >= BigInt(limits.storageBytesMax))
    throw new QuotaExceeded({ quotaType: 'storage', current: usage.storedBytes, limit: BigInt(limits.storageBytesMax) })

  const day = dayOf(nowMs)
  const [counted] = await tx<{ accepted: number }[]>`
    insert into builderd.tenant_days as d (tenant_id, day, accepted) values (${tenantId}, ${day}, 1)
    on conflict (tenant_id, day) do update set accepted = d.accepted + 1
    returning accepted`
  // One too many is taken back with the whole transaction.
  if (counted && counted.accepted > limits.dailyBuildsMax)
    throw new QuotaExceeded({
      quotaType: 'daily_builds',
      current: BigInt(counted.accepted - 1),
      limit: BigInt(limits.dailyBuildsMax),
      resetAtMs: nextDayMs(nowMs),
    })
}

async function insertBuild(tx: Tx, b: NewBuild) {
  await tx`
    insert into builderd.builds (build_id, tenant_id, customer_id, tier, name, config, labels, source_kind, image_ref, state,
      priority, limits, builds_max, created_at, rootfs_path, idempotency_key, idempotency_hash)
    values (${b.buildId}, ${b.tenantId}, ${b.customerId}, ${b.tier}, ${b.name}, ${Buffer.from(b.config)},
      ${JSON.stringify(b.labels)}::text::jsonb, ${b.sourceKind}, ${b.imageRef}, 'PENDING', ${b.priority},
      ${JSON.stringify(b.limits)}::text::jsonb, ${b.limits.buildsMax}, ${new Date(b.nowMs)}, ${b.rootfsPath},
      ${b.idempotency?.key ?? null}, ${b.idempotency?.hash ?? null})`
  if (b.sealedSecrets)
    await tx`insert into builderd.build_secrets (build_id, sealed) values (${b.buildId}, ${b.sealedSecrets})`
  await tx`update builderd.tenant_usage set queued = queued + 1 where tenant_id = ${b.tenantId}`
  const message = `queued ${b.imageRef} for tenant ${b.tenantId}, tier ${b.tier}`
  await appendLines(tx, b.buildId, [{ level: 'info', component: 'scheduler', message, atMs: b.nowMs }])
  await tx`select pg_notify(${queueChannel}, '')`
}

/** @param tenantId null reads across tenants, for operators */
export async function findBuild(sql: Sql, buildId: string, tenantId: string | null): Promise<Build | undefined> {
  const [row] = await sql<BuildRow[]>`
    select ${buildColumns(sql)} from builderd.builds
    where build_id = ${buildId} and deleted_at is null ${tenantId === null ? sql`` : sql`and tenant_id = ${tenantId}`}`
  return row && toBuild(row)
}

export interface ListFilter {
  tenantId: string | null
  states: readonly BuildState[]
  /** The last build of the page before. */
  after: { createdAtMs: number; buildId: string } | undefined
  limit: number
}

/** Newest first. */
export async function listBuilds(sql: Sql, f: ListFilter): Promise<Build[]> {
  const rows = await sql<BuildRow[]>`
    select ${buildColumns(sql)} from builderd.builds where ${matches(sql, f)}
      ${f.after ? sql`and (created_at, build_id) < (${rfc3339(f.after.createdAtMs)}::timestamptz, ${f.after.buildId})` : sql``}
    order by created_at desc, build_id desc limit ${f.limit}`
  return rows.map(toBuild)
}

export async function countBuilds(sql: Sql, f: Pick<ListFilter, 'tenantId' | 'states'>): Promise<number> {
  const [row] = await sql<{ count: bigint }[]>`select count(*) as count from builderd.builds where ${matches(sql, f)}`
  return Number(row?.count ?? 0n)
}

function matches(sql: Sql, { tenantId, states }: Pick<ListFilter, 'tenantId' | 'states'>) {
  return sql`deleted_at is null
    ${tenantId === null ? sql`` : sql`and tenant_id = ${tenantId}`}
    ${states.length === 0 ? sql`` : sql`and state = any(${[...states]}::text[])`}`
}

export interface BuildStats {
  total: number
  successful: number
  failed: number
  /** Of COMPLETED ones, rounded half up. */
  averageMs: bigint
  runningMs: bigint
}

/** Builds created in [from, to). */
export async function loadStats(sql: Sql, tenantId: string, from: Date, to: Date): Promise<BuildStats> {
  const [row] = await sql<{ total: bigint; successful: bigint; failed: bigint; average: bigint; runningMs: bigint }[]>`
    select count(*) as total, count(*) filter (where state = 'COMPLETED') as successful,
           count(*) filter (where state = 'FAILED') as failed,
           coalesce(floor(avg(running_ms) filter (where state = 'COMPLETED') + 0.5), 0)::int8 as average,
           coalesce(sum(running_ms), 0)::int8 as "runningMs"
    from builderd.builds
    where tenant_id = ${tenantId} and deleted_at is null and created_at >= ${from} and created_at < ${to}`
  return {
    total: Number(row?.total ?? 0n),
    successful: Number(row?.successful ?? 0n),
    failed: Number(row?.failed ?? 0n),
    averageMs: row?.average ?? 0n,
    runningMs: row?.runningMs ?? 0n,
  }
}

export async function loadSealedSecrets(sql: Sql, buildId: string): Promise<Buffer | undefined> {
  const [row] = await sql<{ sealed: Buffer }[]>`select sealed from builderd.build_secrets where build_id = ${buildId}`
  return row?.sealed
}
