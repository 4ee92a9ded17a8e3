// GET|POST /api/v1/logs/search, GET /api/v1/logs/:id

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { notFound } from '../errors.ts'
import { formatMicros } from '../rfc3339.ts'
import { authorize } from './caller.ts'
import { type QueryContext, withReads } from './context.ts'
import { entryJson } from './entry-json.ts'
import { parametersOf, searchParameters, writeCursor } from './parameters.ts'

/** Of texts in one page; larger pages end early and go on from their cursor. */
export const pageBytesMax = 4 * 1024 * 1024
/** Then the page ends, partial, with a cursor. */
export const rowsScannedMax = 50_000_000

export function addSearch(app: FastifyInstance, context: QueryContext): void {
  const { clock, metrics } = context

  const search = async (request: FastifyRequest, reply: FastifyReply) => {
    const { caller, tenant } = authorize(context.access, request, 'logs:read')
    const wanted = searchParameters(parametersOf(request), tenant, clock.now())
    const startedMs = clock.monotonicMs()
    // Read before the query: what is committed while it runs is a bonus, not a promise.
    const watermark = formatMicros(context.watermarkUs())
    const page = await context.gate.run(caller.key, () =>
      withReads(context, store =>
        store.search({ ...wanted, tenant, bytesMax: pageBytesMax, rowsScannedMax }, () => clock.monotonicMs()),
      ),
    )
    const tookMs = Math.round(clock.monotonicMs() - startedMs)
    metrics.queried('search', tookMs / 1_000, page.scannedRows)
    const rest = JSON.stringify({
      cursor: page.resume ? writeCursor(wanted, page.resume) : null,
      partial: page.isPartial,
      stats: {
        scanned_rows: page.scannedRows,
        scanned_blocks: page.scannedBlocks,
        skipped_blocks: page.skippedBlocks,
        took_ms: tookMs,
      },
      watermark,
    })
    const logs = page.entries.map(entry => entryJson(entry, wanted.fields)).join(',')
    return reply.type('application/json; charset=utf-8').send(`{"logs":[${logs}],${rest.slice(1)}`)
  }
  app.get('/api/v1/logs/search', search)
  app.post('/api/v1/logs/search', search)

  app.get('/api/v1/logs/:id', async (request, reply) => {
    const { tenant } = authorize(context.access, request, 'logs:read')
    const { id } = request.params as { id: string }
    // Not a number is not an entry either; the path may as well be a mistyped route.
    const entry = /^\d{1,19}$/.test(id) ? await withReads(context, store => store.find(tenant, BigInt(id))) : undefined
    if (!entry) throw notFound(`There is no log entry ${id.slice(0, 40)}.`)
    return reply.type('application/json; charset=utf-8').send(entryJson(entry))
  })
}
