import type { Sql } from '#platform/postgres'

export interface EventRecord {
  source: string
  id: string
  /** Hex. */
  digest: string
  type: string
  subject: string | null
  customerId: string | null
  atNs: bigint
  data: unknown
  receivedAt: Date
  validationError: string | null
  voidReason: string | null
}

export interface EventFilter {
  fromNs: bigint
  toNs: bigint
  subject: string | null
  id: string | null
  hasError: boolean | null
  /** A tenant's own only. */
  only: string | null
  /** The last one of the page before. */
  after: Pick<EventRecord, 'atNs' | 'source' | 'id' | 'digest'> | null
  limit: number
}

/** Newest first, every variant of a conflict. */
export async function listEvents(sql: Sql, filter: EventFilter): Promise<EventRecord[]> {
  const { after } = filter
  return sql<EventRecord[]>`
    select e.source, e.id, encode(e.digest, 'hex') as digest, e.type, e.subject, e.customer_id as "customerId", e.at_ns as "atNs", e.data,
      e.received_at as "receivedAt", e.validation_error as "validationError", v.reason as "voidReason"
    from billaged.usage_event e left join billaged.usage_void v using (source, id)
    where e.at_ns >= ${filter.fromNs} and e.at_ns < ${filter.toNs}
      and (${filter.only}::text is null or e.customer_id = ${filter.only})
      and (${filter.subject}::text is null or e.subject = ${filter.subject} or e.customer_id = ${filter.subject})
      and (${filter.id}::text is null or e.id like '%' || ${filter.id} || '%')
      and (${filter.hasError}::bool is null or (e.validation_error is not null) = ${filter.hasError})
      ${after === null ? sql`` : sql`and (e.at_ns < ${after.atNs} or (e.at_ns = ${after.atNs} and (e.source, e.id, e.digest) > (${after.source}, ${after.id}, decode(${after.digest}, 'hex'))))`}
    order by e.at_ns desc, e.source, e.id, e.digest limit ${filter.limit}`
}

/** Naming it again changes nothing; the first reason stays. */
export async function voidEvent(
  sql: Sql,
  o: { source: string; id: string; reason: string; by: string },
): Promise<{ isKnown: boolean }> {
  await sql`
    insert into billaged.usage_void (source, id, reason, voided_by) values (${o.source}, ${o.id}, ${o.reason}, ${o.by})
    on conflict do nothing`
  const known = await sql`select 1 from billaged.usage_event where source = ${o.source} and id = ${o.id} limit 1`
  return { isKnown: known.length > 0 }
}

const countedSubjectsMax = 1_000

/** Of what was stored since `from`; the subjects with the most events. */
export async function countEventsBySubject(
  sql: Sql,
  o: { from: Date; only: string | null },
): Promise<{ subject: string; hasError: boolean; count: bigint }[]> {
  return sql<{ subject: string; hasError: boolean; count: bigint }[]>`
    select coalesce(subject, customer_id, '') as subject, validation_error is not null as "hasError", count(*) as count
    from billaged.usage_event
    where received_at >= ${o.from} and (${o.only}::text is null or customer_id = ${o.only})
    group by 1, 2 order by count(*) desc, 1, 2 limit ${countedSubjectsMax}`
}

/** Events of a period that no meter could take and nobody has voided. */
export async function countUnmeterable(sql: Sql, customerId: string, fromNs: bigint, toNs: bigint): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int4 as count from billaged.usage_event e
    where customer_id = ${customerId} and at_ns >= ${fromNs} and at_ns < ${toNs} and validation_error is not null
      and not exists (select 1 from billaged.usage_void v where v.source = e.source and v.id = e.id)`
  return row?.count ?? 0
}
