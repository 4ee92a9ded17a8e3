// GET /api/v1/intake: how intake does at this moment, for the console; as server-sent events, once a second.
//
// Everything is read from the metric families, so the screen and the alert rules cannot disagree. All numbers are those of
// this process since its start; rates are made by whoever compares two of them.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Histogram, type Registry } from 'prom-client'
import type { HistogramState, IntakeStatus } from '../api.ts'
import { scopeMissing, tooManyTails } from '../errors.ts'
import { authorize } from './caller.ts'
import type { QueryContext } from './context.ts'

const everyMs = 1_000
/** A console holds one of these per open Intake screen. */
const streamsMax = 20

export function addIntakeStatus(app: FastifyInstance, context: QueryContext, registry: Registry): void {
  let streams = 0

  app.get('/api/v1/intake', async (request, reply) => {
    // Rates of all tenants together, and names of their keys.
    const { caller } = authorize(context.access, request, 'logs:admin')
    if (!caller.anyTenant) throw scopeMissing('tenants:any')
    if (!wantsEvents(request)) return reply.send(await statusOf(registry, context))
    if (streams >= streamsMax) throw tooManyTails()
    streams++
    stream(request, reply)
    return reply
  })

  const stream = (request: FastifyRequest, reply: FastifyReply) => {
    const response = reply.raw
    reply.hijack()
    const end = () => response.end()
    app.openStreams.add(end)
    const tick = async () => {
      // A reader that does not read gets the next state instead of all the ones before it.
      if (response.writableLength > 0) return
      response.write(`event: intake\ndata: ${JSON.stringify(await statusOf(registry, context))}\n\n`)
    }
    const timer = setInterval(() => void tick().catch(end), everyMs)
    response.once('close', () => {
      clearInterval(timer)
      app.openStreams.delete(end)
      streams--
    })
    response.writeHead(200, {
      'Content-Type': 'text/event-stream; charset=utf-8',
      'Cache-Control': 'no-store',
      'X-Accel-Buffering': 'no',
      'X-Request-Id': request.id,
    })
    void tick().catch(end)
  }
}

function wantsEvents({ headers }: FastifyRequest): boolean {
  return headers.accept?.includes('text/event-stream') === true
}

async function statusOf(registry: Registry, { clock, intake }: QueryContext): Promise<IntakeStatus> {
  const state = intake()
  const [rows, bytes, limits, rejected] = await Promise.all([
    samples(registry, 'rows_total'),
    samples(registry, 'received_bytes_total'),
    samples(registry, 'ratelimit_hits_total'),
    samples(registry, 'rejected_rows_total'),
  ])
  return {
    at: new Date(clock.now()).toISOString(),
    uptime_seconds: Math.max(0, clock.monotonicMs() - state.startedMonotonicMs) / 1_000,
    pending_rows: state.pendingRows,
    is_store_reachable: state.isWriterHealthy,
    problem: state.isWriterHealthy ? null : (state.problem ?? 'commits fail'),
    rows: rows.map(({ labels, value }) => ({
      outcome: labels.outcome ?? '',
      protocol: labels.protocol ?? '',
      count: value,
    })),
    bytes: bytes.map(({ labels, value }) => ({ protocol: labels.protocol ?? '', count: value })),
    limited: limits.map(({ labels, value }) => ({ key: labels.key ?? '', limit: labels.limit ?? '', count: value })),
    rejected: rejected.map(({ labels, value }) => ({
      protocol: labels.protocol ?? '',
      reason: labels.reason ?? '',
      count: value,
    })),
    journal: {
      bytes: await gauge(registry, 'journal_bytes'),
      capacity_bytes: await gauge(registry, 'journal_capacity_bytes'),
      oldest_pending_seconds: await gauge(registry, 'journal_oldest_pending_seconds'),
    },
    append: await histogram(registry, 'journal_append_duration_seconds'),
    commit: await histogram(registry, 'batch_commit_duration_seconds'),
    quarantine_rows: await gauge(registry, 'quarantine_rows'),
    imbalance_rows: await gauge(registry, 'ledger_imbalance_rows'),
    tails: await gauge(registry, 'tail_subscribers'),
  }
}

interface Sample {
  labels: Partial<Record<string, string>>
  value: number
}

async function samples(registry: Registry, suffix: string): Promise<Sample[]> {
  const metric = registry.getSingleMetric(`log_ingestion_${suffix}`)
  if (!metric) throw new Error(`BUG: there is no metric log_ingestion_${suffix}`)
  const { values } = await metric.get()
  return values.map(({ labels, value }) => ({
    labels: Object.fromEntries(Object.entries(labels).map(([name, text]) => [name, String(text)])),
    value,
  }))
}

async function gauge(registry: Registry, suffix: string): Promise<number> {
  const [first] = await samples(registry, suffix)
  return first?.value ?? 0
}

async function histogram(registry: Registry, suffix: string): Promise<HistogramState> {
  const metric = registry.getSingleMetric(`log_ingestion_${suffix}`)
  if (!(metric instanceof Histogram)) throw new Error(`BUG: log_ingestion_${suffix} is no histogram`)
  const { values } = await metric.get()
  return {
    buckets: values.flatMap(({ metricName, labels, value }) =>
      metricName?.endsWith('_bucket') && labels.le !== '+Inf'
        ? [{ at_most_seconds: Number(labels.le), count: value }]
        : [],
    ),
    count: values.find(({ metricName }) => metricName?.endsWith('_count'))?.value ?? 0,
  }
}
