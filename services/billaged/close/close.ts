import { deflateSync } from 'node:zlib'
import { Problem } from '#platform/http'
import type { Queryable } from '#platform/postgres'
import { announceInvoice } from '../alerts/announcements.ts'
import type { Blocker, CloseReport, Invoice } from '../api.ts'
import { grantId, invoiceId } from '../invoices/ids.ts'
import type { Draft } from '../invoices/invoice.ts'
import { firstHash, receiptBody, sealReceipt } from '../invoices/receipt.ts'
import { formats, render } from '../invoices/render.ts'
import type { Attached, Proof } from '../invoices/sheet.ts'
import { invoiceView } from '../invoices/view.ts'
import { hourMs, monthOf, periodStartingIn } from '../rating/periods.ts'
import type { Hours } from '../rating/rate.ts'
import { insertEntry, insertGrant, returnCredits } from '../store/credits.ts'
import { type CustomerRow, listCustomers, loadCustomer } from '../store/customers.ts'
import { type ProvenPeriod, provePeriod } from '../store/evidence.ts'
import {
  type InvoiceRow,
  insertDocument,
  insertEvidence,
  insertFinal,
  loadInvoice,
  loadLiving,
  markVoid,
  nextNumber,
  saveDraft,
  takeNumber,
} from '../store/invoices.ts'
import { insertReceipt, lastReceipt } from '../store/receipts.ts'
import { expiredHourOf } from '../store/retention.ts'
import { partiesOf, pricesOf, unitsOf } from './attach.ts'
import type { CloseBy, CloseContext } from './context.ts'
import { customerBlockers, foldingBlockers, forcible, isBillable, ratingBlockers } from './gate.ts'
import { draftOf, type Prepared, prepare, prepareAsOf } from './prepare.ts'

// Closing a period: gate → measure and rate → one transaction that gives the number and writes invoice, lines,
// documents, credits, receipt and audit. A crash before its commit leaves nothing; after it, closing again finds it.

export type Outcome =
  | { kind: 'finalised'; id: string }
  | { kind: 'ready'; draft: Draft }
  | { kind: 'blocked'; id: string; reasons: Blocker[] }
  /** Nobody subscribed, nothing used, nothing to correct. */
  | { kind: 'nothing' }

export async function closeMonth(
  o: CloseContext,
  request: { month: string; customers: readonly string[] | null; dryRun: boolean; by: CloseBy },
): Promise<CloseReport> {
  const { month, dryRun, by } = request
  const report: CloseReport = { period: month, dryRun, ready: [], finalised: [], blocked: [] }
  const folding = await foldingBlockers(o)
  for await (const customer of customersOf(o, request.customers)) {
    const period = periodStartingIn(customer, month)
    if (period === null) continue
    const outcome = await closeSafely(o, { customer, period, folding, dryRun, by })
    switch (outcome.kind) {
      case 'finalised':
        report.finalised.push(outcome.id)
        break
      case 'ready': {
        const { id, currency, totalNano, dueMinor } = outcome.draft
        const money = { currency, totalNano: `${totalNano}`, dueMinor: `${dueMinor}` }
        report.ready.push({ customerId: customer.id, invoiceId: id, ...money })
        break
      }
      case 'blocked':
        report.blocked.push({ customerId: customer.id, invoiceId: outcome.id, reasons: outcome.reasons })
        break
      case 'nothing':
        break
      default:
        outcome satisfies never
    }
  }
  return report
}

interface CloseRequest {
  customer: CustomerRow
  period: Hours
  folding: readonly Blocker[]
  dryRun: boolean
  by: CloseBy
}

/** One customer that fails does not keep the others open. */
async function closeSafely(o: CloseContext, request: CloseRequest): Promise<Outcome> {
  try {
    return await closePeriod(o, request)
  } catch (error) {
    const { customer, period } = request
    o.log.error({ err: error, customerId: customer.id, period }, 'closing failed; the invoice stays a draft')
    const detail = error instanceof Error ? error.message : String(error)
    const { living, nextRevision } = await loadLiving(o.sql, customer.id, period)
    const id = living?.id ?? invoiceId(customer.id, period, nextRevision)
    return { kind: 'blocked', id, reasons: [{ code: 'failed', detail, fix: 'see the log, then close again' }] }
  }
}

