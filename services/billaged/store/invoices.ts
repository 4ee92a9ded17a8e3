import { createHash } from 'node:crypto'
import { arrayLiteral, type Queryable, type Sql } from '#platform/postgres'
import type { Blocker, Invoice, InvoiceLineView } from '../api.ts'
import type { Draft, InvoiceLine } from '../invoices/invoice.ts'
import { lineOf } from '../invoices/view.ts'
import { hourMs } from '../rating/periods.ts'
import type { Hours } from '../rating/rate.ts'

export interface InvoiceRow {
  id: string
  number: string | null
  seq: bigint | null
  customerId: string
  period: Hours
  revision: number
  state: Invoice['state']
  currency: string
  taxPpm: number | null
  totalNano: bigint | null
  dueMinor: bigint | null
  blockers: Blocker[]
  forced: Invoice['forced']
  issuedAt: Date | null
  voidedAt: Date | null
}

const columns = (sql: Queryable) => sql`
  id, number, seq, customer_id as "customerId", from_at as "from", to_at as "to", revision, state, currency,
  tax_ppm as "taxPpm", total_nano::text as total, due_minor::text as due, blockers, forced, issued_at as "issuedAt",
  voided_at as "voidedAt"`

type Row = Omit<InvoiceRow, 'period' | 'totalNano' | 'dueMinor'> & {
  from: Date
  to: Date
  total: string | null
  due: string | null
}

function toInvoice({ from, to, total, due, ...row }: Row): InvoiceRow {
  return {
    ...row,
    period: { from: from.getTime() / hourMs, to: to.getTime() / hourMs },
    totalNano: total === null ? null : BigInt(total),
    dueMinor: due === null ? null : BigInt(due),
  }
}

export async function loadInvoice(sql: Queryable, id: string): Promise<InvoiceRow | null> {
  const [row] = await sql<Row[]>`select ${columns(sql)} from billaged.invoice where id = ${id}`
  return row === undefined ? null : toInvoice(row)
}

export async function invoiceOfLine(sql: Queryable, lineId: string): Promise<InvoiceRow | null> {
  const [row] = await sql<Row[]>`
    select ${columns(sql)} from billaged.invoice
    where id = (select invoice_id from billaged.invoice_line where id = ${lineId})`
  return row === undefined ? null : toInvoice(row)
}

export interface InvoiceFilter {
  customerId: string | null
  state: string | null
  /** Starting in [from, to), Unix ms. */
  startMs: { from: number; to: number } | null
  /** Newest periods first; the last id of the page before. */
  cursor: { startMs: number; id: string } | null
  /** Those that were written by then, in the state they were in. */
  asOf?: Date
  limit: number
}

export async function listInvoices(sql: Sql, o: InvoiceFilter): Promise<InvoiceRow[]> {
  const { asOf } = o
  const state = asOf === undefined ? sql`state` : sql`case when voided_at <= ${asOf} then 'void' else 'finalised' end`
  const rows = await sql<Row[]>`
    select ${columns(sql)} from billaged.invoice
    where (${o.customerId}::text is null or customer_id = ${o.customerId})
      and (${o.state}::text is null or ${state} = ${o.state})
      ${asOf === undefined ? sql`` : sql`and issued_at <= ${asOf}`}
      ${o.startMs === null ? sql`` : sql`and from_at >= ${new Date(o.startMs.from)} and from_at < ${new Date(o.startMs.to)}`}
      ${o.cursor === null ? sql`` : sql`and (from_at, id) < (${new Date(o.cursor.startMs)}, ${o.cursor.id})`}
    order by from_at desc, id desc limit ${o.limit}`
  const wasVoid = (row: Row) => asOf !== undefined && row.voidedAt !== null && row.voidedAt <= asOf
  return rows.map(row => toInvoice(asOf === undefined ? row : { ...row, state: wasVoid(row) ? 'void' : 'finalised' }))
}

/** Whether each of some invoices has its receipt. */
export async function hasReceipts(sql: Queryable, ids: readonly string[]): Promise<boolean> {
  const [row] = await sql<{ count: number }[]>`
    select count(distinct invoice_id)::int4 as count from billaged.receipt
    where invoice_id = any(${arrayLiteral(ids)}::text::text[])`
  return row?.count === ids.length
}

/** The finalised invoices of a customer, oldest period first. */
export async function finalisedOf(sql: Queryable, customerId: string, asOf?: Date): Promise<InvoiceRow[]> {
  const rows = await sql<Row[]>`
    select ${columns(sql)} from billaged.invoice i
    where customer_id = ${customerId} and ${wasFinalised(sql, asOf)} order by from_at, id`
  return rows.map(toInvoice)
}

