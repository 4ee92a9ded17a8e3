// Where entries are, moving them, and the evidence of what was stored.
//
//   GET  /api/v1/storage           sizes per sink
//   POST /api/v1/storage/migrate   one step from rows to columnar; again until nothing is left
//   GET  /api/v1/chain/verify      every link, signature and block of the tenant's days, recomputed, a JSON line per day
//   GET  /api/v1/chain/heads       the newest link of each day: what to keep elsewhere
// Operators who name no tenant are answered for all of them.

import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { StorageAnswer } from '../api.ts'
import { badParameter, scopeMissing } from '../errors.ts'
import { defaultTenant } from '../store/tenant.ts'
import { authorize } from './caller.ts'
import { type QueryContext, withReads, withSql } from './context.ts'

const jsonLines = 'application/x-ndjson; charset=utf-8'

export function addStorage(app: FastifyInstance, context: QueryContext): void {
  /** What concerns every tenant is for those who run the installation. */
  const authorizeOperator = (request: FastifyRequest) => {
    const { caller } = authorize(context.access, request, 'logs:admin')
    if (!caller.anyTenant && caller.tenant !== defaultTenant) throw scopeMissing('tenants:any')
  }

  /** Callers of any tenant who name none mean all of them. */
  const tenantOf = (request: FastifyRequest): { tenant?: string } => {
    const { caller, tenant } = authorize(context.access, request, 'logs:read')
    const { tenant: named } = request.query as Record<string, unknown>
    return caller.anyTenant && named === undefined ? {} : { tenant }
  }

  app.get('/api/v1/storage', async (request): Promise<StorageAnswer> => {
    authorizeOperator(request)
    const sinks = await withReads(context, store => store.stats())
    return {
      sinks: sinks.map(({ sink, rows, bytes, rawBytes, partitions, blocks, oldestDay }) => ({
        sink,
        rows: String(rows),
        bytes: String(bytes),
        raw_bytes: rawBytes === null ? null : String(rawBytes),
        partitions,
        blocks,
        oldest_day: oldestDay,
      })),
    }
  })

  app.post('/api/v1/storage/migrate', async request => {
    authorizeOperator(request)
    const { to } = (request.body ?? {}) as Record<string, unknown>
    if (to !== 'columnar') throw badParameter('to', 'must be "columnar"; entries do not move back')
    return { moved: await withReads(context, store => store.moveToBlocks()) }
  })

  app.get('/api/v1/chain/verify', async (request, reply) => {
    const range = { ...tenantOf(request), ...daysOf(request) }
    const lines = await withReads(context, async store => Readable.from(linesOf(store.verify(range))))
    return reply.type(jsonLines).send(lines)
  })

  app.get('/api/v1/chain/heads', async request => {
    const { tenant = null } = tenantOf(request)
    const heads = await withSql(
      context,
      sql => sql<{ tenant: string; day: string; links: bigint; head: string }[]>`
        select tenant, day::text as day, seq as links, encode(chain, 'hex') as head from purser_logs.chain_heads
        where ${tenant}::text is null or tenant = ${tenant} order by chain_heads.day, tenant`,
    )
    return { heads: heads.map(({ tenant, day, links, head }) => ({ tenant, day, links: String(links), head })) }
  })
}

async function* linesOf(days: AsyncIterable<object>): AsyncGenerator<string> {
  for await (const day of days)
    yield `${JSON.stringify(day, (_, value) => (typeof value === 'bigint' ? String(value) : value))}\n`
}

function daysOf(request: FastifyRequest): { fromDay?: string; toDay?: string } {
  const { from, to } = request.query as Record<string, unknown>
  const read = (name: string, value: unknown) => {
    if (typeof value !== 'string' || !/^\d{4}-\d{2}-\d{2}$/.test(value))
      throw badParameter(name, 'must be a UTC day, 2026-01-02')
    return value
  }
  return {
    ...(from === undefined ? {} : { fromDay: read('from', from) }),
    ...(to === undefined ? {} : { toDay: read('to', to) }),
  }
}