export async function closePeriod(o: CloseContext, request: CloseRequest): Promise<Outcome> {
  const { customer, period, folding, dryRun, by } = request
  for (;;) {
    const { living, nextRevision } = await loadLiving(o.sql, customer.id, period)
    if (living?.state === 'finalised') return { kind: 'finalised', id: living.id }
    if (!(await isBillable(o, customer.id, period))) return { kind: 'nothing' }
    const blockers = [...folding, ...(await customerBlockers(o, customer, period))]
    const canBeClosed = !dryRun && blockers.every(blocker => isForced(blocker, by))
    // The evidence is only made for what will be written.
    const proof = canBeClosed ? { proven: undefined as ProvenPeriod | undefined } : null
    const prepared = await prepare(
      o,
      customer,
      period,
      proof === null
        ? undefined
        : async planned => (proof.proven = await provePeriod(o.reader, o.meters, o.rules, customer.id, planned)),
    )
    blockers.push(...ratingBlockers(customer.id, period, prepared.priced))
    const draft = await draftOf(o.sql, prepared, nextRevision)
    if (draft === 'changed') continue
    const hindering = blockers.filter(blocker => !isForced(blocker, by))
    if (hindering.length > 0) {
      if (!dryRun) await saveDraft(o.sql, draft, hindering)
      return { kind: 'blocked', id: draft.id, reasons: hindering }
    }
    if (dryRun) return { kind: 'ready', draft }
    const failure = (await o.push?.(draft)) ?? null
    if (failure !== null) {
      const fix = `mend it, then billaged close ${monthOf(period)} --customer ${customer.id}`
      const reasons: Blocker[] = [{ code: 'push_failed', detail: failure, fix }]
      await saveDraft(o.sql, draft, reasons)
      return { kind: 'blocked', id: draft.id, reasons }
    }
    if (proof?.proven === undefined) throw new Error('BUG: an invoice without evidence')
    const written = await finalise(o, { prepared, proven: proof.proven, revision: nextRevision, blockers, by })
    if (written !== 'changed') return { kind: 'finalised', id: written }
  }
}

function isForced(blocker: Blocker, by: CloseBy): boolean {
  return by.forceReason !== null && forcible.has(blocker.code)
}

interface Finalising {
  prepared: Prepared
  proven: ProvenPeriod
  revision: number
  /** What is closed over. */
  blockers: Blocker[]
  by: CloseBy
}

async function finalise(o: CloseContext, f: Finalising): Promise<string | 'changed'> {
  const { customer, period } = f.prepared
  const forced =
    f.blockers.length === 0 || f.by.forceReason === null
      ? null
      : { reason: f.by.forceReason, by: f.by.actor.name, over: f.blockers }
  const evidence = f.proven.evidence.map(({ vmId, lines }) => ({
    vmId,
    hours: lines.length,
    body: deflateSync(lines.join('\n')),
  }))
  return o.sql.begin(async tx => {
    await lockCustomer(tx, customer.id)
    const { living, nextRevision } = await loadLiving(tx, customer.id, period)
    if (living?.state === 'finalised' || nextRevision !== f.revision) return 'changed'
    const draft = await draftOf(tx, f.prepared, f.revision)
    if (draft === 'changed') return 'changed'
    // The bulk of it, while nobody waits.
    await saveDraft(tx, draft, [])
    for (const row of evidence) await insertEvidence(tx, draft.id, row)
    const issuedAt = new Date(o.clock.now())
    // Rendering takes longer than all the rest: it is done before the number is taken, by the one that is next now. Whoever
    // closes at the same time may take it first; then this invoice is rendered again.
    const expected = await nextNumber(tx)
    const rendered = await compose(o, tx, f, { draft, forced, issuedAt, seq: expected })
    // From here on everybody else's number waits for this commit: the rest is small and does no reading.
    const seq = await takeNumber(tx)
    const { invoice, receipt, documents } =
      seq === expected ? rendered : await compose(o, tx, f, { draft, forced, issuedAt, seq })
    const { number } = invoice
    if (number === null) throw new Error('BUG: a finalised invoice has a number')
    await insertFinal(tx, { draft, lines: invoice.lines, seq, number, forced, issuedAt })
    await bookCredits(tx, draft, issuedAt.getTime())
    await insertReceipt(tx, receipt)
    for (const document of documents) await insertDocument(tx, document)
    await announceInvoice(tx, invoice, issuedAt.getTime())
    await o.audit(
      { actor: f.by.actor, action: 'invoice.finalise', object: `invoice ${number}`, after: { id: draft.id, forced } },
      tx,
    )
    return draft.id
  })
}

