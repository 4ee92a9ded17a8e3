// GET /api/v1/intake: how intake does at this moment, for the console; as server-sent events, once a second.
//
// Everything is read from the metric families, so the screen and the alert rules cannot disagree, or for one tenant from
// what is counted beside them. All numbers are those of this process since its start; rates are made by whoever compares
// two of them.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Histogram, type Registry } from 'prom-client'
import type { HistogramState, IntakeStatus } from '../api.ts'
import { tooManyTails } from '../errors.ts'
import type { Backlog } from '../pipeline/backlog.ts'
import type { TenantCounts } from '../pipeline/tenant-counts.ts'
import { authorize } from './caller.ts'
import type { QueryContext } from './context.ts'

const everyMs = 1_000
/** A console holds one of these per open Intake screen. */
const streamsMax = 20

export interface IntakeStatusContext extends QueryContext {
  backlog: Backlog
  tenants: TenantCounts
}

export function addIntakeStatus(app: FastifyInstance, context: IntakeStatusContext, registry: Registry): void {
  let streams = 0

  app.get('/api/v1/intake', async (request, reply) => {
    // Rates of all tenants together, and names of their keys, are for whoever may see all tenants.
    const { caller, tenant: asked } = authorize(context.access, request, 'logs:admin')
    const tenant = caller.anyTenant && asked === caller.tenant ? null : asked
    if (!wantsEvents(request)) return reply.send(await statusOf(registry, context, tenant))
    if (streams >= streamsMax) throw tooManyTails()
    streams++
    stream(request, reply, tenant)
    return reply
  })

  const stream = (request: FastifyRequest, reply: FastifyReply, tenant: string | null) => {
    const response = reply.raw
    reply.hijack()
    const end = () => response.end()
    app.openStreams.add(end)
    const tick = async () => {
      // A reader that does not read gets the next state instead of all the ones before it.
      if (response.writableLength > 0) return
      response.write(`event: intake\ndata: ${JSON.stringify(await statusOf(registry, context, tenant))}\n\n`)
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

async function statusOf(
  registry: Registry,
  { clock, intake, backlog, tenants }: IntakeStatusContext,
  tenant: string | null,
): Promise<IntakeStatus> {
  const state = intake()
  return {
    at: new Date(clock.now()).toISOString(),
    tenant,
    uptime_seconds: Math.max(0, clock.monotonicMs() - state.startedMonotonicMs) / 1_000,
    pending_rows: tenant === null ? state.pendingRows : pendingRowsOf(backlog, tenant),
    is_store_reachable: state.isWriterHealthy,
    problem: state.isWriterHealthy ? null : (state.problem ?? 'commits fail'),
    ...(tenant === null ? await countsOfAll(registry) : await countsOf(registry, tenants, tenant)),
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

type Counts = Pick<IntakeStatus, 'rows' | 'bytes' | 'limited' | 'rejected'>

async function countsOfAll(registry: Registry): Promise<Counts> {
  const [rows, bytes, limited, rejected] = await Promise.all([
    samples(registry, 'rows_total'),
    samples(registry, 'received_bytes_total'),
    samples(registry, 'ratelimit_hits_total'),
    samples(registry, 'rejected_rows_total'),
  ])
  return {
    rows: rows.map(({ labels, value }) => ({
      outcome: labels.outcome ?? '',
      protocol: labels.protocol ?? '',
      count: value,
    })),
    bytes: bytes.map(({ labels, value }) => ({ protocol: labels.protocol ?? '', count: value })),
    limited: limited.map(({ labels, value }) => ({ key: labels.key ?? '', limit: labels.limit ?? '', count: value })),
    rejected: rejected.map(({ labels, value }) => ({
      protocol: labels.protocol ?? '',
      reason: labels.reason ?? '',
      count: value,
    })),
  }
}

async function countsOf(registry: Registry, tenants: TenantCounts, tenant: string): Promise<Counts> {
  const { limited } = await countsOfAll(registry)
  return {
    rows: tenants
      .of(tenant, 'rows')
      .map(({ labels: [outcome = '', protocol = ''], count }) => ({ outcome, protocol, count })),
    bytes: tenants.of(tenant, 'bytes').map(({ labels: [protocol = ''], count }) => ({ protocol, count })),
    limited: [
      ...tenants.of(tenant, 'limited').map(({ labels: [key = '', limit = ''], count }) => ({ key, limit, count })),
      // When the service is full it is so for everybody.
      ...limited.filter(({ key }) => key === 'all'),
    ],
    rejected: tenants
      .of(tenant, 'rejected')
      .map(({ labels: [protocol = '', reason = ''], count }) => ({ protocol, reason, count })),
  }
}

function pendingRowsOf(backlog: Backlog, tenant: string): number {
  return backlog
    .pending()
    .filter(item => item.tenant === tenant)
    .reduce((sum, { rows }) => sum + rows, 0)
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
