import type { Queryable, Sql } from '#platform/postgres'

export interface ReceiptRow {
  customerId: string
  seq: number
  invoiceId: string
  prevHash: Buffer
  hash: Buffer
  signature: Buffer
  /** Canonical JSON, as hashed and signed. */
  body: string
}

export async function lastReceipt(tx: Queryable, customerId: string): Promise<{ seq: number; hash: Buffer } | null> {
  const [row] = await tx<{ seq: number; hash: Buffer }[]>`
    select seq, hash from billaged.receipt where customer_id = ${customerId} order by seq desc limit 1`
  return row ?? null
}

export async function insertReceipt(tx: Queryable, row: ReceiptRow): Promise<void> {
  await tx`
    insert into billaged.receipt (customer_id, seq, invoice_id, prev_hash, hash, signature, body)
    values (${row.customerId}, ${row.seq}, ${row.invoiceId}, ${row.prevHash}, ${row.hash}, ${row.signature}, ${row.body})`
}

export async function loadReceipt(sql: Queryable, invoiceId: string): Promise<ReceiptRow | null> {
  const [row] = await sql<ReceiptRow[]>`
    select customer_id as "customerId", seq, invoice_id as "invoiceId", prev_hash as "prevHash", hash, signature, body
    from billaged.receipt where invoice_id = ${invoiceId}`
  return row ?? null
}

/** Every receipt, chain by chain. */
export async function* readReceipts(sql: Sql): AsyncIterable<ReceiptRow> {
  const rows = sql<ReceiptRow[]>`
    select customer_id as "customerId", seq, invoice_id as "invoiceId", prev_hash as "prevHash", hash, signature, body
    from billaged.receipt order by customer_id, seq`.cursor(100)
  for await (const page of rows) yield* page
}
