import { randomUUID } from 'node:crypto'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { JournalPosition } from '#platform/journal'
import type { Sql } from '#platform/postgres'
import { type Clock, sleep } from '#platform/time'

const replicaPollMs = 250

/** This journal's name in the database. It lies beside the journal, so a new folder is a new replica, whose positions
 *  can never be mistaken for those of the old one. */
export async function loadReplicaId(dataDir: string): Promise<string> {
  const path = join(dataDir, 'replica-id')
  try {
    const id = (await readFile(path, 'utf8')).trim()
    if (!/^[0-9a-f-]{36}$/.test(id))
      throw new Error(`${path} does not hold a UUID; restore it or remove it with the journal`)
    return id
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
  }
  const id = randomUUID()
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(`${id}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  return id
}

/** Registers the replica and returns the position it has committed, null when it never has. */
export async function joinReplicas(sql: Sql, id: string): Promise<JournalPosition | null> {
  await sql`
    insert into billaged.replica (id) values (${id})
    on conflict (id) do update set last_seen = now(), folded_until = null, retired_at = null`
  const [row] = await sql<{ segment: string; offset: bigint }[]>`
    select segment, "offset" from billaged.journal_checkpoint where replica = ${id}`
  return row === undefined ? null : { segment: row.segment, offset: Number(row.offset) }
}

export interface Backlog {
  bytes: number
  /** Age of the oldest of it, 0 when there is none. */
  oldestMs: number
}

/** Says what is not folded yet, and until when everything is. The clock is read before the journal is looked at: what
 *  was acknowledged before that reading and is not in the backlog is folded. */
export async function reportBacklog(sql: Sql, id: string, measure: () => Backlog): Promise<void> {
  const [row] = await sql<{ at: Date }[]>`select clock_timestamp() as at`
  if (row === undefined) return
  const { bytes, oldestMs } = measure()
  // A whole millisecond more: ages are rounded.
  const foldedUntil = new Date(row.at.getTime() - (bytes === 0 ? 0 : Math.ceil(oldestMs) + 1))
  await sql`
    update billaged.replica set last_seen = clock_timestamp(), backlog_bytes = ${bytes}, folded_until = ${foldedUntil}
    where id = ${id}`
}

/** Stopped with nothing left to fold: nobody need wait for it until it is back. */
export async function leaveReplicas(sql: Sql, id: string): Promise<void> {
  await sql`update billaged.replica set last_seen = now(), backlog_bytes = 0, retired_at = now() where id = ${id}`
}

/** Whether another replica is known to hold, or not heard to have folded, something it acknowledged. */
export async function othersAreBehind(sql: Sql, id: string): Promise<boolean> {
  const rows = await sql`
    select 1 from billaged.replica
    where id <> ${id} and retired_at is null and (backlog_bytes > 0 or ${isSilent(sql)}) limit 1`
  return rows.length > 0
}

export async function databaseNow(sql: Sql): Promise<Date> {
  const [row] = await sql<{ at: Date }[]>`select clock_timestamp() as at`
  if (row === undefined) throw new Error('BUG: a clock has the time')
  return row.at
}

/** Waits for the others to say that everything they had acknowledged at `began` is folded, until `deadlineMs` of the
 *  monotonic clock; those that have not said so by then. One that was silent for a minute is not waited for. */
export async function waitForReplicas(
  sql: Sql,
  own: string,
  o: { began: Date; deadlineMs: number; clock: Clock },
): Promise<{ id: string; foldedUntil: Date | null }[]> {
  for (;;) {
    const behind = await sql<{ id: string; foldedUntil: Date | null; isSilent: boolean }[]>`
      select id::text, folded_until as "foldedUntil", ${isSilent(sql)} as "isSilent" from billaged.replica
      where id <> ${own} and retired_at is null and (folded_until is null or folded_until < ${o.began}) order by id`
    if (behind.every(replica => replica.isSilent) || o.clock.monotonicMs() >= o.deadlineMs) return behind
    await sleep(replicaPollMs)
  }
}

const isSilent = (sql: Sql) => sql`last_seen < now() - interval '1 minute'`
