import type { Queryable, Sql, Tx } from '#platform/postgres'
import { hourMs } from '../rating/periods.ts'
import type { Hours } from '../rating/rate.ts'

export interface StripeInvoiceRow {
  customerId: string
  invoiceId: string
  stripeId: string
  status: string | null
  attempts: number
  /** Ours. */
  state: 'draft' | 'finalised' | 'void'
  currency: string
  dueMinor: bigint | null
}

/** The longest that one push may hold its customer. */
export async function holdCustomer<T>(sql: Sql, customerId: string, work: (tx: Tx) => Promise<T>): Promise<T> {
  const held = await sql.begin(async tx => {
    // One writer per customer, over all replicas: what two of them post could not be put in order.
    await tx`select pg_advisory_xact_lock(hashtextextended(${`stripe ${customerId}`}, 0))`
    return { value: await work(tx) }
  })
  return held.value
}

export async function stripeCustomerOf(sql: Queryable, customerId: string): Promise<string | null> {
  const [row] = await sql<{ id: string | null }[]>`
    select stripe_customer_id as id from billaged.customer where id = ${customerId}`
  return row?.id ?? null
}

export async function setStripeCustomer(sql: Sql, customerId: string, stripeId: string | null): Promise<void> {
  await sql`update billaged.customer set stripe_customer_id = ${stripeId} where id = ${customerId}`
}

/** Customers that Stripe knows, in the order of their ids. */
export async function listStripeCustomers(
  sql: Sql,
  after: string,
  limit: number,
): Promise<{ id: string; stripeId: string; anchorDay: number; intervalMonths: number }[]> {
  return sql<{ id: string; stripeId: string; anchorDay: number; intervalMonths: number }[]>`
    select id, stripe_customer_id as "stripeId", anchor_day::int4 as "anchorDay", interval_months::int4 as "intervalMonths"
    from billaged.customer where stripe_customer_id is not null and id > ${after} order by id limit ${limit}`
}

export async function noteInvoice(
  sql: Queryable,
  o: { customerId: string; period: Hours; invoiceId: string; stripeId: string; status: string; now: Date },
): Promise<void> {
  await sql`
    insert into billaged.stripe_push (customer_id, period_from, object, kind, stripe_id, status, next_at, updated_at)
    values (${o.customerId}, ${new Date(o.period.from * hourMs)}, ${o.invoiceId}, 'invoice', ${o.stripeId}, ${o.status},
      ${o.now}, ${o.now})
    on conflict (customer_id, period_from, object) do update
    set stripe_id = excluded.stripe_id, status = excluded.status, problem = null, attempts = 0, next_at = excluded.next_at,
      updated_at = excluded.updated_at`
}

/** Invoices whose two sides may not agree yet, those that waited longest first. */
export async function dueInvoices(sql: Sql, now: Date, limit: number): Promise<StripeInvoiceRow[]> {
  const rows = await sql<(Omit<StripeInvoiceRow, 'dueMinor'> & { dueMinor: string | null })[]>`
    select ${invoiceColumns(sql)}
    from billaged.stripe_push p join billaged.invoice i on i.id = p.object
    where p.kind = 'invoice' and p.stripe_id is not null
      -- One that is void here must not be paid there meanwhile.
      and (p.next_at <= ${now} or (i.state = 'void' and p.problem is null)) and i.state <> 'draft'
      and not (i.state = 'finalised' and p.status in ('paid', 'void', 'uncollectible', 'deleted'))
      and not (i.state = 'void' and p.status in ('void', 'deleted'))
    order by p.next_at limit ${limit}`
  return rows.map(toInvoiceRow)
}

export async function findStripeInvoice(sql: Sql, stripeId: string): Promise<StripeInvoiceRow | null> {
  const [row] = await sql<(Omit<StripeInvoiceRow, 'dueMinor'> & { dueMinor: string | null })[]>`
    select ${invoiceColumns(sql)} from billaged.stripe_push p join billaged.invoice i on i.id = p.object
    where p.kind = 'invoice' and p.stripe_id = ${stripeId}`
  return row === undefined ? null : toInvoiceRow(row)
}

