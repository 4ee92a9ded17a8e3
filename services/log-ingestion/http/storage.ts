// Where entries are, moving them, and the evidence of what was stored.
//
//   GET  /api/v1/storage           sizes per sink
//   POST /api/v1/storage/migrate   one step from rows to columnar; again until nothing is left
//   GET  /api/v1/chain/verify      every link, signature and block of the tenant's days, recomputed, a JSON line per day
//   GET  /api/v1/chain/heads       the newest link of each day: what to keep elsewhere

import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
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

  app.get('/api/v1/storage', async request => {
    authorizeOperator(request)
    const sinks = await withReads(context, store => store.stats())
    return {
      sinks: sinks.map(({ sink, rows, bytes, partitions, blocks, oldestDay }) => ({
        sink,
        rows: String(rows),
        bytes: String(bytes),
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
    const { tenant } = authorize(context.access, request, 'logs:read')
    const range = { tenant, ...daysOf(request) }
    const lines = await withReads(context, async store => Readable.from(linesOf(store.verify(range))))
    return reply.type(jsonLines).send(lines)
  })

  app.get('/api/v1/chain/heads', async request => {
    const { tenant } = authorize(context.access, request, 'logs:read')
    const heads = await withSql(
      context,
      sql => sql<{ day: string; links: bigint; head: string }[]>`
        select day::text as day, seq as links, encode(chain, 'hex') as head from purser_logs.chain_heads
        where tenant = ${tenant} order by chain_heads.day`,
    )
    return { heads: heads.map(({ day, links, head }) => ({ day, links: String(links), head })) }
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
