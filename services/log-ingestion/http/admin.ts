// The guide's admin routes, in the guide's shapes: ids are JSON numbers, errors are {"error", "details"?}.

import type { FastifyInstance } from 'fastify'
import { formatDuration, rfc3339 } from '#platform/time'
import { errorLevels, rankOf } from '../level.ts'
import type { Query } from '../query/query.ts'
import type { StoredEntry } from '../store/store.ts'
import { loadTotals, type Totals } from '../store/totals.ts'
import { parseInterval, TimeError } from '../time-range.ts'
import { authorizeAdmin, guideError } from './admin-caller.ts'
import { type QueryContext, withReads, withSql } from './context.ts'
import { guideEntryJson } from './entry-json.ts'

const json = 'application/json; charset=utf-8'
const hourMs = 3_600_000
const pageBytesMax = 4 * 1024 * 1024
const rowsScannedMax = 50_000_000
const timeoutMs = 10_000

export function addAdmin(app: FastifyInstance, context: QueryContext): void {
  const { clock } = context

  app.get('/admin/health', async request => {
    authorizeAdmin(context.access, request, 'logs:read')
    const state = context.intake()
    const sql = context.reads()
    const error = sql
      ? await sql`select 1`.then(
          () => undefined,
          (e: unknown) => (e instanceof Error ? e.message : String(e)),
        )
      : (state.problem ?? 'not reached yet')
    const uptime = uptimeOf(context)
    return {
      status: error === undefined && state.isWriterHealthy ? 'healthy' : 'unhealthy',
      uptime,
      database: { healthy: error === undefined, error: error ?? '' },
      batcher: {
        healthy: state.isWriterHealthy,
        current_batch: state.pendingRows,
        total_processed: state.storedRows,
        flush_count: state.flushes,
        error_count: state.failures,
        uptime,
      },
      config: {
        batch_size: state.batchRows,
        batch_flush_interval: formatDuration(state.flushIntervalMs),
        rate_limit_enabled: state.isRateLimited,
        rate_limit_rps: state.rateLimitRps,
      },
    }
  })

  app.get('/admin/metrics', async request => {
    const { tenant } = authorizeAdmin(context.access, request, 'logs:read')
    const query = request.query as Record<string, unknown>
    const rangeMs = intervalOr(query.range, hourMs)
    const asked = typeof query.interval === 'string' ? query.interval : ''
    const intervalMs = ['1m', '5m', '15m', '1h'].includes(asked) ? parseInterval(asked) : 300_000
    const state = context.intake()
    const nowMs = clock.now()
    const intervalNs = BigInt(Math.max(intervalMs, Math.ceil(rangeMs / 1_000))) * 1_000_000n
    const fromNs = BigInt(nowMs - rangeMs) * 1_000_000n
    const { totals, recent } = await withSql(context, async sql => ({
      totals: await loadTotals(sql, tenant, nowMs - rangeMs),
      recent: await loadTotals(sql, tenant, nowMs - hourMs),
    }))
    const series = await withReads(context, store =>
      store.count(
        {
          tenant,
          query: { kind: 'all' },
          fromNs,
          toNs: BigInt(nowMs) * 1_000_000n,
          originNs: fromNs - (fromNs % intervalNs),
          intervalNs,
          by: null,
          timeoutMs,
          rowsScannedMax,
        },
        () => clock.monotonicMs(),
      ),
    )
    const upMs = clock.monotonicMs() - state.startedMonotonicMs
    return {
      time_range: formatDuration(rangeMs),
      uptime: uptimeOf(context),
      logs: {
        total: Number(totals.rows),
        per_second: Number(totals.rows) / (rangeMs / 1_000),
        ...countsOf(totals, recent),
      },
      batcher: {
        current_batch_size: state.pendingRows,
        total_processed: state.storedRows,
        flush_count: state.flushes,
        error_count: state.failures,
        // Go marshals durations as nanoseconds.
        uptime: Math.round(upMs * 1e6),
        config: { Size: state.batchRows, FlushInterval: state.flushIntervalMs * 1_000_000 },
      },
      time_series: [...series.counts]
        .sort(([a], [b]) => a - b)
        .map(([bucket, values]) => ({
          time: rfc3339(Number((fromNs - (fromNs % intervalNs) + BigInt(bucket) * intervalNs) / 1_000_000n)),
          count: Number([...values.values()].reduce((sum, count) => sum + count, 0n)),
        })),
    }
  })

  app.get('/admin/stats', async (request, reply) => {
    const { tenant } = authorizeAdmin(context.access, request, 'logs:read')
    const rangeMs = intervalOr((request.query as Record<string, unknown>).range, 24 * hourMs)
    const nowMs = clock.now()
    const { totals, recent } = await withSql(context, async sql => ({
      totals: await loadTotals(sql, tenant, nowMs - rangeMs),
      recent: await loadTotals(sql, tenant, nowMs - hourMs),
    }))
    const errors = await newest(context, tenant, { kind: 'level', op: '>=', rank: rankOf('ERROR') ?? 0 }, hourMs, 50)
    const head = JSON.stringify({
      total_logs: Number(totals.rows),
      time_range: formatDuration(rangeMs),
      stats: { total_logs: Number(totals.rows), ...countsOf(totals, recent) },
    })
    return reply.type(json).send(`${head.slice(0, -1)},"recent_errors":[${errors.map(guideEntryJson).join(',')}]}`)
  })

  app.get('/admin/logs/recent', async (request, reply) => {
    const { tenant } = authorizeAdmin(context.access, request, 'logs:read')
    const asked = Number((request.query as Record<string, unknown>).limit)
    const limit = Number.isInteger(asked) && asked >= 1 ? Math.min(asked, 1_000) : 100
    const logs = await newest(context, tenant, { kind: 'all' }, null, limit)
    return reply.type(json).send(`{"logs":[${logs.map(guideEntryJson).join(',')}],"count":${logs.length}}`)
  })

  app.get('/admin/logs/:id', async (request, reply) => {
    const { tenant } = authorizeAdmin(context.access, request, 'logs:read')
    const { id } = request.params as { id: string }
    if (!/^\d{1,19}$/.test(id)) return guideError(reply, 400, 'Invalid log ID')
    const entry = await withReads(context, store => store.find(tenant, BigInt(id)))
    if (!entry) return guideError(reply, 404, 'Log not found', `there is no log ${id}`)
    return reply.type(json).send(guideEntryJson(entry))
  })
}

