// GET|POST /api/v1/logs/histogram

import type { FastifyInstance, FastifyRequest } from 'fastify'
import { formatDuration } from '#platform/time'
import type { HistogramAnswer, HistogramBucket } from '../api.ts'
import { formatNanos } from '../rfc3339.ts'
import { authorize } from './caller.ts'
import { type QueryContext, withReads } from './context.ts'
import { bucketCount, bucketOrigin, histogramParameters, parametersOf } from './parameters.ts'

const rowsScannedMax = 50_000_000
/** Distinct values of `by` in one answer; services beyond are added up under `other`. */
const byValuesMax = 50

export function addHistogram(app: FastifyInstance, context: QueryContext): void {
  const { clock, metrics } = context
  const histogram = async (request: FastifyRequest): Promise<HistogramAnswer> => {
    const { caller, tenant } = authorize(context.access, request, 'logs:read')
    const { intervalMs, ...wanted } = histogramParameters(parametersOf(request), clock.now())
    const intervalNs = BigInt(intervalMs) * 1_000_000n
    const originNs = bucketOrigin(wanted.fromNs, intervalNs)
    const startedMs = clock.monotonicMs()
    const { counts, isPartial, scannedRows } = await context.gate.run(caller.key, () =>
      withReads(context, store =>
        store.count({ ...wanted, tenant, originNs, intervalNs, rowsScannedMax }, () => clock.monotonicMs()),
      ),
    )
    metrics.queried('histogram', (clock.monotonicMs() - startedMs) / 1_000, scannedRows)
    const kept = wanted.by === null ? null : frequent(counts)
    const buckets = Array.from(
      { length: bucketCount(wanted.fromNs, wanted.toNs, intervalNs) },
      (_, i): HistogramBucket => {
        const values = counts.get(i) ?? new Map<string, bigint>()
        const total = [...values.values()].reduce((sum, count) => sum + count, 0n)
        const time = formatNanos(originNs + BigInt(i) * intervalNs)
        return { time, count: String(total), ...(kept ? { by: grouped(values, kept) } : {}) }
      },
    )
    return { interval: formatDuration(intervalMs), buckets, partial: isPartial }
  }
  app.get('/api/v1/logs/histogram', histogram)
  app.post('/api/v1/logs/histogram', histogram)
}

function frequent(counts: Map<number, Map<string, bigint>>): Set<string> {
  const sums = new Map<string, bigint>()
  for (const values of counts.values())
    for (const [value, count] of values) sums.set(value, (sums.get(value) ?? 0n) + count)
  const ordered = [...sums].sort(([, a], [, b]) => (a === b ? 0 : a > b ? -1 : 1))
  return new Set(ordered.slice(0, byValuesMax).map(([value]) => value))
}

function grouped(values: Map<string, bigint>, kept: Set<string>): Record<string, string> {
  const sums = new Map<string, bigint>()
  for (const [value, count] of values) {
    const name = kept.has(value) ? value : 'other'
    sums.set(name, (sums.get(name) ?? 0n) + count)
  }
  return Object.fromEntries([...sums].map(([name, count]) => [name, String(count)]))
}
