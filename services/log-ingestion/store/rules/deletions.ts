// Deletions by filter: the job's row, and the tombstone that is left of it.

import { randomUUID } from 'node:crypto'
import type { Queryable, Sql, Tx } from '#platform/postgres'
import { rfc3339 } from '#platform/time'
import { noteChange } from './rules.ts'

/** Of nothing: where the chains of a tombstone begin. */
export const emptyHash = '0'.repeat(64)

export interface DeletionJob {
  id: string
  tenant: string
  q: string
  fromNs: bigint
  toNs: bigint
  reason: string
  requestedBy: string
  requestedAt: string
  acceptedBeforeUs: bigint
  state: 'running' | 'done'
  rows: bigint
  bytes: bigint
  hashBefore: string
  hashAfter: string
  problem: string | null
  finishedAt: string | null
}

export interface Tombstone {
  /** The text that is signed. */
  body: string
  /** Ed25519, base64. */
  signature: string
  /** SPKI, base64. */
  publicKey: string
}

/** What somebody asked for. */
export type DeletionRequest = Pick<
  DeletionJob,
  'id' | 'tenant' | 'q' | 'fromNs' | 'toNs' | 'reason' | 'requestedBy' | 'requestedAt' | 'acceptedBeforeUs'
>

type NewJob = DeletionRequest & Pick<DeletionJob, 'hashBefore' | 'hashAfter'>

export async function insertDeletion(tx: Tx, job: NewJob): Promise<void> {
  await noteChange(tx, 'deletions')
  await tx`
    insert into purser_logs.deletions (id, tenant, q, from_ns, to_ns, reason, requested_by, requested_at, accepted_before, hash_before, hash_after)
    values (${job.id}, ${job.tenant}, ${job.q}, ${job.fromNs}, ${job.toNs}, ${job.reason}, ${job.requestedBy},
            ${job.requestedAt}::timestamptz, to_timestamp(0) + ${String(job.acceptedBeforeUs)}::int8 * interval '1 microsecond',
            ${job.hashBefore}, ${job.hashAfter})`
}

/** Those that the database does not know: it came back from a backup. They run again, from their beginning. */
export async function insertLostDeletions(sql: Sql, jobs: readonly DeletionRequest[]): Promise<number> {
  if (jobs.length === 0) return 0
  const rows = await sql<{ id: string }[]>`
    select id::text as id from purser_logs.deletions where id = any(${jobs.map(job => job.id)}::uuid[])`
  const present = new Set(rows.map(({ id }) => id))
  const lost = jobs.filter(job => !present.has(job.id))
  let inserted = 0
  for (const job of lost)
    inserted += await sql.begin(async tx => {
      const [taken] = await tx`
        select from purser_logs.deletions where id = ${job.id}::uuid
        union all select where not pg_try_advisory_xact_lock(hashtextextended(${`purser.deletion:${job.id}`}, 0))`
      // Another replica tells it just now.
      if (taken) return 0
      await insertDeletion(tx, { ...job, hashBefore: emptyHash, hashAfter: emptyHash })
      await tx`update purser_logs.deletions set told_again_at = now() where id = ${job.id}::uuid`
      return 1
    })
  return inserted
}

/**
 * Entries accepted from `acceptedFromUs` on are about to be stored by somebody nobody waited for. What was deleted of them is
 * asked for again, under ids of its own: hidden from now on, and erased. Jobs of which there may be more go on too. They end
 * after `holdMs`, or soon after `release`.
 */
export async function repeatDeletions(
  sql: Sql,
  o: { acceptedFromUs: bigint; requestedBy: string; why: string; nowMs: number; holdMs: number },
): Promise<{ ids: string[]; release: () => Promise<void> }> {
  const ids = await sql.begin(async tx => {
    const since = tx`accepted_before > to_timestamp(0) + ${String(o.acceptedFromUs)}::int8 * interval '1 microsecond'`
    const running = await tx<{ id: string }[]>`
      select id::text as id from purser_logs.deletions where state = 'running' and ${since} for update`
    const done = await tx<DeletionJob[]>`
      select ${columns(tx)} from (
        select distinct on (tenant, q, from_ns, to_ns, accepted_before) * from purser_logs.deletions as d
        where state = 'done' and ${since} and not exists (
          select from purser_logs.deletions as r where r.state = 'running' and (r.tenant, r.q, r.from_ns, r.to_ns, r.accepted_before)
            = (d.tenant, d.q, d.from_ns, d.to_ns, d.accepted_before))
        order by tenant, q, from_ns, to_ns, accepted_before, requested_at
      ) as once order by requested_at, id`
    const requestedAt = rfc3339(o.nowMs)
    const again = done.map(job => ({
      ...job,
      id: randomUUID(),
      reason: `${job.reason} (again: ${o.why})`,
      requestedBy: o.requestedBy,
      requestedAt,
      hashBefore: emptyHash,
      hashAfter: emptyHash,
    }))
    for (const job of again) await insertDeletion(tx, job)
    const all = [...running, ...again].map(({ id }) => id)
    await tx`update purser_logs.deletions set told_again_at = now() + ${o.holdMs}::float8 * interval '1 millisecond'
             where id = any(${all}::uuid[])`
    return all
  })
  return {
    ids,
    release: async () => {
      await sql`update purser_logs.deletions set told_again_at = now() where id = any(${ids}::uuid[]) and state = 'running'`
    },
  }
}