/** Now, or at an earlier time. */
function wasFinalised(sql: Queryable, asOf: Date | undefined) {
  return asOf === undefined
    ? sql`i.state = 'finalised'`
    : sql`(i.issued_at <= ${asOf} and (i.voided_at is null or i.voided_at > ${asOf}))`
}

/** Since when there is an invoice of this revision: the earlier one of the period was made void. Null: always. */
export async function revisionSince(
  sql: Queryable,
  { customerId, period, revision }: InvoiceRow,
): Promise<Date | null> {
  const [row] = await sql<{ at: Date | null }[]>`
    select max(voided_at) as at from billaged.invoice
    where customer_id = ${customerId} and from_at = ${new Date(period.from * hourMs)} and revision < ${revision}`
  return row?.at ?? null
}

/** The living invoice of a period, or the revision that its next one will have. */
export async function loadLiving(
  sql: Queryable,
  customerId: string,
  period: Hours,
): Promise<{ living: InvoiceRow | null; nextRevision: number }> {
  const rows = await sql<Row[]>`
    select ${columns(sql)} from billaged.invoice
    where customer_id = ${customerId} and from_at = ${new Date(period.from * hourMs)} order by revision`
  const living = rows.find(row => row.state !== 'void')
  const voids = rows.filter(row => row.state === 'void').length
  return { living: living === undefined ? null : toInvoice(living), nextRevision: living?.revision ?? voids }
}

export async function loadLines(sql: Queryable, invoiceId: string): Promise<InvoiceLine[]> {
  const rows = await sql<{ body: InvoiceLineView }[]>`
    select body from billaged.invoice_line where invoice_id = ${invoiceId} order by ordinal`
  return rows.map(row => lineOf(row.body))
}

/** Corrections of periods that begin in a span, in the order of their invoices. */
export async function listAdjustments(sql: Queryable, customerId: string, span: { fromMs: number; toMs: number }) {
  const rows = await sql<{ number: string | null; invoiceId: string; periodFrom: Date; line: AdjustmentLine }[]>`
    select i.number, i.id as "invoiceId", l.adjusts_from as "periodFrom", l.body as line
    from billaged.invoice_line l join billaged.invoice i on i.id = l.invoice_id
    where i.customer_id = ${customerId} and i.state = 'finalised' and l.kind = 'adjustment'
      and l.adjusts_from >= ${new Date(span.fromMs)} and l.adjusts_from < ${new Date(span.toMs)}
    order by i.seq, l.ordinal limit 1000`
  return rows.map(({ line, periodFrom, ...row }) => ({
    ...row,
    lineId: line.id,
    adjusts: line.adjusts,
    periodFrom: periodFrom.toISOString(),
    meter: line.meter,
    amountNano: line.amountNano,
    cause: line.cause,
  }))
}

type AdjustmentLine = Pick<InvoiceLineView, 'id' | 'cause' | 'adjusts' | 'meter' | 'amountNano'>

/** What has been billed for a period: the rated lines of its invoice, and later corrections of any line of it. */
export async function loadBilled(sql: Queryable, invoice: InvoiceRow, asOf?: Date): Promise<InvoiceLine[]> {
  const rows = await sql<{ body: InvoiceLineView }[]>`
    select l.body from billaged.invoice_line l join billaged.invoice i on i.id = l.invoice_id
    where i.customer_id = ${invoice.customerId} and ${wasFinalised(sql, asOf)} and (
      (l.invoice_id = ${invoice.id} and l.kind in ('usage', 'flat', 'minimum'))
      or (l.kind = 'adjustment' and l.adjusts_from = ${new Date(invoice.period.from * hourMs)})
    )
    order by i.seq, l.ordinal`
  return rows.map(row => lineOf(row.body))
}

/** Remembers that an invoice is still a draft, and why. */
export async function saveDraft(
  sql: Queryable,
  draft: { id: string; customerId: string; period: Hours; revision: number; currency: string },
  blockers: readonly Blocker[],
): Promise<void> {
  await sql`
    insert into billaged.invoice (id, customer_id, from_at, to_at, revision, state, currency, blockers)
    values (${draft.id}, ${draft.customerId}, ${new Date(draft.period.from * hourMs)},
      ${new Date(draft.period.to * hourMs)}, ${draft.revision}, 'draft', ${draft.currency},
      ${JSON.stringify(blockers)}::text::jsonb)
    on conflict (id) do update set blockers = excluded.blockers, currency = excluded.currency
    where billaged.invoice.state = 'draft'`
}

