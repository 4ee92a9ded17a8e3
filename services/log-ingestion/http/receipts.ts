// GET /api/v1/receipts/:id: what became of the entries of one acknowledged request.

import type { FastifyInstance } from 'fastify'
import type { ReceiptAnswer } from '../api.ts'
import { notFound } from '../errors.ts'
import { formatMicros } from '../rfc3339.ts'
import { findRange } from '../store/commits.ts'
import { authorize } from './caller.ts'
import { type QueryContext, withSql } from './context.ts'

export function addReceipts(app: FastifyInstance, context: QueryContext): void {
  app.get('/api/v1/receipts/:id', async (request): Promise<ReceiptAnswer> => {
    // Whoever may send may ask what became of it.
    const { tenant } = authorize(context.access, request, 'logs:write')
    const { id } = request.params as { id: string }
    const receipt = context.receipts.read(id, tenant)
    if (!receipt) throw notFound('There is no such receipt.')
    const found = await withSql(context, sql => findRange(sql, receipt))
    const { isStored, rowsSettled, quarantined, duplicates } = found
    const isWhole = quarantined + duplicates === 0
    const isDamaged = !isStored && found.isPassedOver
    return {
      id,
      received_at: formatMicros(receipt.receivedUs),
      accepted: receipt.rows,
      pending: isDamaged ? 0 : receipt.rows - rowsSettled,
      stored: rowsSettled - quarantined - duplicates,
      quarantined,
      duplicates,
      state: isDamaged ? 'damaged' : !isStored ? 'pending' : isWhole ? 'stored' : 'settled',
    }
  })
}
