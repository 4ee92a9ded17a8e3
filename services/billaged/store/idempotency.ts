import type { Sql } from '#platform/postgres'

export interface CallKey {
  caller: string
  key: string
}

export type Begun =
  | 'begun'
  | 'in_progress'
  | 'other_call'
  | { status: number; contentType: string | null; body: Buffer }

/** How long a call may run before its key is free again: longer than any answer takes. */
const abandonedMs = 10 * 60_000
const keptMs = 86_400_000

/** Notes that the call begins, unless it began before. */
export async function beginCall(sql: Sql, call: CallKey & { digest: Buffer; nowMs: number }): Promise<Begun> {
  const { caller, key, digest, nowMs } = call
  const now = new Date(nowMs)
  await sql`
    delete from billaged.idempotent_call where ctid = any (array(
      select ctid from billaged.idempotent_call where begun_at < ${new Date(nowMs - keptMs)} limit 100))`
  const begun = await sql`
    insert into billaged.idempotent_call as c (caller, key, digest, begun_at) values (${caller}, ${key}, ${digest}, ${now})
    on conflict (caller, key) do update set begun_at = excluded.begun_at, digest = excluded.digest, status = null
    where c.begun_at < ${new Date(nowMs - keptMs)} or (c.status is null and c.begun_at < ${new Date(nowMs - abandonedMs)})
    returning 1`
  if (begun.count > 0) return 'begun'
  const [row] = await sql<{ digest: Buffer; status: number | null; contentType: string | null; body: Buffer | null }[]>`
    select digest, status, content_type as "contentType", body from billaged.idempotent_call
    where caller = ${caller} and key = ${key}`
  // Taken back this very moment.
  if (row === undefined) return 'in_progress'
  if (!row.digest.equals(digest)) return 'other_call'
  if (row.status === null || row.body === null) return 'in_progress'
  return { status: row.status, contentType: row.contentType, body: row.body }
}

export async function endCall(
  sql: Sql,
  { caller, key }: CallKey,
  answer: { status: number; contentType: string | null; body: Buffer },
): Promise<void> {
  await sql`
    update billaged.idempotent_call set status = ${answer.status}, content_type = ${answer.contentType}, body = ${answer.body}
    where caller = ${caller} and key = ${key}`
}

/** It did nothing that must not be done again. */
export async function forgetCall(sql: Sql, { caller, key }: CallKey): Promise<void> {
  await sql`delete from billaged.idempotent_call where caller = ${caller} and key = ${key} and status is null`
}
