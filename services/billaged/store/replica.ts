import { randomUUID } from 'node:crypto'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { JournalPosition } from '#platform/journal'
import type { Sql } from '#platform/postgres'

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
    on conflict (id) do update set last_seen = now()`
  const [row] = await sql<{ segment: string; offset: bigint }[]>`
    select segment, "offset" from billaged.journal_checkpoint where replica = ${id}`
  return row === undefined ? null : { segment: row.segment, offset: Number(row.offset) }
}

export async function reportBacklog(sql: Sql, id: string, backlogBytes: number): Promise<void> {
  await sql`update billaged.replica set last_seen = now(), backlog_bytes = ${backlogBytes} where id = ${id}`
}

/** Whether another replica is known to hold, or not heard to have folded, something it acknowledged. */
export async function othersAreBehind(sql: Sql, id: string): Promise<boolean> {
  const rows = await sql`
    select 1 from billaged.replica
    where id <> ${id} and (backlog_bytes > 0 or last_seen < now() - interval '1 minute') limit 1`
  return rows.length > 0
}
