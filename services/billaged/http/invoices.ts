import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import { actsFor } from '../access.ts'
import type { Explanation, Invoice, InvoiceAsOf, InvoiceList, InvoiceSummary, Voided } from '../api.ts'
import { unitsOf } from '../close/attach.ts'
import { closePeriod, draftNow, draftThen, voidInvoice } from '../close/close.ts'
import type { CloseContext } from '../close/context.ts'
import { explainLine } from '../close/explain.ts'
import { foldingBlockers } from '../close/gate.ts'
import { badRequest, notFound } from '../errors.ts'
import { focusHeader, focusRows } from '../invoices/focus.ts'
import type { ReceiptBody } from '../invoices/receipt.ts'
import { formats, render } from '../invoices/render.ts'
import { spanView } from '../invoices/view.ts'
import { hourMs, periodStartingIn } from '../rating/periods.ts'
import { type CustomerRow, loadCustomer } from '../store/customers.ts'
import {
  type InvoiceRow,
  invoiceOfLine,
  listInvoices,
  loadDocument,
  loadInvoice,
  loadLiving,
  revisionSince,
} from '../store/invoices.ts'
import { loadReceipt } from '../store/receipts.ts'
import { expiredHourOf } from '../store/retention.ts'
import { FactsExpired } from '../store/usage-as-of.ts'
import { callerOf, mustActFor, mustBeOperator } from './authorize.ts'
import { closeBy, month } from './close.ts'
import { isFolded } from './context.ts'
import { factsExpired } from './customers.ts'
import { instant, limit, paramId, parseInput } from './query.ts'

const listQuery = z.object({
  customer: z.string().min(1).max(255).optional(),
  period: month.optional(),
  state: z.enum(['draft', 'finalised', 'void']).optional(),
  /** Those that were written by then, as they were then: drafts are of now. */
  asOf: instant.optional(),
  cursor: z.string().max(100).default(''),
  limit,
})
const reason = z.string().min(1).max(500)
export const voidBody = z.strictObject({ reason })
export const finaliseBody = z.strictObject({ force: z.strictObject({ reason }).optional() })
const contentTypes = {
  json: 'application/json; charset=utf-8',
  csv: 'text/csv; charset=utf-8',
  html: 'text/html; charset=utf-8',
  pdf: 'application/pdf',
} as const

