// The end of a build: one transaction that makes the result visible, gives the slot back, counts, bills and says so.

import type { Queryable, Sql, Tx } from '#platform/postgres'
import type { BuildResult } from '../build/job.ts'
import { isTerminal } from '../build-state.ts'
import type { BuildErrorCode } from '../errors.ts'
import { dayOf, QuotaExceeded } from '../quotas/violation.ts'
import { type Build, type BuildRow, buildColumns, type Isolation, toBuild } from './build.ts'
import { queueChannel } from './builds.ts'
import { appendLines, type Lease } from './logs.ts'

export type Outcome =
  | { state: 'COMPLETED'; result: BuildResult }
  | { state: 'FAILED'; code: BuildErrorCode; message: string }
  | { state: 'CANCELLED' }

export interface Finished {
  build: Build
  outcome: Outcome
}

/** What ending a build needs: the database, and what else belongs into the transaction that ends one (usage events). */
export interface Ends {
  sql: Sql
  onFinished: (tx: Queryable, finished: Finished) => Promise<void>
}

/**
 * Ends a build its owner worked on. `lost`: the lease is someone else's and nothing happened. `cancelled`: a cancel came
 * first; the owner is to clean up and end it as CANCELLED.
 */
export async function finishOwned(
  ends: Ends,
  lease: Lease,
  outcome: Outcome,
  spent: { runningMs: number; pulledBytes: number; isolation: Isolation },
  nowMs: number,
): Promise<'done' | 'lost' | 'cancelled'> {
  return ends.sql.begin(async tx => {
    const [row] = await tx<(BuildRow & { isCancelled: boolean })[]>`
      update builderd.builds
      set running_ms = greatest(running_ms, ${spent.runningMs}), pulled_bytes = greatest(pulled_bytes, ${spent.pulledBytes}),
          isolation = ${JSON.stringify(spent.isolation)}::text::jsonb
      where build_id = ${lease.buildId} and lease_owner = ${lease.owner} and lease_epoch = ${lease.epoch}
      returning ${buildColumns(tx)}, cancel_at is not null as "isCancelled"`
    if (!row) return 'lost'
    if (row.isCancelled && outcome.state !== 'CANCELLED') return 'cancelled'
    await endBuild(tx, ends, toBuild(row), outcome, nowMs)
    return 'done'
  })
}

/** @param build locked by the caller's transaction, running or PENDING */
export async function endBuild(tx: Tx, ends: Ends, build: Build, outcome: Outcome, nowMs: number): Promise<void> {
  const { buildId, tenantId } = build
  const wasRunning = build.state !== 'PENDING'
  const day = dayOf(nowMs)
  const errorMessage = outcome.state === 'FAILED' ? `${outcome.code}: ${outcome.message}` : ''
  const result = outcome.state === 'COMPLETED' ? outcome.result : undefined
  const [row] = await tx<{ reservedBytes: bigint }[]>`
    with before as (select reserved_bytes from builderd.builds where build_id = ${buildId})
    update builderd.builds
    set state = ${outcome.state}, completed_at = ${new Date(nowMs)}, step = '', lease_owner = null, lease_until = null,
        lease_epoch = lease_epoch + 1, reserved_bytes = 0, error_message = ${errorMessage},
        error_code = ${outcome.state === 'FAILED' ? outcome.code : null},
        progress = case when ${outcome.state} = 'COMPLETED' then 100 else progress end,
        rootfs_bytes = ${result ? BigInt(result.rootfsBytes) : null}, rootfs_sha256 = ${result?.checksum ?? null},
        image_metadata = ${result ? JSON.stringify(result.metadata) : null}::text::jsonb,
        metrics = ${result ? JSON.stringify(result.metrics) : null}::text::jsonb
    from before where build_id = ${buildId} returning before.reserved_bytes as "reservedBytes"`
  const isStored = result ? await ownArtifact(tx, build, result, nowMs) : false
  await tx`
    update builderd.tenant_usage
    set active = active - ${wasRunning ? 1 : 0}, queued = queued - ${wasRunning ? 0 : 1},
        reserved_bytes = reserved_bytes - ${row?.reservedBytes ?? 0n},
        stored_bytes = stored_bytes + ${result && isStored ? BigInt(result.rootfsBytes) : 0n}
    where tenant_id = ${tenantId}`
  await tx`
    insert into builderd.tenant_days as d (tenant_id, day, completed, failed, cancelled, running_ms, pulled_bytes)
    values (${tenantId}, ${day}, ${outcome.state === 'COMPLETED' ? 1 : 0}, ${outcome.state === 'FAILED' ? 1 : 0},
            ${outcome.state === 'CANCELLED' ? 1 : 0}, ${build.runningMs}, ${build.pulledBytes})
    on conflict (tenant_id, day) do update
    set completed = d.completed + excluded.completed, failed = d.failed + excluded.failed,
        cancelled = d.cancelled + excluded.cancelled, running_ms = d.running_ms + excluded.running_ms,
        pulled_bytes = d.pulled_bytes + excluded.pulled_bytes`
  // A build that never ran does not count against its day.
  if (outcome.state === 'CANCELLED' && !wasRunning && build.attempt === 0)
    await tx`
      update builderd.tenant_days set accepted = accepted - 1
      where tenant_id = ${tenantId} and day = ${dayOf(build.createdAt.getTime())} and accepted > 0`
  await tx`delete from builderd.build_secrets where build_id = ${buildId}`
  await ends.onFinished(tx, { build, outcome })
  await appendLines(tx, buildId, [{ ...lastLine(outcome), component: 'scheduler', atMs: nowMs }])
  await tx`select pg_notify(${queueChannel}, '')`
}