/** Whether a deletion that was told again was so long ago, in milliseconds; true of all others. */
export async function isToldFor(sql: Sql, id: string, ms: number): Promise<boolean> {
  const [row] = await sql<{ isTold: boolean }[]>`
    select coalesce(told_again_at < now() - ${ms}::float8 * interval '1 millisecond', true) as "isTold"
    from purser_logs.deletions where id = ${id}::uuid`
  return row?.isTold ?? true
}

/** Those that are not done, and all since a time. */
export async function loadDeletionsSince(sql: Queryable, sinceMs: number): Promise<DeletionJob[]> {
  return await sql<DeletionJob[]>`
    select ${columns(sql)} from purser_logs.deletions
    where state = 'running' or requested_at > to_timestamp(${sinceMs / 1_000}::float8) order by requested_at, id`
}

export async function loadRunningDeletions(sql: Queryable): Promise<DeletionJob[]> {
  return await sql<DeletionJob[]>`
    select ${columns(sql)} from purser_logs.deletions where state = 'running' order by requested_at, id`
}

export async function findDeletion(
  sql: Sql,
  tenant: string,
  id: string,
): Promise<(DeletionJob & { tombstone: Tombstone | null }) | undefined> {
  const [job] = await sql<DeletionJob[]>`
    select ${columns(sql)} from purser_logs.deletions where tenant = ${tenant} and id = ${id}::uuid`
  if (!job) return undefined
  const [tombstone] = await sql<Tombstone[]>`
    select body, signature, public_key as "publicKey" from purser_logs.tombstones where deletion = ${id}::uuid`
  return { ...job, tombstone: tombstone ?? null }
}

export async function listDeletions(sql: Sql, tenant: string, limit: number): Promise<DeletionJob[]> {
  return await sql<DeletionJob[]>`
    select ${columns(sql)} from purser_logs.deletions where tenant = ${tenant}
    order by requested_at desc, id desc limit ${limit}`
}

/** The row as it is now, locked: chunks of two runners cannot be counted at once. */
export async function lockDeletion(tx: Tx, id: string): Promise<DeletionJob | undefined> {
  const [job] = await tx<DeletionJob[]>`
    select ${columns(tx)} from purser_logs.deletions where id = ${id}::uuid and state = 'running' for update`
  return job
}

export async function addToDeletion(
  tx: Tx,
  id: string,
  chunk: { rows: number; bytes: number; hashBefore: string; hashAfter: string },
): Promise<void> {
  await tx`
    update purser_logs.deletions set rows = rows + ${BigInt(chunk.rows)}, bytes = bytes + ${BigInt(chunk.bytes)},
      hash_before = ${chunk.hashBefore}, hash_after = ${chunk.hashAfter}, problem = null
    where id = ${id}::uuid`
}

export async function noteProblem(sql: Sql, id: string, problem: string): Promise<void> {
  await sql`update purser_logs.deletions set problem = ${problem.slice(0, 500)} where id = ${id}::uuid and state = 'running'`
}

export async function finishDeletion(
  tx: Tx,
  job: DeletionJob,
  finishedAt: string,
  tombstone: Tombstone,
): Promise<void> {
  await noteChange(tx, 'deletions')
  await tx`
    update purser_logs.deletions set state = 'done', finished_at = ${finishedAt}::timestamptz, problem = null
    where id = ${job.id}::uuid`
  await tx`
    insert into purser_logs.tombstones (deletion, tenant, body, signature, public_key)
    values (${job.id}, ${job.tenant}, ${tombstone.body}, ${tombstone.signature}, ${tombstone.publicKey})`
}

/** Rows that left the store, per tenant and hour of leaving: whose journal they came by is not known of stored rows. */
export async function addToLedger(
  tx: Tx,
  what: 'deleted' | 'expired',
  o: { tenant: string; hourMs: number; rows: number },
): Promise<void> {
  const column = what === 'deleted' ? tx`deleted` : tx`expired`
  await tx`
    insert into purser_logs.ledger as l (replica, key_id, tenant, hour, ${column})
    values ('00000000-0000-0000-0000-000000000000', '', ${o.tenant}, to_timestamp(${o.hourMs}::float8 / 1000), ${BigInt(o.rows)})
    on conflict (replica, key_id, tenant, hour) do update set ${column} = l.${column} + excluded.${column}`
}

function columns(sql: Queryable) {
  const text = (column: string) => sql`to_char(${sql(column)} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
  return sql`id::text as id, tenant, q, from_ns as "fromNs", to_ns as "toNs", reason, requested_by as "requestedBy",
    ${text('requested_at')} as "requestedAt", (extract(epoch from accepted_before) * 1000000)::int8 as "acceptedBeforeUs",
    state, rows, bytes, hash_before as "hashBefore", hash_after as "hashAfter", problem, ${text('finished_at')} as "finishedAt"`
}