/** Newest first; without a range, everything there is up to an hour ahead. */
async function newest(
  context: QueryContext,
  tenant: string,
  query: Query,
  rangeMs: number | null,
  limit: number,
): Promise<StoredEntry[]> {
  const nowMs = context.clock.now()
  const page = await withReads(context, store =>
    store.search(
      {
        tenant,
        query,
        fromNs: rangeMs === null ? 0n : BigInt(nowMs - rangeMs) * 1_000_000n,
        toNs: BigInt(nowMs + hourMs) * 1_000_000n + 1_000n,
        order: 'desc',
        after: undefined,
        limit,
        bytesMax: pageBytesMax,
        timeoutMs,
        rowsScannedMax,
      },
      () => context.clock.monotonicMs(),
    ),
  )
  return page.entries
}

function countsOf(totals: Totals, recent: Totals) {
  return {
    by_service: numbers(totals.byService),
    by_level: numbers(totals.byLevel),
    error_count: errorsOf(totals),
    recent_errors: errorsOf(recent),
  }
}

function errorsOf(totals: Totals): number {
  return Number(errorLevels.reduce((sum, level) => sum + (totals.byLevel.get(level) ?? 0n), 0n))
}

function numbers(counts: Map<string, bigint>): Record<string, number> {
  return Object.fromEntries([...counts].map(([name, count]) => [name, Number(count)]))
}

function intervalOr(text: unknown, standardMs: number): number {
  if (typeof text !== 'string') return standardMs
  try {
    return Math.min(parseInterval(text), 366 * 24 * hourMs)
  } catch (error) {
    if (error instanceof TimeError) return standardMs
    throw error
  }
}

function uptimeOf({ clock, intake }: QueryContext): string {
  return formatDuration(Math.max(0, clock.monotonicMs() - intake().startedMonotonicMs))
}
