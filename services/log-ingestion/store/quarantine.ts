// Entries that could not be stored as they were: kept whole until somebody decides, or until they are old and leave as a
// file.

import { arrayLiteral, type Sql, type Tx } from '#platform/postgres'

export interface Quarantined {
  id: bigint
  tenant: string
  key: string
  position: string
  receivedUs: bigint
  protocol: string
  reason: string
  detail: string
  /** JSON. */
  entry: string
  status: 'open' | 'replayed' | 'discarded'
  decidedBy: string | null
  decidedUs: bigint | null
  decision: string | null
}

export interface QuarantinePlan {
  /** Undefined: of all tenants. */
  tenant: string | undefined
  status: Quarantined['status'] | undefined
  reason: string | undefined
  /** Only older ones than this id. */
  before: bigint | undefined
  limit: number
}

/** Newest first. */
export async function listQuarantined(sql: Sql, plan: QuarantinePlan): Promise<Quarantined[]> {
  const { tenant, status, reason, before, limit } = plan
  return await sql<Quarantined[]>`
    select ${columns(sql)} from purser_logs.quarantine
    where (${tenant ?? null}::text is null or tenant = ${tenant ?? null})
      and (${status ?? null}::text is null or status = ${status ?? null})
      and (${reason ?? null}::text is null or reason = ${reason ?? null})
      and (${before ?? null}::int8 is null or id < ${before ?? null}::int8)
    order by id desc limit ${limit}`
}

/** Locked until the transaction ends: nobody else decides meanwhile. */
export async function lockQuarantined(
  tx: Tx,
  id: bigint,
  tenant: string | undefined,
): Promise<Quarantined | undefined> {
  const [row] = await tx<Quarantined[]>`
    select ${columns(tx)} from purser_logs.quarantine
    where id = ${id} and (${tenant ?? null}::text is null or tenant = ${tenant ?? null}) for update`
  return row
}

export async function findQuarantined(
  sql: Sql,
  id: bigint,
  tenant: string | undefined,
): Promise<Quarantined | undefined> {
  const [row] = await sql<Quarantined[]>`
    select ${columns(sql)} from purser_logs.quarantine
    where id = ${id} and (${tenant ?? null}::text is null or tenant = ${tenant ?? null})`
  return row
}

export async function decide(
  tx: Tx,
  id: bigint,
  o: { status: 'replayed' | 'discarded'; by: string; decision: string | null; replayedAs: string | null },
): Promise<void> {
  await tx`
    update purser_logs.quarantine
    set status = ${o.status}, decided_by = ${o.by}, decided_at = now(), decision = ${o.decision},
        replayed_as = ${o.replayedAs}
    where id = ${id}`
}

const columns = (sql: Sql | Tx) => sql`
  id, tenant, key_id as key, position, (extract(epoch from received_at) * 1000000)::int8 as "receivedUs", protocol,
  reason, detail, convert_from(entry, 'utf8') as entry, status, decided_by as "decidedBy",
  (extract(epoch from decided_at) * 1000000)::int8 as "decidedUs", decision`

export interface ExportBounds {
  receivedBeforeMs: number
  bytesMax: number
}

/** The oldest entries that are too old, or too many, for the table; `write` puts them into a file, and only then do they
 *  leave. The same entries give the same file, so a crash in between leaves no second copy. */
export async function exportOldest(
  sql: Sql,
  { receivedBeforeMs, bytesMax }: ExportBounds,
  write: (entries: readonly Quarantined[]) => Promise<void>,
): Promise<number> {
  return await sql.begin(async tx => {
    // One replica at a time: two would put the same entries into two files.
    const [lock] = await tx<{ isOurs: boolean }[]>`
      select pg_try_advisory_xact_lock(hashtextextended('purser.quarantine.export', 0)) as "isOurs"`
    if (!lock?.isOurs) return 0
    const entries = await tx<Quarantined[]>`
      select ${columns(tx)} from purser_logs.quarantine
      where id in (
        select id from (
          select id, received_at, sum(octet_length(entry)) over (order by id desc) as newer_bytes
          from purser_logs.quarantine) as counted
        where received_at < to_timestamp(${receivedBeforeMs / 1_000}::float8) or newer_bytes > ${BigInt(bytesMax)}
        order by id limit 1000)
      order by id for update skip locked`
    if (entries.length === 0) return 0
    await write(entries)
    await tx`delete from purser_logs.quarantine where id = any(${arrayLiteral(entries.map(({ id }) => id))}::int8[])`
    return entries.length
  })
}
