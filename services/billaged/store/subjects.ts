import { arrayLiteral, errorCode, type Queryable, type Sql, type Tx } from '#platform/postgres'

// Which customer an event's subject is of. Mapping a subject takes its events along, those before it too: usage follows
// from what is stored, so a corrected mapping corrects the next invoices.

export interface SubjectRow {
  key: string
  customerId: string
  displayName: string | null
  metadata: Record<string, unknown>
  createdAt: Date
  updatedAt: Date
}

/** Folding shares it, mapping holds it alone: no event slips in under a mapping that just ended. */
const subjectsLock = 7_150_230_251n

/** In the transaction that stores events. */
export async function shareSubjects(tx: Tx): Promise<void> {
  await tx`select pg_advisory_xact_lock_shared(${subjectsLock})`
}

/** Those of the keys that are mapped. */
export async function customersOfSubjects(sql: Queryable, keys: readonly string[]): Promise<Map<string, string>> {
  if (keys.length === 0) return new Map()
  const rows = await sql<{ key: string; customerId: string }[]>`
    select key, customer_id as "customerId" from billaged.subject where key = any (${arrayLiteral(keys)}::text::text[])`
  return new Map(rows.map(row => [row.key, row.customerId]))
}

export type MapOutcome = 'ok' | 'no_such_customer' | 'is_customer'

export async function mapSubject(
  sql: Sql,
  o: { key: string; customerId: string; displayName: string | null | undefined; metadata: object | undefined },
): Promise<MapOutcome> {
  return sql.begin(async tx => {
    await tx`select pg_advisory_xact_lock(${subjectsLock})`
    const before = (await customersOfSubjects(tx, [o.key])).get(o.key) ?? o.key
    const [customer] = await tx`select 1 from billaged.customer where id = ${o.customerId}`
    if (customer === undefined) return 'no_such_customer'
    const [taken] = await tx`
      select 1 where exists (select 1 from billaged.series where customer_id = ${o.key})
        or exists (select 1 from billaged.subscription where customer_id = ${o.key})
        or exists (select 1 from billaged.invoice where customer_id = ${o.key} and state <> 'draft')
        or exists (select 1 from billaged.credit_grant where customer_id = ${o.key})
        or exists (select 1 from billaged.subject where customer_id = ${o.key})
        or exists (select 1 from billaged.subject where key = ${o.customerId})`
    if (taken !== undefined) return 'is_customer'
    await tx`
      insert into billaged.subject as s (key, customer_id, display_name, metadata)
      values (${o.key}, ${o.customerId}, ${o.displayName ?? null}, ${JSON.stringify(o.metadata ?? {})}::text::jsonb)
      on conflict (key) do update set customer_id = excluded.customer_id, updated_at = now(),
        display_name = case when ${o.displayName !== undefined} then excluded.display_name else s.display_name end,
        metadata = case when ${o.metadata !== undefined} then excluded.metadata else s.metadata end`
    await moveEvents(tx, o.key, before, o.customerId)
    if (before === o.key) await forgetUnclaimed(tx, o.key)
    return 'ok'
  })
}

/** The subject is a customer's id again, unclaimed unless there is such a customer. */
export async function unmapSubject(sql: Sql, key: string): Promise<boolean> {
  return sql.begin(async tx => {
    await tx`select pg_advisory_xact_lock(${subjectsLock})`
    const [row] = await tx<{ customerId: string }[]>`
      delete from billaged.subject where key = ${key} returning customer_id as "customerId"`
    if (row === undefined) return false
    const [used] =
      await tx`select 1 from billaged.usage_event where subject = ${key} and customer_id = ${row.customerId} and subject <> customer_id limit 1`
    if (used !== undefined) {
      await tx`insert into billaged.customer (id) values (${key}) on conflict do nothing`
      await moveEvents(tx, key, row.customerId, key)
    }
    return true
  })
}

async function moveEvents(tx: Tx, subject: string, from: string, to: string) {
  if (from === to) return
  // By the customer's index, or by that of subjects under another name, which has just these.
  const where = from === subject ? tx`` : tx`and subject <> customer_id`
  await tx`
    update billaged.usage_event set customer_id = ${to} where subject = ${subject} and customer_id = ${from} ${where}`
  await tx`
    update billaged.quarantine set customer_id = ${to}
    where what = 'event' and customer_id = ${from} and payload ->> 'subject' = ${subject} and state = 'open'`
}

/** The unclaimed customer that the subject was, with the drafts that asked for a price; kept when anything else names it. */
async function forgetUnclaimed(tx: Tx, id: string) {
  await tx`delete from billaged.invoice where customer_id = ${id} and state = 'draft'`
  await tx
    .savepoint(async inner => {
      await inner`delete from billaged.customer where id = ${id}`
    })
    .catch((error: unknown) => {
      if (errorCode(error) !== '23503') throw error
    })
}

/** Customers and mapped subjects, by key. `only`: one customer's. */
export async function listSubjects(
  sql: Sql,
  o: { only: string | null; key: string | null; after?: string; limit: number },
): Promise<SubjectRow[]> {
  return sql<SubjectRow[]>`
    select key, customer_id as "customerId", display_name as "displayName", metadata, created_at as "createdAt",
      updated_at as "updatedAt"
    from (
      select key, customer_id, display_name, metadata, created_at, updated_at from billaged.subject
      union all
      select id, id, name, '{}'::jsonb, first_seen, first_seen from billaged.customer
    ) s
    where (${o.only}::text is null or customer_id = ${o.only}) and (${o.key}::text is null or key = ${o.key})
      and key > ${o.after ?? ''}
    order by key limit ${o.limit}`
}
