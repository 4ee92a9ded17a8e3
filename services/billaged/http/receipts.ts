import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { actsFor } from '../access.ts'
import type { ReceiptKey } from '../api.ts'
import type { CloseContext } from '../close/context.ts'
import { evidenceLines } from '../close/explain.ts'
import { notFound } from '../errors.ts'
import type { Receipt, ReceiptBody } from '../invoices/receipt.ts'
import { loadInvoice } from '../store/invoices.ts'
import { loadReceipt } from '../store/receipts.ts'
import { callerOf } from './authorize.ts'
import { paramId } from './query.ts'

/** Receipts, and the evidence they sum up: what a customer needs to check an invoice without us. */
export function receiptRoutes(app: FastifyInstance, o: CloseContext) {
  app.get(
    '/v1/receipts/key',
    async (): Promise<ReceiptKey> => ({ algorithm: 'Ed25519', publicKey: o.signingKey.publicKey }),
  )

  app.get('/v1/invoices/:id/receipt', async (request): Promise<Receipt> => {
    const { id } = await mustLoadInvoice(request)
    const row = await loadReceipt(o.sql, id)
    if (row === null) throw notFound(`receipt of invoice ${id}: drafts have none`)
    const body: ReceiptBody = JSON.parse(row.body)
    return {
      receipt: body,
      hash: row.hash.toString('hex'),
      signature: row.signature.toString('base64'),
      publicKey: body.publicKey,
    }
  })

  app.get('/v1/invoices/:id/evidence', async (request, reply) => {
    const { id } = await mustLoadInvoice(request)
    reply.type('application/x-ndjson')
    return reply.send(Readable.from(newlines(evidenceLines(o.sql, id))))
  })

  async function mustLoadInvoice(request: FastifyRequest) {
    const id = paramId(request)
    const row = await loadInvoice(o.sql, id)
    if (row === null || !actsFor(callerOf(request), row.customerId)) throw notFound(`invoice ${id}`)
    return row
  }
}

async function* newlines(lines: AsyncIterable<string>): AsyncIterable<string> {
  for await (const line of lines) yield `${line}\n`
}