function lastLine(outcome: Outcome) {
  switch (outcome.state) {
    case 'COMPLETED':
      return {
        level: 'info',
        message: `COMPLETED: ${outcome.result.rootfsBytes} bytes, sha256 ${outcome.result.checksum}`,
      } as const
    case 'FAILED':
      return { level: 'error', message: `FAILED: ${outcome.code}: ${outcome.message}` } as const
    case 'CANCELLED':
      return { level: 'warn', message: 'CANCELLED' } as const
    default:
      return outcome satisfies never
  }
}

/** @returns whether the tenant had no such artifact before, and so pays for it from now on */
async function ownArtifact(tx: Tx, build: Build, result: BuildResult, nowMs: number): Promise<boolean> {
  const bytes = BigInt(result.rootfsBytes)
  const expiresAt = new Date(nowMs + build.limits.retentionDays * 86_400_000)
  await tx`
    insert into builderd.artifacts (sha256, bytes, format, last_used_at)
    values (${result.checksum}, ${bytes}, ${result.format}, ${new Date(nowMs)})
    on conflict (sha256, key_domain) do update set last_used_at = excluded.last_used_at`
  const [owner] = await tx<{ builds: number }[]>`
    insert into builderd.artifact_owners as o (tenant_id, sha256, builds, bytes, expires_at)
    values (${build.tenantId}, ${result.checksum}, 1, ${bytes}, ${expiresAt})
    on conflict (tenant_id, sha256, key_domain) do update
    set builds = o.builds + 1, expires_at = greatest(o.expires_at, excluded.expires_at)
    returning builds`
  return owner?.builds === 1
}

/** Takes room for an image that is about to be written. @throws QuotaExceeded */
export async function reserveStorage(sql: Sql, lease: Lease, bytes: number, storageBytesMax: number): Promise<void> {
  await sql.begin(async tx => {
    const [build] = await tx<{ tenantId: string; reservedBytes: bigint }[]>`
      select tenant_id as "tenantId", reserved_bytes as "reservedBytes" from builderd.builds
      where build_id = ${lease.buildId} and lease_owner = ${lease.owner} and lease_epoch = ${lease.epoch} for update`
    // Not ours any more: the heartbeat stops the worker, and nothing of it can be published.
    if (!build) return
    const change = BigInt(bytes) - build.reservedBytes
    const [room] = await tx<{ used: bigint }[]>`
      update builderd.tenant_usage set reserved_bytes = reserved_bytes + ${change}
      where tenant_id = ${build.tenantId} returning stored_bytes + reserved_bytes as used`
    if (room && room.used > BigInt(storageBytesMax))
      throw new QuotaExceeded({ quotaType: 'storage', current: room.used - change, limit: BigInt(storageBytesMax) })
    await tx`update builderd.builds set reserved_bytes = ${BigInt(bytes)} where build_id = ${lease.buildId}`
  })
}

