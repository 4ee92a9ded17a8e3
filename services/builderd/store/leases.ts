// Who works on what. A build that runs belongs to one daemon by lease: an owner, an epoch that grows with every owner,
// and a time until which it must be heard of. Times are the database's, because daemons' clocks differ. Every write of an
// owner names its epoch, so one that lost its lease can change nothing any more.

import { arrayLiteral, type Sql, type Tx } from '#platform/postgres'
import type { Step } from '../build/job.ts'
import { lostAttemptsMax, stateOfStep } from '../build-state.ts'
import { type Build, type BuildRow, buildColumns, toBuild } from './build.ts'
import { queueChannel } from './builds.ts'
import { type Ends, endBuild } from './finish.ts'
import { appendLines, type Lease } from './logs.ts'

/** Must be several heartbeats, and is how long a dead daemon's builds stand still on others. Seconds. */
export const leaseS = 30
export const heartbeatMs = 5_000

export interface TierFigures {
  tier: string
  buildsMax: number
  weight: number
}

export interface Claimed {
  build: Build
  lease: Lease
}

/**
 * The next build for a free slot: of the tenant with the least running for its weight, of those the one that waits
 * longest; in it by priority, then age. Undefined when nothing may start.
 */
export async function claimBuild(
  sql: Sql,
  owner: string,
  tiers: readonly TierFigures[],
  nowMs: number,
): Promise<Claimed | undefined> {
  // Another daemon may take a tenant's last place between our look and our step; then the next candidate is tried.
  for (let tries = 0; tries < 10; tries++) {
    const claimed = await sql.begin(tx => claimOnce(tx, owner, tiers, nowMs))
    if (claimed !== 'raced') return claimed
  }
  return undefined
}

async function claimOnce(
  tx: Tx,
  owner: string,
  tiers: readonly TierFigures[],
  nowMs: number,
): Promise<Claimed | undefined | 'raced'> {
  const [next] = await tx<{ buildId: string; tenantId: string; buildsMax: number }[]>`
    select b.build_id as "buildId", b.tenant_id as "tenantId",
           least(b.builds_max, coalesce((t.overrides->>'buildsMax')::int, l.builds_max)) as "buildsMax"
    from builderd.builds b
    join (select tenant_id, min(created_at) as since from builderd.builds where state = 'PENDING' group by tenant_id) w using (tenant_id)
    join builderd.tenants t using (tenant_id)
    join builderd.tenant_usage u using (tenant_id)
    join unnest(${arrayLiteral(tiers.map(t => t.tier))}::text[], ${arrayLiteral(tiers.map(t => t.buildsMax))}::int[],
                ${arrayLiteral(tiers.map(t => t.weight))}::int[]) as l(tier, builds_max, weight) on l.tier = t.tier
    where b.state = 'PENDING' and u.active < least(b.builds_max, coalesce((t.overrides->>'buildsMax')::int, l.builds_max))
    order by u.active::float8 / l.weight, w.since, b.priority desc, b.created_at, b.build_id
    limit 1 for update of b skip locked`
  if (!next) return undefined
  const taken = await tx`
    update builderd.tenant_usage set active = active + 1, queued = queued - 1
    where tenant_id = ${next.tenantId} and active < ${next.buildsMax}`
  if (taken.count === 0) return 'raced'
  const [row] = await tx<BuildRow[]>`
    update builderd.builds
    set state = 'PULLING', step = 'resolve', lease_owner = ${owner}, lease_epoch = lease_epoch + 1, log_batch = 0,
        lease_until = now() + ${`${leaseS}s`}::interval, attempt = attempt + 1,
        started_at = coalesce(started_at, ${new Date(nowMs)})
    where build_id = ${next.buildId} returning ${buildColumns(tx)}`
  if (!row) throw new Error('BUG: a locked build is gone')
  const build = toBuild(row)
  return { build, lease: { buildId: build.buildId, owner, epoch: build.leaseEpoch } }
}

/** Renews what is still ours. Builds that are missing from the answer belong to someone else now. */
export async function renewLeases(
  sql: Sql,
  owner: string,
  leases: readonly Lease[],
): Promise<Map<string, { isCancelled: boolean }>> {
  if (leases.length === 0) return new Map()
  const rows = await sql<{ buildId: string; isCancelled: boolean }[]>`
    update builderd.builds b set lease_until = now() + ${`${leaseS}s`}::interval
    from unnest(${arrayLiteral(leases.map(l => l.buildId))}::text[], ${arrayLiteral(leases.map(l => l.epoch))}::int8[]) as l(build_id, epoch)
    where b.build_id = l.build_id and b.lease_epoch = l.epoch and b.lease_owner = ${owner}
    returning b.build_id as "buildId", b.cancel_at is not null as "isCancelled"`
  return new Map(rows.map(row => [row.buildId, row]))
}