async function lockCustomer(tx: Queryable, id: string) {
  // No key of it changes: what refers to the customer may still be written.
  await tx`select 1 from billaged.customer where id = ${id} for no key update`
}

async function bookCredits(tx: Queryable, draft: Draft, atMs: number) {
  for (const { grantId: id, amountNano } of draft.burns)
    await insertEntry(tx, { grantId: id, kind: 'burn', amountNano: -amountNano, invoiceId: draft.id, atMs })
  if (draft.carriedNano === 0n) return
  await insertGrant(tx, {
    id: grantId('carried', draft.id),
    customerId: draft.customerId,
    kind: 'prepaid',
    currency: draft.currency,
    amountNano: draft.carriedNano,
    priority: 0,
    fromMs: draft.period.from * hourMs,
    expiresMs: null,
    createdMs: atMs,
    note: 'Negative total of an invoice',
    sourceInvoiceId: draft.id,
    outageFromMs: null,
  })
}

interface Composed {
  invoice: Invoice
  receipt: Parameters<typeof insertReceipt>[1]
  documents: Parameters<typeof insertDocument>[1][]
}

/** All that is written of an invoice with a number, and nothing is. */
async function compose(
  o: CloseContext,
  tx: Queryable,
  f: Finalising,
  as: { draft: Draft; forced: Invoice['forced']; issuedAt: Date; seq: bigint },
): Promise<Composed> {
  const { draft, issuedAt } = as
  const { customer, planned } = f.prepared
  const invoice = invoiceView(draft, {
    number: `INV-${issuedAt.getUTCFullYear()}-${`${as.seq}`.padStart(6, '0')}`,
    state: 'finalised',
    customerName: customer.name,
    parties: partiesOf(o.issuer, customer),
    unitOf: unitsOf(o.meters),
    issuedAt: issuedAt.toISOString(),
    forced: as.forced,
    asOf: issuedAt.toISOString(),
    complete: true,
    blockers: [],
  })
  const prices = pricesOf(draft.lines, planned)
  const { receipt, proof } = await makeReceipt(o, tx, invoice, f, prices)
  const documents: Composed['documents'] = []
  for (const format of formats) {
    const body = await render(invoice, format, { prices, proof, fonts: o.issuer.fonts ?? [] })
    documents.push({ invoiceId: draft.id, format, body })
  }
  return { invoice, receipt, documents }
}

/** The next link of the customer's chain; whose row is locked, so that no other follows the same one. */
async function makeReceipt(
  o: CloseContext,
  tx: Queryable,
  invoice: Invoice,
  f: Finalising,
  prices: Attached['prices'],
): Promise<{ receipt: Composed['receipt']; proof: Proof }> {
  const last = await lastReceipt(tx, invoice.customerId)
  const seq = (last?.seq ?? 0) + 1
  const prevHash = last?.hash ?? firstHash
  const body = receiptBody({
    invoice,
    seq,
    prevHash,
    publicKey: o.signingKey.publicKey,
    prices,
    segments: f.prepared.planned.segments,
    leaves: f.proven.leaves,
  })
  const { text, hash, signature } = sealReceipt(body, o.signingKey)
  return {
    receipt: { customerId: invoice.customerId, seq, invoiceId: invoice.id, prevHash, hash, signature, body: text },
    proof: { seq, hash: hash.toString('hex'), publicKey: o.signingKey.publicKey },
  }
}