export type CancelAnswer = 'cancelled' | 'cleaning' | 'over' | 'unknown'

export const cancelChannel = 'builderd_cancel'

/** Durable at once. A waiting build is over with this; a running one is told to its owner. */
export async function cancelBuild(ends: Ends, buildId: string, tenantId: string, nowMs: number): Promise<CancelAnswer> {
  return ends.sql.begin(async tx => {
    const build = await lockBuild(tx, buildId, tenantId)
    if (!build) return 'unknown'
    if (build.state === 'CANCELLED') return 'cancelled'
    if (isTerminal(build.state)) return 'over'
    if (build.state === 'PENDING') {
      await endBuild(tx, ends, build, { state: 'CANCELLED' }, nowMs)
      return 'cancelled'
    }
    await tx`
      update builderd.builds set state = 'CLEANING', cancel_at = coalesce(cancel_at, now()) where build_id = ${buildId}`
    await appendLines(tx, buildId, [
      { level: 'info', component: 'scheduler', message: 'cancelling, as asked', atMs: nowMs },
    ])
    await tx`select pg_notify(${cancelChannel}, ${buildId})`
    return 'cleaning'
  })
}

/** Ends builds whose owner did not answer a cancel in time; its epoch is overtaken. @returns how many */
export async function overtakeCancelled(ends: Ends, afterMs: number, nowMs: number): Promise<number> {
  for (let count = 0; ; count++) {
    const found = await ends.sql.begin(async tx => {
      const [row] = await tx<BuildRow[]>`
        select ${buildColumns(tx)} from builderd.builds
        where lease_owner is not null and cancel_at < now() - ${`${afterMs}ms`}::interval
        limit 1 for update skip locked`
      if (row) await endBuild(tx, ends, toBuild(row), { state: 'CANCELLED' }, nowMs)
      return row !== undefined
    })
    if (!found) return count
  }
}

export type DeleteAnswer = { is: 'deleted'; build: Build } | { is: 'running' } | { is: 'unknown' }

/** Everything the tenant could see goes in one commit; the file is removed by the caller afterwards. */
export async function deleteBuild(ends: Ends, buildId: string, tenantId: string, nowMs: number): Promise<DeleteAnswer> {
  return ends.sql.begin(async (tx): Promise<DeleteAnswer> => {
    const build = await lockBuild(tx, buildId, tenantId)
    if (!build) return { is: 'unknown' }
    if (build.state === 'PENDING') await endBuild(tx, ends, build, { state: 'CANCELLED' }, nowMs)
    else if (!isTerminal(build.state)) return { is: 'running' }
    if (build.rootfsSha256 !== null) await disownArtifact(tx, tenantId, build.rootfsSha256)
    await tx`delete from builderd.build_logs where build_id = ${buildId}`
    await tx`delete from builderd.build_steps where build_id = ${buildId}`
    await tx`update builderd.builds set deleted_at = ${new Date(nowMs)}, idempotency_key = null where build_id = ${buildId}`
    await tx`select pg_notify('builderd_log', ${buildId})`
    return { is: 'deleted', build }
  })
}

async function disownArtifact(tx: Tx, tenantId: string, sha256: string) {
  const [gone] = await tx<{ bytes: bigint }[]>`
    delete from builderd.artifact_owners where tenant_id = ${tenantId} and sha256 = ${sha256} and builds = 1 returning bytes`
  if (gone)
    await tx`update builderd.tenant_usage set stored_bytes = stored_bytes - ${gone.bytes} where tenant_id = ${tenantId}`
  else
    await tx`update builderd.artifact_owners set builds = builds - 1 where tenant_id = ${tenantId} and sha256 = ${sha256}`
}

async function lockBuild(tx: Tx, buildId: string, tenantId: string): Promise<Build | undefined> {
  const [row] = await tx<BuildRow[]>`
    select ${buildColumns(tx)} from builderd.builds
    where build_id = ${buildId} and tenant_id = ${tenantId} and deleted_at is null for update`
  return row && toBuild(row)
}