/** Invoices: drafts as they are now, finalised ones as they were written. */
export function invoiceRoutes(app: FastifyInstance, o: CloseContext) {
  app.get('/v1/invoices', async (request): Promise<InvoiceList> => {
    const query = parseInput(listQuery, request.query)
    const customerId = query.customer ?? callerOf(request).tenant
    if (customerId !== null) mustActFor(request, customerId)
    const rows = await listInvoices(o.sql, {
      customerId,
      state: query.state ?? null,
      startMs: query.period === undefined ? null : monthSpan(query.period),
      cursor: parseCursor(query.cursor),
      ...(query.asOf === undefined ? {} : { asOf: new Date(query.asOf) }),
      limit: query.limit + 1,
    })
    const page = rows.slice(0, query.limit)
    const last = rows.length > query.limit ? page.at(-1) : undefined
    return {
      asOf: new Date(query.asOf ?? o.clock.now()).toISOString(),
      complete: await isFolded(o),
      invoices: page.map(toSummary),
      nextCursor: last === undefined ? null : `${spanView(last.period).from}/${last.id}`,
    }
  })

  app.get('/v1/exports/focus', async (request, reply) => {
    const query = parseInput(
      z.object({ period: month, customer: z.string().min(1).max(255).optional() }),
      request.query,
    )
    const customerId = query.customer ?? callerOf(request).tenant
    if (customerId !== null) mustActFor(request, customerId)
    reply.type('text/csv; charset=utf-8')
    return reply.send(Readable.from(focusExport(customerId, query.period)))
  })

  /** An invoice at a time, however many there are. */
  async function* focusExport(customerId: string | null, period: string): AsyncIterable<string> {
    yield focusHeader()
    const unitOf = unitsOf(o.meters)
    for (let cursor: { startMs: number; id: string } | null = null; ; ) {
      const rows: InvoiceRow[] = await listInvoices(o.sql, {
        customerId,
        state: 'finalised',
        startMs: monthSpan(period),
        cursor,
        limit: 100,
      })
      for (const row of rows) yield focusRows(await storedJson(row), { unitOf, prices: await pricesOf(row) })
      const last = rows.at(-1)
      if (last === undefined || rows.length < 100) return
      cursor = { startMs: last.period.from * hourMs, id: last.id }
    }
  }

  app.get('/v1/invoices/draft', async (request): Promise<Invoice> => {
    const query = parseInput(z.object({ customer: z.string().min(1).max(255), period: month }), request.query)
    mustActFor(request, query.customer)
    const customer = await mustLoadCustomer(query.customer)
    const period = periodStartingIn(customer, query.period)
    if (period === null)
      throw badRequest('INVALID_SPAN', `No period of ${customer.id} starts in ${query.period}; see its intervalMonths.`)
    const { living } = await loadLiving(o.sql, customer.id, period)
    return living?.state === 'finalised' ? storedJson(living) : (await draftNow(o, customer, period)).invoice
  })

  app.get('/v1/invoices/:id', async (request, reply) => {
    const [, id = '', format] = /^([^.]*)(?:\.(.*))?$/s.exec(paramId(request)) ?? []
    const known = formats.find(name => name === format)
    if (format !== undefined && known === undefined)
      throw notFound(`invoice format ${format}; there are ${formats.join(', ')}`)
    const row = await mustLoadInvoice(request, id)
    const { asOf } = parseInput(z.object({ asOf: instant.optional() }), request.query)
    if (asOf !== undefined) {
      if (known !== undefined && known !== 'json') throw badRequest('INVALID_FIELD', 'asOf: is for JSON alone.')
      return reply.send(await invoiceAsOf(row, asOf))
    }
    if (known === undefined && row.state === 'void') return reply.send({ ...(await storedJson(row)), state: 'void' })
    return send(reply, row, known ?? 'json')
  })

  app.post('/v1/invoices/:id/finalise', async (request): Promise<Invoice> => {
    mustBeOperator(request)
    const body = parseInput(finaliseBody, request.body ?? {})
    const row = await mustLoadInvoice(request, paramId(request))
    if (row.state === 'void')
      throw new Problem({
        status: 409,
        reason: 'INVOICE_VOID',
        detail: `Invoice ${row.number} is void; its period has a draft.`,
      })
    const customer = await mustLoadCustomer(row.customerId)
    const outcome = await closePeriod(o, {
      customer,
      period: row.period,
      folding: await foldingBlockers(o),
      dryRun: false,
      by: closeBy(request, body.force?.reason ?? null),
    })
    if (outcome.kind === 'blocked')
      throw new Problem({
        status: 409,
        reason: 'CLOSE_BLOCKED',
        detail: outcome.reasons.map(({ code, detail, fix }) => `${code}: ${detail} → ${fix}`).join('; '),
        extra: { reasons: outcome.reasons },
      })
    const written = await loadInvoice(o.sql, row.id)
    if (written === null) throw new Error('BUG: a draft row is never deleted while it is finalised')
    return storedJson(written)
  })

  app.post('/v1/invoices/:id/void', async (request): Promise<Voided> => {
    mustBeOperator(request)
    const body = parseInput(voidBody, request.body)
    const row = await mustLoadInvoice(request, paramId(request))
    const replacement = await voidInvoice(o, row.id, body.reason, closeBy(request, null))
    return { id: row.id, number: row.number, state: 'void', replacement: replacement.id }
  })

  app.get('/v1/invoices/:id/lines/:line/explain', async (request): Promise<Explanation> => {
    const row = await mustLoadInvoice(request, paramId(request))
    return explain(row, request)
  })

  app.get('/v1/lines/:line/explain', async (request): Promise<Explanation> => {
    const { line } = parseInput(lineParam, request.params)
    const row = await invoiceOfLine(o.sql, line)
    if (row === null || !actsFor(callerOf(request), row.customerId)) throw notFound(`line ${line}`)
    return explain(row, request)
  })

  const lineParam = z.object({ line: z.string().min(1).max(64) })

  async function explain(row: InvoiceRow, request: FastifyRequest): Promise<Explanation> {
    const { line } = parseInput(lineParam, request.params)
    const query = parseInput(z.object({ vm: z.string().min(1).max(255).optional() }), request.query)
    const explained = await explainLine(o, row, line, query.vm ?? null)
    if (explained === null) throw notFound(`line ${line} of invoice ${row.id}`)
    return explained
  }

  async function send(reply: FastifyReply, row: InvoiceRow, format: (typeof formats)[number]) {
    reply.type(contentTypes[format])
    // It has styles of its own and nothing else; a browser need not trust that.
    if (format === 'html') reply.header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
    if (row.state !== 'draft') {
      const document = await loadDocument(o.sql, row.id, format)
      // Written before there were documents of this kind; none is made afterwards.
      if (document === null) throw notFound(`${format} of invoice ${row.id}`)
      return reply.header('etag', `"${document.sha256.toString('hex')}"`).send(document.body)
    }
    const { invoice, attached } = await draftNow(o, await mustLoadCustomer(row.customerId), row.period)
    return reply.send(await render(invoice, format, attached))
  }

  /** What it said then, beside what it says now. */
  async function invoiceAsOf(row: InvoiceRow, asOfMs: number): Promise<InvoiceAsOf> {
    if (asOfMs > o.clock.now()) throw badRequest('INVALID_FIELD', 'asOf: lies in the future.')
    const asOf = new Date(asOfMs)
    const customer = await mustLoadCustomer(row.customerId)
    const now =
      row.state === 'draft'
        ? (await draftNow(o, customer, row.period)).invoice
        : { ...(await storedJson(row)), state: row.state }
    if (row.issuedAt !== null && row.issuedAt <= asOf) {
      const wasVoid = row.voidedAt !== null && row.voidedAt <= asOf
      return { ...(await storedJson(row)), state: wasVoid ? 'void' : 'finalised', asOf: asOf.toISOString(), now }
    }
    const since = await revisionSince(o.sql, row)
    if (since !== null && since > asOf)
      throw notFound(`invoice ${row.id} at ${asOf.toISOString()}; an earlier revision stood then`)
    if (row.period.from < (await expiredHourOf(o.sql, row.customerId))) throw factsExpired(row.customerId)
    const then = await draftThen(o, customer, row, asOf).catch((error: unknown) => {
      throw error instanceof FactsExpired ? factsExpired(row.customerId) : error
    })
    return { ...then, now }
  }

  async function storedJson(row: InvoiceRow): Promise<Invoice> {
    const document = await loadDocument(o.sql, row.id, 'json')
    if (document === null) throw new Error(`BUG: invoice ${row.id} has no JSON`)
    return JSON.parse(document.body.toString('utf8'))
  }

  async function pricesOf(row: InvoiceRow): Promise<Record<string, unknown>> {
    const receipt = await loadReceipt(o.sql, row.id)
    return receipt === null ? {} : (JSON.parse(receipt.body) as ReceiptBody).prices
  }

  async function mustLoadInvoice(request: FastifyRequest, id: string): Promise<InvoiceRow> {
    const row = await loadInvoice(o.sql, id)
    if (row === null || !actsFor(callerOf(request), row.customerId)) throw notFound(`invoice ${id}`)
    return row
  }

  async function mustLoadCustomer(id: string): Promise<CustomerRow> {
    const customer = await loadCustomer(o.sql, id, new Date(o.clock.now()))
    if (customer === null) throw notFound(`customer ${id}`)
    return customer
  }
}

function toSummary(row: InvoiceRow): InvoiceSummary {
  return {
    id: row.id,
    number: row.number,
    customerId: row.customerId,
    state: row.state,
    revision: row.revision,
    period: spanView(row.period),
    currency: row.currency,
    totalNano: row.totalNano === null ? null : `${row.totalNano}`,
    dueMinor: row.dueMinor === null ? null : `${row.dueMinor}`,
    issuedAt: row.issuedAt?.toISOString() ?? null,
    blockers: row.blockers,
  }
}

function monthSpan(text: string): { from: number; to: number } {
  const first = Temporal.PlainYearMonth.from(text).toPlainDate({ day: 1 })
  const ms = (day: Temporal.PlainDate) => day.toZonedDateTime('UTC').epochMilliseconds
  return { from: ms(first), to: ms(first.add({ months: 1 })) }
}

function parseCursor(text: string): { startMs: number; id: string } | null {
  if (text === '') return null
  const [from = '', id = ''] = text.split('/')
  const startMs = Date.parse(from)
  if (Number.isNaN(startMs) || id === '') throw badRequest('INVALID_FIELD', 'cursor: is not one that a list gave.')
  return { startMs, id }
}
