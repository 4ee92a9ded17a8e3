import type { Queryable, Sql } from '#platform/postgres'

export interface QuarantineRow {
  id: bigint
  what: 'sample' | 'event' | 'mark'
  customerId: string | null
  vmId: string | null
  reason: string
  state: 'open' | 'released' | 'discarded'
  receivedAt: Date
  /** JSON text: reading it as JSON would round what a sender counted. */
  payload: string
}

const columns = (sql: Queryable) => sql`
  quarantine_id as id, what, customer_id as "customerId", vm_id as "vmId", reason, state, received_at as "receivedAt",
  payload::text as payload`

export async function listQuarantine(
  sql: Sql,
  o: { customerId: string | null; state: string; after: bigint; limit: number },
): Promise<QuarantineRow[]> {
  return sql<QuarantineRow[]>`
    select ${columns(sql)} from billaged.quarantine
    where quarantine_id > ${o.after} and state = ${o.state}
      and (${o.customerId}::text is null or customer_id = ${o.customerId})
    order by quarantine_id limit ${o.limit}`
}

export async function loadQuarantine(sql: Queryable, id: bigint): Promise<QuarantineRow | null> {
  const [row] = await sql<QuarantineRow[]>`
    select ${columns(sql)} from billaged.quarantine where quarantine_id = ${id}`
  return row ?? null
}

/** False when somebody else has decided already. */
export async function decideQuarantine(sql: Queryable, id: bigint, state: 'released' | 'discarded'): Promise<boolean> {
  const rows = await sql`
    update billaged.quarantine set state = ${state} where quarantine_id = ${id} and state = 'open' returning 1`
  return rows.count > 0
}
