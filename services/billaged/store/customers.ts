import type { Sql } from '#platform/postgres'

export interface CustomerRow {
  id: string
  name: string | null
  currency: string
  timeZone: string
  anchorDay: number
  planId: string | null
  vms: number
  firstSeen: Date
}

/** Customers in the order of their ids, with the plan they are on at `now`. `only`: one customer, for its own keys. */
export async function listCustomers(
  sql: Sql,
  o: { after: string; limit: number; only: string | null; now: Date },
): Promise<CustomerRow[]> {
  return sql<CustomerRow[]>`
    select c.id, c.name, c.currency, c.time_zone as "timeZone", c.anchor_day::int4 as "anchorDay",
      (select plan_id from billaged.subscription s
       where s.customer_id = c.id and s.from_at <= ${o.now} and (s.to_at is null or s.to_at > ${o.now})) as "planId",
      (select count(*)::int4 from billaged.series v where v.customer_id = c.id) as vms,
      c.first_seen as "firstSeen"
    from billaged.customer c
    where c.id > ${o.after} and (${o.only}::text is null or c.id = ${o.only})
    order by c.id limit ${o.limit}`
}

export async function loadCustomer(sql: Sql, id: string, now: Date): Promise<CustomerRow | null> {
  const [row] = await listCustomers(sql, { after: '', limit: 1, only: id, now })
  return row ?? null
}

export async function updateCustomer(
  sql: Sql,
  id: string,
  patch: { name?: string | null | undefined; timeZone?: string | undefined; anchorDay?: number | undefined },
): Promise<boolean> {
  const rows = await sql`
    update billaged.customer set
      name = case when ${patch.name !== undefined} then ${patch.name ?? null} else name end,
      time_zone = coalesce(${patch.timeZone ?? null}, time_zone),
      anchor_day = coalesce(${patch.anchorDay ?? null}::int2, anchor_day)
    where id = ${id} returning 1`
  return rows.count > 0
}
