// GET /api/v1/logs/:id/context: what the same service said just before and after.

import type { FastifyInstance } from 'fastify'
import { notFound } from '../errors.ts'
import type { StoredEntry } from '../store/store.ts'
import { authorize } from './caller.ts'
import { type QueryContext, withReads } from './context.ts'
import { entryJson } from './entry-json.ts'
import { type Parameters, parametersOf, timeoutOf, whole } from './parameters.ts'

const linesDefault = 20
const linesMax = 500
/** A service that was silent for longer has no neighbours worth the name. */
const reachNs = 7n * 86_400_000_000_000n
const bytesMax = 4 * 1024 * 1024
const rowsScannedMax = 10_000_000

export function addContextLines(app: FastifyInstance, context: QueryContext): void {
  const { clock, metrics } = context
  app.get('/api/v1/logs/:id/context', async (request, reply) => {
    const { caller, tenant } = authorize(context.access, request, 'logs:read')
    const parameters = parametersOf(request)
    const limits = { before: linesOf(parameters, 'before'), after: linesOf(parameters, 'after') }
    const timeoutMs = timeoutOf(parameters)
    const { id } = request.params as { id: string }
    const startedMs = clock.monotonicMs()
    const found = await context.gate.run(caller.key, () =>
      withReads(context, async store => {
        const entry = /^\d{1,19}$/.test(id) ? await store.find(tenant, BigInt(id)) : undefined
        if (!entry) return undefined
        const neighbours = async (order: 'asc' | 'desc', limit: number) => {
          if (limit === 0) return { entries: [], isPartial: false, scannedRows: 0 }
          const { timestampNs } = entry
          return await store.search(
            {
              tenant,
              query: { kind: 'service', pieces: [entry.service] },
              fromNs: order === 'asc' ? timestampNs : timestampNs - reachNs,
              toNs: order === 'asc' ? timestampNs + reachNs : timestampNs + 1n,
              order,
              after: { timestampNs, id: entry.id },
              limit,
              bytesMax,
              timeoutMs,
              rowsScannedMax,
            },
            () => clock.monotonicMs(),
          )
        }
        const before = await neighbours('desc', limits.before)
        return { entry, before, after: await neighbours('asc', limits.after) }
      }),
    )
    if (!found) throw notFound(`There is no log entry ${id.slice(0, 40)}.`)
    const { entry, before, after } = found
    metrics.queried('context', (clock.monotonicMs() - startedMs) / 1_000, before.scannedRows + after.scannedRows)
    const list = (entries: readonly StoredEntry[]) => `[${entries.map(other => entryJson(other)).join(',')}]`
    return reply
      .type('application/json; charset=utf-8')
      .send(
        `{"before":${list(before.entries.toReversed())},"entry":${entryJson(entry)},"after":${list(after.entries)},"partial":${before.isPartial || after.isPartial}}`,
      )
  })
}

function linesOf(parameters: Parameters, name: string): number {
  return parameters[name] === '0' ? 0 : whole(parameters, name, linesDefault, linesMax)
}