const invoiceColumns = (sql: Sql) => sql`
  p.customer_id as "customerId", p.object as "invoiceId", p.stripe_id as "stripeId", p.status, p.attempts, i.state,
  i.currency, i.due_minor::text as "dueMinor"`

function toInvoiceRow(row: Omit<StripeInvoiceRow, 'dueMinor'> & { dueMinor: string | null }): StripeInvoiceRow {
  return { ...row, dueMinor: row.dueMinor === null ? null : BigInt(row.dueMinor) }
}

/** What Stripe says of an invoice, or why it could not be asked. */
export async function noteStatus(
  sql: Queryable,
  invoiceId: string,
  o: { status: string } | { problem: string },
  nextAt: Date,
): Promise<void> {
  await sql`
    update billaged.stripe_push set next_at = ${nextAt}, updated_at = now(),
      status = ${'status' in o ? o.status : sql`status`}, problem = ${'problem' in o ? o.problem : null},
      attempts = ${'problem' in o ? sql`attempts + 1` : 0}
    where kind = 'invoice' and object = ${invoiceId}`
}

export interface PostedTotal {
  value: bigint
  postedAt: Date
  isFinal: boolean
}

export async function loadPosted(sql: Queryable, customerId: string, period: Hours): Promise<Map<string, PostedTotal>> {
  const rows = await sql<{ object: string; value: string; postedAt: Date; isFinal: boolean }[]>`
    select object, value::text, posted_at as "postedAt", is_final as "isFinal" from billaged.stripe_push
    where kind = 'meter' and customer_id = ${customerId} and period_from = ${new Date(period.from * hourMs)}`
  return new Map(rows.map(({ object, value, ...row }) => [object, { ...row, value: BigInt(value) }]))
}

export async function notePosted(
  sql: Queryable,
  o: { customerId: string; period: Hours; meter: string } & PostedTotal,
): Promise<void> {
  await sql`
    insert into billaged.stripe_push (customer_id, period_from, object, kind, value, posted_at, is_final, next_at)
    values (${o.customerId}, ${new Date(o.period.from * hourMs)}, ${o.meter}, 'meter', ${`${o.value}`}::text::numeric,
      ${o.postedAt}, ${o.isFinal}, ${o.postedAt})
    on conflict (customer_id, period_from, object) do update
    set value = excluded.value, posted_at = excluded.posted_at, is_final = excluded.is_final, updated_at = now()`
}

/** Newest first. `after`: the last one of the page before. */
export async function listPushes(
  sql: Sql,
  o: {
    customerId: string | null
    after: { updatedAt: string; customerId: string; object: string; periodFrom: string } | null
    limit: number
  },
) {
  const rows = await sql<
    {
      customerId: string
      periodFrom: Date
      kind: string
      object: string
      stripeId: string | null
      status: string | null
      value: string | null
      problem: string | null
      updatedAt: Date
    }[]
  >`
    select customer_id as "customerId", period_from as "periodFrom", kind, object, stripe_id as "stripeId", status,
      value::text, problem, updated_at as "updatedAt"
    from (select *, date_trunc('milliseconds', updated_at) as at from billaged.stripe_push) p
    where (${o.customerId}::text is null or customer_id = ${o.customerId})
      ${o.after === null ? sql`` : sql`and (at < ${o.after.updatedAt}::timestamptz or (at = ${o.after.updatedAt}::timestamptz and (customer_id, object, period_from) > (${o.after.customerId}, ${o.after.object}, ${o.after.periodFrom}::timestamptz)))`}
    order by at desc, customer_id, object, period_from limit ${o.limit}`
  return rows.map(row => ({
    ...row,
    periodFrom: row.periodFrom.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
  }))
}