/** The next number of the installation; the lock on it is held until the transaction ends. */
export async function takeNumber(tx: Queryable): Promise<bigint> {
  const [row] = await tx<{ seq: bigint }[]>`
    update billaged.invoice_counter set next = next + 1 returning next - 1 as seq`
  if (row === undefined) throw new Error('BUG: the counter has one row')
  return row.seq
}

/** The number that would be taken now; nothing keeps others from taking it. */
export async function nextNumber(sql: Queryable): Promise<bigint> {
  const [row] = await sql<{ seq: bigint }[]>`select next as seq from billaged.invoice_counter`
  if (row === undefined) throw new Error('BUG: the counter has one row')
  return row.seq
}

export interface FinalInvoice {
  draft: Draft
  /** As they are shown. */
  lines: readonly InvoiceLineView[]
  seq: bigint
  number: string
  forced: Invoice['forced']
  issuedAt: Date
}

export async function insertFinal(
  tx: Queryable,
  { draft, lines, seq, number, forced, issuedAt }: FinalInvoice,
): Promise<void> {
  await tx`
    insert into billaged.invoice
      (id, customer_id, from_at, to_at, revision, state, seq, number, currency, tax_ppm, total_nano, due_minor, forced,
       issued_at)
    values (${draft.id}, ${draft.customerId}, ${new Date(draft.period.from * hourMs)},
      ${new Date(draft.period.to * hourMs)}, ${draft.revision}, 'finalised', ${seq}, ${number}, ${draft.currency},
      ${draft.taxPpm}, ${`${draft.totalNano}`}, ${`${draft.dueMinor}`},
      ${forced === null ? null : JSON.stringify(forced)}::text::jsonb, ${issuedAt})
    on conflict (id) do update set
      state = excluded.state, seq = excluded.seq, number = excluded.number, currency = excluded.currency,
      tax_ppm = excluded.tax_ppm, total_nano = excluded.total_nano, due_minor = excluded.due_minor, blockers = '[]',
      forced = excluded.forced, issued_at = excluded.issued_at`
  for (const [ordinal, line] of lines.entries())
    await tx`
      insert into billaged.invoice_line
        (id, invoice_id, ordinal, kind, price_id, meter, amount_nano, adjusts, adjusts_from, body)
      values (${line.id}, ${draft.id}, ${ordinal}, ${line.kind}, ${line.priceId}, ${line.meter},
        ${line.amountNano}, ${line.adjusts},
        ${line.adjustsPeriod === null ? null : new Date(line.adjustsPeriod.from)},
        ${JSON.stringify(line)}::text::jsonb)`
}

export type DocumentFormat = 'json' | 'csv' | 'html' | 'pdf'

export async function insertDocument(
  tx: Queryable,
  o: { invoiceId: string; format: DocumentFormat; body: Buffer },
): Promise<void> {
  await tx`
    insert into billaged.invoice_document (invoice_id, format, sha256, body)
    values (${o.invoiceId}, ${o.format}, ${sha256(o.body)}, ${o.body})`
}

export async function loadDocument(
  sql: Queryable,
  invoiceId: string,
  format: DocumentFormat,
): Promise<{ body: Buffer; sha256: Buffer } | null> {
  const [row] = await sql<{ body: Buffer; sha256: Buffer }[]>`
    select body, sha256 from billaged.invoice_document where invoice_id = ${invoiceId} and format = ${format}`
  return row ?? null
}

export function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest()
}

export async function insertEvidence(
  tx: Queryable,
  invoiceId: string,
  row: { vmId: string; hours: number; body: Buffer },
): Promise<void> {
  await tx`
    insert into billaged.invoice_evidence (invoice_id, vm_id, hours, body)
    values (${invoiceId}, ${row.vmId}, ${row.hours}, ${row.body})`
}

/** A VM at a time, in the order of the leaves; the events' row last. */
export async function* readEvidence(sql: Sql, invoiceId: string): AsyncIterable<{ vmId: string; body: Buffer }> {
  const rows = sql<{ vmId: string; body: Buffer }[]>`
    select vm_id as "vmId", body from billaged.invoice_evidence
    where invoice_id = ${invoiceId} order by vm_id = '', vm_id collate "C"`.cursor(16)
  for await (const page of rows) yield* page
}

/** Void keeps its number; its period gets a new draft of the next revision. */
export async function markVoid(tx: Queryable, id: string, reason: string, at: Date): Promise<void> {
  await tx`
    update billaged.invoice set state = 'void', voided_at = ${at}, void_reason = ${reason}
    where id = ${id} and state = 'finalised'`
}
