import type { Queryable, Sql } from '#platform/postgres'
import { hourMs } from '../rating/periods.ts'
import type { Hours } from '../rating/rate.ts'
import { mayTouch } from './series.ts'

// What a close asks the database before it finalises anything.

export async function retireReplica(sql: Queryable, id: string): Promise<boolean> {
  const rows =
    await sql`update billaged.replica set retired_at = now() where id::text = ${id} and retired_at is null returning 1`
  return rows.count > 0
}

/** Oldest first. `after`: the last one of the page before. */
export async function listReplicas(sql: Sql, o: { after: { firstSeen: string; id: string } | null; limit: number }) {
  return sql<
    {
      id: string
      firstSeen: Date
      lastSeen: Date
      foldedUntil: Date | null
      backlogBytes: bigint
      retiredAt: Date | null
    }[]
  >`
    select id, at as "firstSeen", last_seen as "lastSeen", folded_until as "foldedUntil", backlog_bytes as "backlogBytes",
      retired_at as "retiredAt"
    from (select *, date_trunc('milliseconds', first_seen) as at from billaged.replica) r
    ${o.after === null ? sql`` : sql`where (at, id) > (${o.after.firstSeen}::timestamptz, ${o.after.id}::uuid)`}
    order by at, id limit ${o.limit}`
}

/** Doubtful items that could belong to a period: those whose own time is in it or not to be trusted. What fell in an hour
 *  whose samples have expired was sent again, or late, for a period that is closed: it keeps no other one open. */
export async function openQuarantine(sql: Sql, customerId: string, period: Hours): Promise<{ count: number }> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int4 as count from billaged.quarantine
    where customer_id = ${customerId} and state = 'open' and received_at >= ${new Date(period.from * hourMs)}
      and (reason <> 'expired' or (
        (payload -> 'timestamp' ->> 'seconds')::int8 >= ${BigInt(period.from) * 3600n}
        and (payload -> 'timestamp' ->> 'seconds')::int8 < ${BigInt(period.to) * 3600n}))`
  return { count: row?.count ?? 0 }
}

export async function isSubscribed(sql: Sql, customerId: string, period: Hours): Promise<boolean> {
  const rows = await sql`
    select 1 from billaged.subscription where customer_id = ${customerId}
      and from_at < ${new Date(period.to * hourMs)} and (to_at is null or to_at > ${new Date(period.from * hourMs)}) limit 1`
  return rows.length > 0
}

/** Whether there is anything in a period that could be usage: an event, or evidence of a VM in it or on both sides of it. */
export async function touchesPeriod(sql: Sql, customerId: string, period: Hours): Promise<boolean> {
  const [fromNs, toNs] = [BigInt(period.from * hourMs) * 1_000_000n, BigInt(period.to * hourMs) * 1_000_000n]
  const [row] = await sql<{ touches: boolean }[]>`
    select exists (
        select 1 from billaged.series s where s.customer_id = ${customerId} and ${mayTouch(sql, fromNs, toNs)})
      or exists (
        select 1 from (select distinct event_type as type from billaged.meter) m, lateral (
          select 1 from billaged.usage_event e
          where e.customer_id = ${customerId} and e.type = m.type and e.at_ns >= ${fromNs} and e.at_ns < ${toNs} limit 1) e)
      as touches`
  return row?.touches ?? false
}

/** When the customer's first billable thing was: a VM's start or reading, an event, a subscription. Null when there is none. */
export async function firstBillable(sql: Sql, customerId: string): Promise<number | null> {
  const [row] = await sql<{ first: bigint | null }[]>`
    select least(
      (select min(first_ns) from billaged.series where customer_id = ${customerId}),
      -- By type, as the index is: the first of each, and not a walk through all of them.
      (select min(at_ns) from (select distinct event_type as type from billaged.meter) m, lateral (
        select e.at_ns from billaged.usage_event e
        where e.customer_id = ${customerId} and e.type = m.type order by at_ns limit 1) e),
      (select (extract(epoch from min(from_at)) * 1000)::int8 * 1000000 from billaged.subscription
       where customer_id = ${customerId})
    ) as first`
  return row?.first == null ? null : Number(row.first / 1_000_000n)
}
