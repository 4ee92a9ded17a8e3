import type { Queryable, Sql } from '#platform/postgres'
import type { CreditBalance, CreditKind } from '../invoices/credits.ts'

export interface CreditGrant extends CreditBalance {
  customerId: string
  amountNano: bigint
  note: string | null
  sourceInvoiceId: string | null
  /** Where the period begins whose outages it is for. */
  outageFromMs: number | null
}

/** False when there is one of this id: the same request, sent again. */
export async function insertGrant(sql: Queryable, grant: Omit<CreditGrant, 'leftNano'>): Promise<boolean> {
  const made = await sql`
    insert into billaged.credit_grant
      (id, customer_id, kind, currency, amount_nano, priority, from_at, expires_at, note, source_invoice_id,
       outage_from, created_at)
    values (${grant.id}, ${grant.customerId}, ${grant.kind}, ${grant.currency}, ${`${grant.amountNano}`},
      ${grant.priority}, ${new Date(grant.fromMs)}, ${grant.expiresMs === null ? null : new Date(grant.expiresMs)},
      ${grant.note}, ${grant.sourceInvoiceId},
      ${grant.outageFromMs === null ? null : new Date(grant.outageFromMs)}, ${new Date(grant.createdMs)})
    on conflict do nothing returning 1`
  if (made.count === 0) return false
  await insertEntry(sql, { ...grant, grantId: grant.id, kind: 'grant', invoiceId: null, atMs: grant.createdMs })
  return true
}

interface Entry {
  grantId: string
  kind: 'grant' | 'burn' | 'return' | 'revoke'
  /** Signed: burns and revocations are negative. */
  amountNano: bigint
  invoiceId: string | null
  atMs: number
}

export async function insertEntry(sql: Queryable, entry: Entry): Promise<void> {
  await sql`
    insert into billaged.credit_entry (grant_id, kind, amount_nano, invoice_id, at)
    values (${entry.grantId}, ${entry.kind}, ${`${entry.amountNano}`}, ${entry.invoiceId}, ${new Date(entry.atMs)})`
}

/** All that something is left of, oldest first. In a transaction that holds the customer's row, what is left stays left
 *  until it ends. */
export async function loadGrants(sql: Queryable, customerId: string, asOf?: Date): Promise<CreditGrant[]> {
  const then = asOf === undefined ? sql`` : sql`and g.created_at <= ${asOf}`
  const rows = await sql<GrantRow[]>`
    select * from (select ${columns(sql, asOf)} from billaged.credit_grant g where g.customer_id = ${customerId} ${then}) g
    where g."left" <> '0' order by g.created, g.id`
  return rows.map(toGrant)
}

/** Spent ones too. `after`: the last one of the page before. */
export async function listGrants(
  sql: Queryable,
  o: { customerId: string | null; id: string | null; after: { at: Date; id: string } | null; limit: number },
): Promise<CreditGrant[]> {
  const rows = await sql<GrantRow[]>`
    select ${columns(sql)} from billaged.credit_grant g
    where (${o.customerId}::text is null or g.customer_id = ${o.customerId}) and (${o.id}::text is null or g.id = ${o.id})
      ${o.after === null ? sql`` : sql`and (g.created_at, g.id) > (${o.after.at}, ${o.after.id})`}
    order by g.created_at, g.id limit ${o.limit}`
  return rows.map(toGrant)
}

const columns = (sql: Queryable, asOf?: Date) => sql`
  g.id, g.customer_id as "customerId", g.kind, g.currency, g.amount_nano::text as amount, g.priority,
  g.from_at as "from", g.expires_at as expires, g.note, g.source_invoice_id as "sourceInvoiceId",
  g.outage_from as outage,
  g.created_at as created,
  (select coalesce(sum(e.amount_nano), 0)::text from billaged.credit_entry e where e.grant_id = g.id
    ${asOf === undefined ? sql`` : sql`and e.at <= ${asOf}`}) as "left"`

function toGrant({ amount, left, from, expires, created, outage, ...row }: GrantRow): CreditGrant {
  return {
    ...row,
    amountNano: BigInt(amount),
    leftNano: BigInt(left),
    fromMs: from.getTime(),
    expiresMs: expires?.getTime() ?? null,
    createdMs: created.getTime(),
    outageFromMs: outage?.getTime() ?? null,
  }
}

interface GrantRow {
  id: string
  customerId: string
  kind: CreditKind
  currency: string
  amount: string
  left: string
  priority: number
  from: Date
  expires: Date | null
  note: string | null
  sourceInvoiceId: string | null
  outage: Date | null
  created: Date
}

/** Gives back what an invoice burned, and takes the credit it made. False when that one is partly spent already. */
export async function returnCredits(sql: Queryable, invoiceId: string, atMs: number): Promise<boolean> {
  const made = await sql<{ id: string; amount: string; left: string }[]>`
    select g.id, g.amount_nano::text as amount,
      (select sum(e.amount_nano)::text from billaged.credit_entry e where e.grant_id = g.id) as "left"
    from billaged.credit_grant g where g.source_invoice_id = ${invoiceId}`
  for (const { id, amount, left } of made) {
    if (amount !== left) return false
    await insertEntry(sql, { grantId: id, kind: 'revoke', amountNano: -BigInt(amount), invoiceId, atMs })
  }
  const burned = await sql<{ grantId: string; amount: string }[]>`
    select grant_id as "grantId", amount_nano::text as amount from billaged.credit_entry
    where invoice_id = ${invoiceId} and kind = 'burn'`
  for (const { grantId, amount } of burned)
    await insertEntry(sql, { grantId, kind: 'return', amountNano: -BigInt(amount), invoiceId, atMs })
  return true
}

/** Grants whose entries sum below zero; there are none, and `verify` says so. */
export async function overdrawnGrants(sql: Sql): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    select grant_id as id from billaged.credit_entry group by grant_id having sum(amount_nano) < 0`
  return rows.map(row => row.id)
}
