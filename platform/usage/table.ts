// <schema>.usage_outbox: the rows that billaged has not confirmed yet, and those it refused.

import type { Queryable, Sql, Tx } from '../postgres.ts'

export interface WaitingRow {
  seq: bigint
  /** One CloudEvent, JSON. The same bytes at every attempt. */
  event: string
  /** How often billaged answered a batch with this row by a failure of its own. */
  attempts: number
}

export interface Backlog {
  waiting: number
  dead: number
  /** Unix ms; null when none waits. */
  oldestMs: number | null
}

/** Rows per INSERT: three parameters each, of the 65,535 that the protocol has. */
const insertRowsMax = 5_000

/**
 * Not a numbered migration: those belong to the service, whose files would then have to leave numbers free for us. The
 * statement can be repeated, and runs under the same lock as the schema's migrations, so replicas that start together
 * take turns. A later version adds columns here with `add column if not exists`.
 */
export async function createOutboxTable(sql: Sql, schema: string): Promise<void> {
  await sql.begin(async tx => {
    await tx`select pg_advisory_xact_lock(hashtextextended(${`purser.migrate:${schema}`}, 0))`
    const [found] = await tx<{ schema: boolean; table: boolean }[]>`
      select exists(select from pg_namespace where nspname = ${schema}) as schema,
             to_regclass(${`${schema}.usage_outbox`}) is not null as table`
    // "if not exists" would ask for the right to create even when there is nothing to create.
    if (!found?.schema) await tx`create schema ${tx(schema)}`
    if (found?.table) return
    await tx`
      create table ${tx(schema)}.usage_outbox (
        seq bigint generated always as identity primary key,
        source text not null,
        id text not null,
        event jsonb not null,
        created_at timestamptz not null default now(),
        attempts int not null default 0,
        retry_at timestamptz,
        dead_at timestamptz,
        dead_status int,
        dead_reason text,
        unique (source, id)
      )`
    await tx`create index usage_outbox_waiting on ${tx(schema)}.usage_outbox (attempts, seq) where dead_at is null`
  })
}

/** Rows known already stay as they are. Returns how many are new. */
export async function insertRows(
  tx: Queryable,
  schema: string,
  rows: readonly { source: string; id: string; event: string }[],
): Promise<number> {
  // In one order everywhere: two transactions that report the same events would otherwise wait for each other.
  const sorted = rows.toSorted((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
  let inserted = 0
  for (let i = 0; i < sorted.length; i += insertRowsMax) {
    const part = sorted.slice(i, i + insertRowsMax)
    const result = await tx`
      insert into ${tx(schema)}.usage_outbox (source, id, event)
      select source, id, event::jsonb from (values ${tx(part.map(row => [row.source, row.id, row.event]))})
        as reported (source, id, event)
      on conflict (source, id) do nothing`
    inserted += result.count
  }
  return inserted
}

/** The next rows nobody else is sending; locked until the transaction ends. Those that failed least come first, so that
 *  events on which billaged breaks do not hold up the rest. `isAll`: also those whose time to retry has not come. */
export function lockRows(tx: Tx, schema: string, o: { rowsMax: number; isAll: boolean }): Promise<WaitingRow[]> {
  return tx<WaitingRow[]>`
    select seq, event::text as event, attempts from ${tx(schema)}.usage_outbox
    where dead_at is null and (${o.isAll} or retry_at is null or retry_at <= now())
    order by attempts, seq limit ${o.rowsMax} for update skip locked`
}

export async function deleteRows(tx: Tx, schema: string, rows: readonly WaitingRow[]): Promise<void> {
  if (rows.length === 0) return
  await tx`delete from ${tx(schema)}.usage_outbox where seq in ${tx(rows.map(row => row.seq))}`
}

export async function buryRow(tx: Tx, schema: string, row: WaitingRow, status: number, reason: string): Promise<void> {
  await tx`
    update ${tx(schema)}.usage_outbox
    set dead_at = now(), dead_status = ${status}, dead_reason = ${reason} where seq = ${row.seq}`
}

/** Doubling from 0.1 s to 30 s, like the sender's own pauses. */
export async function countAttempt(tx: Tx, schema: string, rows: readonly WaitingRow[]): Promise<void> {
  if (rows.length === 0) return
  await tx`
    update ${tx(schema)}.usage_outbox
    set attempts = attempts + 1, retry_at = now() + least(30, 0.1 * 2 ^ least(attempts, 20)) * interval '1 second'
    where seq in ${tx(rows.map(row => row.seq))}`
}

/** Rows that waited longer than anyone will look for them. They stay, and can be revived. */
export async function buryOld(sql: Sql, schema: string, beforeMs: number, reason: string): Promise<number> {
  const result = await sql`
    update ${sql(schema)}.usage_outbox set dead_at = now(), dead_reason = ${reason}
    where seq in (
      select seq from ${sql(schema)}.usage_outbox
      where dead_at is null and created_at < ${new Date(beforeMs)} limit 10000 for update skip locked)`
  return result.count
}

export async function reviveRows(sql: Sql, schema: string): Promise<number> {
  const result = await sql`
    update ${sql(schema)}.usage_outbox
    set dead_at = null, dead_status = null, dead_reason = null, attempts = 0, retry_at = null, created_at = now()
    where dead_at is not null`
  return result.count
}

export async function readBacklog(sql: Sql, schema: string): Promise<Backlog> {
  const [row] = await sql<{ waiting: number; dead: number; oldest: Date | null }[]>`
    select (count(*) filter (where dead_at is null))::int4 as waiting,
           (count(*) filter (where dead_at is not null))::int4 as dead,
           min(created_at) filter (where dead_at is null) as oldest
    from ${sql(schema)}.usage_outbox`
  return { waiting: row?.waiting ?? 0, dead: row?.dead ?? 0, oldestMs: row?.oldest?.getTime() ?? null }
}
