import type { Sql } from '#platform/postgres'

export interface CustomerRow {
  id: string
  name: string | null
  currency: string
  timeZone: string
  anchorDay: number
  intervalMonths: number
  taxPpm: number
  taxName: string | null
  address: string[]
  taxId: string | null
  budgetNano: string | null
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
      c.interval_months::int4 as "intervalMonths", c.tax_ppm as "taxPpm", c.tax_name as "taxName",
      c.address, c.tax_id as "taxId",
      c.budget_nano::text as "budgetNano",
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

export async function ensureCustomer(sql: Sql, id: string): Promise<void> {
  await sql`insert into billaged.customer (id) values (${id}) on conflict do nothing`
}

export interface CustomerPatch {
  name?: string | null | undefined
  timeZone?: string | undefined
  anchorDay?: number | undefined
  intervalMonths?: number | undefined
  taxPpm?: number | undefined
  taxName?: string | null | undefined
  address?: string[] | undefined
  taxId?: string | null | undefined
  budgetNano?: string | null | undefined
}

/** `cycle_in_use`: an invoice was written by the old billing days; moving them would bill days twice or never. */
export async function updateCustomer(sql: Sql, id: string, patch: CustomerPatch): Promise<'ok' | 'cycle_in_use'> {
  return sql.begin(async tx => {
    const [row] = await tx<{ anchorDay: number; intervalMonths: number }[]>`
      select anchor_day::int4 as "anchorDay", interval_months::int4 as "intervalMonths" from billaged.customer
      where id = ${id} for no key update`
    const isMoved =
      (patch.anchorDay ?? row?.anchorDay) !== row?.anchorDay ||
      (patch.intervalMonths ?? row?.intervalMonths) !== row?.intervalMonths
    if (isMoved) {
      const written = await tx`select 1 from billaged.invoice where customer_id = ${id} and state <> 'draft' limit 1`
      if (written.count > 0) return 'cycle_in_use'
      await tx`delete from billaged.invoice where customer_id = ${id} and state = 'draft'`
    }
    await tx`
      update billaged.customer set
        name = case when ${patch.name !== undefined} then ${patch.name ?? null} else name end,
        time_zone = coalesce(${patch.timeZone ?? null}, time_zone),
        anchor_day = coalesce(${patch.anchorDay ?? null}::int2, anchor_day),
        interval_months = coalesce(${patch.intervalMonths ?? null}::int2, interval_months),
        tax_ppm = coalesce(${patch.taxPpm ?? null}::int4, tax_ppm),
        budget_set_at = case when ${patch.budgetNano !== undefined} then now() else budget_set_at end,
        budget_nano = case when ${patch.budgetNano !== undefined} then ${patch.budgetNano ?? null}::text::numeric else budget_nano end,
        address = coalesce(${patch.address ?? null}::text[], address),
        tax_id = case when ${patch.taxId !== undefined} then ${patch.taxId ?? null} else tax_id end,
        tax_name = case when ${patch.taxName !== undefined} then ${patch.taxName ?? null} else tax_name end
      where id = ${id}`
    return 'ok'
  })
}