export async function startStep(sql: Sql, lease: Lease, attempt: number, step: Step, at: Date): Promise<boolean> {
  const [moved] = await sql<{ moved: bigint }[]>`
    with moved as (
      update builderd.builds set state = ${stateOfStep[step]}, step = ${step}
      where build_id = ${lease.buildId} and lease_owner = ${lease.owner} and lease_epoch = ${lease.epoch} and state <> 'CLEANING'
      returning build_id),
    noted as (
      insert into builderd.build_steps (build_id, attempt, step, started_at)
      select build_id, ${attempt}, ${step}, ${at} from moved on conflict do nothing)
    select count(*) as moved from moved`
  return (moved?.moved ?? 0n) > 0n
}

export async function endStep(
  sql: Sql,
  lease: Lease,
  attempt: number,
  step: Step,
  at: Date,
  result: 'ok' | 'failed',
  error?: string,
): Promise<void> {
  await sql`
    update builderd.build_steps set ended_at = ${at}, result = ${result}, error = ${error ?? null}
    where build_id = ${lease.buildId} and attempt = ${attempt} and step = ${step}
      and exists (select from builderd.builds b where b.build_id = ${lease.buildId}
                  and b.lease_owner = ${lease.owner} and b.lease_epoch = ${lease.epoch})`
}

/** The tag's digest for good: a build that is resumed builds the same image. */
export async function pinManifest(sql: Sql, lease: Lease, digest: string): Promise<void> {
  await sql`
    update builderd.builds set manifest_digest = ${digest}
    where build_id = ${lease.buildId} and lease_owner = ${lease.owner} and lease_epoch = ${lease.epoch}`
}

/** Why builds are taken from their owner. */
export type Reason = 'expired' | 'restarted' | 'died' | 'drained'

/**
 * Puts builds back into the queue: those whose lease ran out, those of one owner, or one build. Each ends in its own
 * transaction, so that one poisoned row does not hold the others. @returns how many
 */
export async function requeue(
  ends: Ends,
  from: { expired: true } | { owner: string } | { lease: Lease },
  reason: Reason,
  nowMs: number,
): Promise<number> {
  for (let count = 0; ; count++) {
    const found = await ends.sql.begin(async tx => {
      const [row] = await tx<(BuildRow & { lost: number; isCancelled: boolean; reservedBytes: bigint })[]>`
        select ${buildColumns(tx)}, lost, cancel_at is not null as "isCancelled", reserved_bytes as "reservedBytes"
        from builderd.builds
        where lease_owner is not null and ${
          'expired' in from
            ? tx`lease_until < now()`
            : 'owner' in from
              ? tx`lease_owner = ${from.owner}`
              : tx`build_id = ${from.lease.buildId} and lease_owner = ${from.lease.owner} and lease_epoch = ${from.lease.epoch}`
        }
        order by build_id limit 1 for update skip locked`
      if (!row) return false
      const build = toBuild(row)
      if (row.isCancelled) {
        await endBuild(tx, ends, build, { state: 'CANCELLED' }, nowMs)
        return true
      }
      const lost = reason === 'drained' ? row.lost : row.lost + 1
      if (lost >= lostAttemptsMax) {
        const message = `The process that built this died ${lost} times, so it is not tried again. The log of the service says why.`
        await endBuild(tx, ends, build, { state: 'FAILED', code: 'WORKER_LOST', message }, nowMs)
        return true
      }
      await tx`
        update builderd.builds
        set state = 'PENDING', step = '', lease_owner = null, lease_until = null, lease_epoch = lease_epoch + 1, lost = ${lost},
            reserved_bytes = 0
        where build_id = ${build.buildId}`
      await tx`
        update builderd.tenant_usage set active = active - 1, queued = queued + 1, reserved_bytes = reserved_bytes - ${row.reservedBytes}
        where tenant_id = ${build.tenantId}`
      await appendLines(tx, build.buildId, [
        {
          level: reason === 'drained' ? 'info' : 'warn',
          component: 'scheduler',
          message: sentences[reason],
          atMs: nowMs,
        },
      ])
      await tx`select pg_notify(${queueChannel}, '')`
      return true
    })
    if (!found || 'lease' in from) return found ? count + 1 : count
  }
}

const sentences: Readonly<Record<Reason, string>> = {
  expired: 'the daemon that built this was not heard of in time; queued again, what was pulled is kept',
  restarted: 'the daemon that built this was restarted; queued again, what was pulled is kept',
  died: 'the process that built this ended unexpectedly; queued again, what was pulled is kept',
  drained: 'the daemon is stopping; queued again, what was pulled is kept',
}