/** What a draft says now. */
export async function draftNow(
  o: CloseContext,
  customer: CustomerRow,
  period: Hours,
): Promise<{ invoice: Invoice; attached: Attached }> {
  for (;;) {
    const { nextRevision } = await loadLiving(o.sql, customer.id, period)
    const blockers = await customerBlockers(o, customer, period)
    const prepared = await prepare(o, customer, period)
    const draft = await draftOf(o.sql, prepared, nextRevision)
    if (draft === 'changed') continue
    const blocked = [...blockers, ...ratingBlockers(customer.id, period, prepared.priced)]
    const invoice = draftView(o, customer, draft, o.clock.now(), blocked)
    return {
      invoice,
      attached: { prices: pricesOf(draft.lines, prepared.planned), proof: null, fonts: o.issuer.fonts ?? [] },
    }
  }
}

/** What the draft of a period said at an earlier time; what blocked it then is not known. */
export async function draftThen(
  o: CloseContext,
  customer: CustomerRow,
  { period, revision }: Pick<InvoiceRow, 'period' | 'revision'>,
  asOf: Date,
): Promise<Invoice> {
  for (;;) {
    const prepared = await prepareAsOf(o, customer, period, asOf)
    const draft = await draftOf(o.sql, prepared, revision)
    if (draft === 'changed') continue
    return draftView(o, customer, draft, asOf.getTime(), [])
  }
}

function draftView(
  o: CloseContext,
  customer: CustomerRow,
  draft: Draft,
  asOfMs: number,
  blockers: readonly Blocker[],
): Invoice {
  return invoiceView(draft, {
    number: null,
    state: 'draft',
    customerName: customer.name,
    parties: partiesOf(o.issuer, customer),
    unitOf: unitsOf(o.meters),
    issuedAt: null,
    forced: null,
    asOf: new Date(asOfMs).toISOString(),
    complete: draft.period.to * hourMs <= asOfMs,
    blockers: [...blockers],
  })
}

/** A void invoice keeps its number; its period is a draft again, of the next revision. */
export async function voidInvoice(o: CloseContext, id: string, reason: string, by: CloseBy): Promise<InvoiceRow> {
  return o.sql.begin(async tx => {
    const found = await loadInvoice(tx, id)
    if (found === null) throw new Error('BUG: the caller looked for it')
    await lockCustomer(tx, found.customerId)
    const invoice = await loadInvoice(tx, id)
    if (invoice?.state !== 'finalised')
      throw new Problem({
        status: 409,
        reason: 'INVOICE_NOT_FINALISED',
        detail: `Invoice ${id} is ${invoice?.state ?? 'gone'}; only a finalised one can be made void.`,
      })
    if (invoice.period.from < (await expiredHourOf(tx, invoice.customerId)))
      throw new Problem({
        status: 409,
        reason: 'USAGE_EXPIRED',
        detail: `The usage of ${invoice.number} is deleted (RETENTION_USAGE), so nothing could replace it; give a credit instead.`,
      })
    const at = new Date(o.clock.now())
    if (!(await returnCredits(tx, id, at.getTime())))
      throw new Problem({
        status: 409,
        reason: 'CREDIT_SPENT',
        detail: `The credit that ${invoice.number} left is spent in part; make the invoices that burned it void first.`,
      })
    await markVoid(tx, id, reason, at)
    const { nextRevision } = await loadLiving(tx, invoice.customerId, invoice.period)
    const replacement = {
      ...invoice,
      id: invoiceId(invoice.customerId, invoice.period, nextRevision),
      revision: nextRevision,
    }
    await saveDraft(tx, replacement, [])
    await o.audit(
      {
        actor: by.actor,
        action: 'invoice.void',
        object: `invoice ${invoice.number}`,
        after: { reason, replacement: replacement.id },
      },
      tx,
    )
    return replacement
  })
}

async function* customersOf(o: CloseContext, only: readonly string[] | null): AsyncIterable<CustomerRow> {
  const now = new Date(o.clock.now())
  if (only !== null) {
    for (const id of new Set(only)) {
      const customer = await loadCustomer(o.sql, id, now)
      if (customer !== null) yield customer
    }
    return
  }
  for (let after = ''; ; ) {
    const page = await listCustomers(o.sql, { after, limit: 200, only: null, now })
    yield* page
    const last = page.at(-1)
    if (last === undefined || page.length < 200) return
    after = last.id
  }
}
