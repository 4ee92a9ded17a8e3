// Who does what only one replica may do. A lease is a row with an end, by the database's clock: no session, no advisory
// lock, so a pooler in transaction mode changes nothing. Whoever works under it checks it again inside each transaction
// that must not happen twice; the check and a change of hands cannot both commit.

import type { Sql, Tx } from '#platform/postgres'

export interface Lease {
  name: string
  holder: string
  token: bigint
}

export class LeaseLost extends Error {}

const leaseS = 15

/** Takes the lease when it is free, keeps it when it is ours; undefined when another replica has it. */
export async function takeLease(sql: Sql, name: string, holder: string): Promise<Lease | undefined> {
  const [row] = await sql<{ token: bigint }[]>`
    insert into purser_logs.leases as l (name, holder, token, until)
    values (${name}, ${holder}::uuid, 1, clock_timestamp() + ${leaseS} * interval '1 second')
    on conflict (name) do update
    set token = case when l.holder = excluded.holder then l.token else l.token + 1 end,
        holder = excluded.holder, until = excluded.until
    where l.holder = excluded.holder or l.until < clock_timestamp()
    returning token`
  return row && { name, holder, token: row.token }
}

/** @throws LeaseLost when somebody else has it now */
export async function mustHoldLease(tx: Tx, lease: Lease): Promise<void> {
  const [row] = await tx`
    select 1 from purser_logs.leases
    where name = ${lease.name} and holder = ${lease.holder}::uuid and token = ${lease.token} for share`
  if (!row) throw new LeaseLost(`another replica has the lease "${lease.name}" now`)
}

export async function giveUpLease(sql: Sql, lease: Lease): Promise<void> {
  await sql`
    update purser_logs.leases set until = clock_timestamp() - interval '1 second'
    where name = ${lease.name} and holder = ${lease.holder}::uuid and token = ${lease.token}`
}

// How far each replica is.

/** Everything accepted before `watermarkUs` is stored. Never goes back. */
export async function noteWatermark(sql: Sql, replica: string, watermarkUs: bigint, mayGoBack = false): Promise<void> {
  await sql`
    insert into purser_logs.replicas as r (replica, watermark, seen_at)
    values (${replica}::uuid, to_timestamp(0) + ${String(watermarkUs)}::int8 * interval '1 microsecond', clock_timestamp())
    on conflict (replica) do update set seen_at = excluded.seen_at,
      watermark = case when ${mayGoBack} then excluded.watermark else greatest(r.watermark, excluded.watermark) end`
}

/** Forgets a replica that has stored everything and stops. */
export async function forgetReplica(sql: Sql, replica: string): Promise<void> {
  await sql`delete from purser_logs.replicas where replica = ${replica}::uuid`
}

/** How long a replica that is not seen any more holds everybody back. One that comes back within it has lost nothing. */
const missedAfter = '24 hours'

/** Of the replica that is furthest behind; undefined when none is known. */
export async function loadWatermarkUs(sql: Sql): Promise<bigint | undefined> {
  const [row] = await sql<{ us: bigint | null }[]>`
    select (extract(epoch from min(watermark)) * 1000000)::int8 as us from purser_logs.replicas
    where seen_at > clock_timestamp() - ${missedAfter}::interval`
  return row?.us ?? undefined
}
