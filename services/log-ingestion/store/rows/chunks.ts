// What TimescaleDB does better than rows can: chunks that nobody needs go whole, and its own retention policy holds even
// while no service runs.
//
//   by us      counted and dropped in one transaction, as soon as all of a chunk has expired
//   by policy  TimescaleDB's scheduler found it first; what the totals still say of such a day is what expired

import { errorCode, type Sql, type Tx } from '#platform/postgres'
import type { OnErased } from '../store.ts'
import type { RowsEraser } from './erase.ts'
import type { LogsTable } from './logs-table.ts'
import { timestampText } from './narrow.ts'
import { countWhole, lockTimeout, settleWhole, type WholeCount } from './whole-days.ts'

/** Chunks of which nothing is kept any longer. */
export async function dropChunks(
  o: RowsEraser,
  horizonUs: bigint,
  onErased: OnErased,
  signal?: AbortSignal,
): Promise<void> {
  const { sql } = o
  const expired = await sql<{ name: string; from: string; to: string }[]>`
    select format('%I.%I', chunk_schema, chunk_name) as name, range_start::text as from, range_end::text as to
    from timescaledb_information.chunks
    where hypertable_schema = 'public' and hypertable_name = 'logs'
      and range_end <= ${timestampText(horizonUs)}::timestamptz order by range_end`
  for (const { name, from, to } of expired) {
    signal?.throwIfAborted()
    try {
      await sql.begin(tx => dropChunk(tx, o, { name, from, to }, onErased))
    } catch (error) {
      // 55P03: a reader was in the way; 42P01, 42704: the policy was quicker.
      if (!['55P03', '42P01', '42704'].includes(errorCode(error) ?? '')) throw error
    }
  }
}

async function dropChunk(
  tx: Tx,
  o: RowsEraser,
  { name, from, to }: { name: string; from: string; to: string },
  onErased: OnErased,
): Promise<void> {
  await tx`select set_config('lock_timeout', ${lockTimeout}, true), set_config('statement_timeout', '0', true)`
  await tx`lock table only ${tx.unsafe(name)} in share row exclusive mode`
  // By the table, not by the chunk: what is compressed is read in no other way.
  const counts = await countWhole(
    tx,
    tx`select tenant as tenant, l.timestamp, l.service, l.level, l.message, l.metadata from public.logs l
       where l.timestamp >= ${from}::timestamptz and l.timestamp < ${to}::timestamptz`,
  )
  await tx`select drop_chunks('public.logs', older_than => ${to}::timestamptz, newer_than => ${from}::timestamptz)`
  await settleWhole(tx, o, counts, onErased)
}

/** Hours of which totals speak although no chunk and no block holds anything of their day: the policy dropped the chunk,
 *  perhaps under an older rule. */
export async function settleDropped(o: RowsEraser, onErased: OnErased): Promise<void> {
  await o.sql.begin(async tx => {
    // Rows, chunk and totals come in one transaction, so an hour without a chunk is one whose chunk went.
    // Their texts went with it: nobody can say how many bytes they had.
    const counts = await tx<WholeCount[]>`
      with chunks as materialized (
        select range_start, range_end from timescaledb_information.chunks
        where hypertable_schema = 'public' and hypertable_name = 'logs'
      )
      select tenant, (extract(epoch from hour) / 3600)::int8 as hour, service, level, rows, 0::int8 as bytes
      from purser_logs.totals t
      where rows > 0 and not exists(select from chunks c where c.range_start <= t.hour and t.hour < c.range_end)
        and not exists(select from purser_logs.blocks b where b.tenant = t.tenant and b.day = (t.hour at time zone 'UTC')::date)
      for update of t`
    if (counts.length > 0) await settleWhole(tx, o, counts, onErased)
  })
}

/** Keeps TimescaleDB's policy at the longest rule. Only on a table that we made, and only where the licence has policies;
 *  one that somebody else set is left alone. */
export async function setPolicy(sql: Sql, table: LogsTable, longestMs: number | null): Promise<void> {
  if (!table.takesPolicies) return
  try {
    await sql.begin(async tx => {
      await tx`select pg_advisory_xact_lock(hashtextextended('purser.policy:public.logs', 0))`
      const policies = await tx<{ id: number; isOurs: boolean; isSame: boolean }[]>`
        select j.job_id as id, exists(select from purser_logs.timescale_jobs o where o.job_id = j.job_id) as "isOurs",
               (j.config->>'drop_after')::interval = ${longestMs ?? 0} * interval '1 millisecond' as "isSame"
        from timescaledb_information.jobs j
        where j.hypertable_schema = 'public' and j.hypertable_name = 'logs' and j.proc_name = 'policy_retention'`
      const [policy] = policies
      if (policy && (!policy.isOurs || (policy.isSame && longestMs !== null))) return
      if (policy) {
        await tx`select delete_job(${policy.id})`
        await tx`delete from purser_logs.timescale_jobs where job_id = ${policy.id}`
      }
      if (longestMs === null) return
      await tx`
        insert into purser_logs.timescale_jobs (job_id)
        select add_retention_policy('public.logs', drop_after => ${longestMs} * interval '1 millisecond')
        on conflict do nothing`
    })
  } catch (error) {
    // Ours is the service that expires entries in any case; the policy only helps while it does not run.
    if (errorCode(error) !== '42501') throw error
  }
}
