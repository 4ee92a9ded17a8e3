// GET|POST /api/v1/logs/export: every match, as fast as its reader takes it.
//
// The number of rows is in the trailer X-Export-Rows, behind the last byte. An export that ends early is cut: its
// connection is destroyed before the last chunk, so every HTTP client calls it incomplete, and the trailer is missing.

import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { StoredEntry } from '../store/store.ts'
import { authorize } from './caller.ts'
import { type QueryContext, withReads } from './context.ts'
import { csvHead, csvRow, type EntryField, entryJson } from './entry-json.ts'
import { createGate } from './gate.ts'
import { fieldsOf, oneOf, parametersOf, queryOf, rangeOf } from './parameters.ts'

/** A reader that takes nothing for so long is gone. */
const stallMs = 60_000

export function addExport(app: FastifyInstance, context: QueryContext): void {
  const { clock, log, metrics } = context
  const gate = createGate()

  const exportMatches = async (request: FastifyRequest, reply: FastifyReply) => {
    const { caller, tenant } = authorize(context.access, request, 'logs:read')
    const parameters = parametersOf(request)
    const format = oneOf(parameters, 'format', ['ndjson', 'csv'])
    const fields = fieldsOf(parameters)
    const order = oneOf(parameters, 'order', ['desc', 'asc'])
    const plan = { tenant, query: queryOf(parameters), order, ...rangeOf(parameters, clock.now()) }
    const response = reply.raw
    const gone = new AbortController()
    response.once('close', () => gone.abort())
    await gate.run(caller.key, async () => {
      const startedMs = clock.monotonicMs()
      const pieces = await withReads(context, async store => store.scan(plan, gone.signal)[Symbol.asyncIterator]())
      // The first piece is read before the head is sent: an absent database is a 503, not a cut export.
      let piece = await withReads(context, () => pieces.next())
      reply.hijack()
      const cut = () => response.destroy()
      app.openStreams.add(cut)
      response.once('close', () => app.openStreams.delete(cut))
      response.writeHead(200, {
        'Content-Type': format === 'csv' ? 'text/csv; charset=utf-8; header=present' : 'application/x-ndjson',
        'Content-Disposition': `attachment; filename="logs.${format}"`,
        'Cache-Control': 'no-store',
        Trailer: 'X-Export-Rows',
        'X-Request-Id': request.id,
      })
      let rows = 0
      try {
        if (format === 'csv') response.write(csvHead(fields))
        for (; !piece.done; piece = await pieces.next()) {
          rows += piece.value.length
          if (!response.write(textOf(piece.value, format, fields))) await drained(response, gone.signal)
        }
        response.addTrailers({ 'X-Export-Rows': String(rows) })
        response.end()
      } catch (error) {
        if (!gone.signal.aborted) log.warn({ err: error, rows, requestId: request.id }, 'an export was cut')
        response.destroy()
      } finally {
        metrics.queried('export', (clock.monotonicMs() - startedMs) / 1_000, rows)
      }
    })
  }
  // HEAD would run the whole export for nothing.
  app.get('/api/v1/logs/export', { exposeHeadRoute: false }, exportMatches)
  app.post('/api/v1/logs/export', exportMatches)
}

function textOf(entries: readonly StoredEntry[], format: 'ndjson' | 'csv', fields: readonly EntryField[]): string {
  if (format === 'csv') return entries.map(entry => csvRow(entry, fields)).join('')
  return entries.map(entry => `${entryJson(entry, fields).replaceAll(/[\r\n]+/g, ' ')}\n`).join('')
}

async function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  await once(response, 'drain', { signal: AbortSignal.any([signal, AbortSignal.timeout(stallMs)]) })
}
