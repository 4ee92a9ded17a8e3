// The metric families of the intake and the way into the database; names and labels are a contract with the alert rules.

import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import { errorCode, isDataError, isUnavailable } from '#platform/postgres'
import type { Tally } from '../json/metadata.ts'
import type { Protocol } from '../record.ts'
import type { CommitOutcome } from '../store/commit.ts'
import { createTenantCounts } from './tenant-counts.ts'

export type IntakeMetrics = ReturnType<typeof createMetrics>

export type QueryKind =
  | 'search'
  | 'histogram'
  | 'entry'
  | 'stats'
  | 'fields'
  | 'values'
  | 'context'
  | 'patterns'
  | 'export'
  | 'loki'

/** Names of keys become label values, so their number is bounded. */
const keyLabelsMax = 200

type Limit = 'requests' | 'rows' | 'bytes' | 'quota' | 'overload' | 'auth'

export function createMetrics(
  registry: Registry,
  read: {
    pendingRows: () => number
    isDatabaseUp: () => boolean
    imbalanceRows: () => number
    quarantineRows: () => number
    tails: () => number
  },
) {
  const name = (suffix: string) => `log_ingestion_${suffix}`
  const counter = (suffix: string, help: string, labelNames: string[] = []) =>
    new Counter({ name: name(suffix), help, labelNames, registers: [registry] })
  const gauge = (suffix: string, help: string, value: () => number) =>
    new Gauge({
      name: name(suffix),
      help,
      registers: [registry],
      collect() {
        this.set(value())
      },
    })
  const histogram = (suffix: string, help: string, buckets: number[], labelNames: string[] = []) =>
    new Histogram({ name: name(suffix), help, buckets, labelNames, registers: [registry] })

  const rows = counter('rows_total', 'Rows by what became of them.', ['outcome', 'protocol'])
  const rejected = counter('rejected_rows_total', 'Rows refused by a rule.', ['protocol', 'reason'])
  const receivedBytes = counter('received_bytes_total', 'Bytes of bodies after decompression.', ['protocol'])
  const limited = counter('ratelimit_hits_total', 'Requests answered 429.', ['key', 'limit'])
  const batchRows = histogram(
    'batch_rows',
    'Rows in one commit.',
    [1, 10, 100, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000],
  )
  const commitSeconds = histogram(
    'batch_commit_duration_seconds',
    'From taking a batch to its commit.',
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  )
  const flushes = counter('flushes_total', 'Batches by what started them and how they ended.', ['trigger', 'result'])
  const databaseErrors = counter('db_errors_total', 'Failed database work.', ['class'])
  const databaseSeconds = histogram(
    'db_query_duration_seconds',
    'What is asked of the store, by whom ever: searches, counts, look-ups, pieces of scans, sizes.',
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60],
    ['query'],
  )
  const querySeconds = histogram(
    'query_duration_seconds',
    'Searches, histograms and look-ups.',
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60],
    ['kind'],
  )
  const scannedRows = counter('query_scanned_rows_total', 'Rows read to answer queries.')
  const droppedRows = counter('tail_dropped_rows_total', 'Rows that slow tails were told they lost.')
  const redactions = counter('redactions_total', 'Metadata members removed, and texts replaced by a pattern.', ['rule'])
  const forgotten = counter(
    'remembered_evicted_total',
    'Accepted requests forgotten before their time because too many are remembered.',
    ['kind'],
  )
  const sanitized = counter('sanitized_total', 'Values changed because no database takes them.', ['kind'])

  const reload = new Gauge({
    name: name('config_reload_success'),
    help: '1 unless the last reload was refused.',
    registers: [registry],
  })
  reload.set(1)
  gauge('journal_pending_rows', 'Rows acknowledged and not yet in the database.', read.pendingRows)
  gauge('db_up', '1 while commits work.', () => (read.isDatabaseUp() ? 1 : 0))
  gauge(
    'ledger_imbalance_rows',
    'Rows the journal counted and the database cannot account for; must be 0.',
    read.imbalanceRows,
  )
  gauge('quarantine_rows', 'Open entries in quarantine.', read.quarantineRows)
  gauge('tail_subscribers', 'Live tails.', read.tails)

  const keyLabel = boundedLabel()
  // Tenants name their own rules.
  const ruleLabel = boundedLabel()
  // No labels: their number has no bound, and what one tenant sends is not for whoever reads /metrics.
  const tenants = createTenantCounts()

  return {
    accepted(tenant: string, protocol: Protocol, count: number, rejectedCount: number, bytes: number) {
      rows.labels('accepted', protocol).inc(count)
      tenants.add(tenant, 'rows', count, 'accepted', protocol)
      if (rejectedCount > 0) {
        rows.labels('rejected', protocol).inc(rejectedCount)
        rejected.labels(protocol, 'validation').inc(rejectedCount)
        tenants.add(tenant, 'rows', rejectedCount, 'rejected', protocol)
        tenants.add(tenant, 'rejected', rejectedCount, protocol, 'validation')
      }
      receivedBytes.labels(protocol).inc(bytes)
      tenants.add(tenant, 'bytes', bytes, protocol)
    },
    tenants,
    databaseQueried: (query: string, seconds: number) => databaseSeconds.labels(query).observe(seconds),
    /** A resend that was answered and not stored again. */
    repeated(tenant: string, protocol: Protocol, count: number, bytes: number) {
      rows.labels('duplicate', protocol).inc(count)
      receivedBytes.labels(protocol).inc(bytes)
      tenants.add(tenant, 'rows', count, 'duplicate', protocol)
      tenants.add(tenant, 'bytes', bytes, protocol)
    },
    forgotten: (kind: 'dedupe' | 'idempotency', count: number) => forgotten.labels(kind).inc(count),
    /** Undefined: it was nobody's, or everybody's. */
    limited(tenant: string | undefined, key: string, limit: Limit) {
      limited.labels(keyLabel(key), limit).inc()
      if (tenant !== undefined) tenants.add(tenant, 'limited', 1, key, limit)
    },
    cleaned(tally: Tally) {
      for (const [rule, count] of tally.redactions) redactions.labels(ruleLabel(rule)).inc(count)
      if (tally.nul > 0) sanitized.labels('nul').inc(tally.nul)
      if (tally.surrogate > 0) sanitized.labels('surrogate').inc(tally.surrogate)
      if (tally.number > 0) sanitized.labels('number').inc(tally.number)
    },
    committed(count: number, seconds: number) {
      batchRows.observe(count)
      commitSeconds.observe(seconds)
    },
    settled({ stored, quarantined, duplicates, storedOf }: Omit<CommitOutcome, 'wasPresent'>) {
      rows.labels('stored', 'all').inc(stored)
      for (const [tenant, count] of storedOf) tenants.add(tenant, 'rows', count, 'stored', 'all')
      if (duplicates > 0) rows.labels('duplicate', 'all').inc(duplicates)
      if (quarantined > 0) rows.labels('quarantined', 'all').inc(quarantined)
    },
    commitFailed: (error: unknown) => databaseErrors.labels(errorClass(error)).inc(),
    flushed: (trigger: 'size' | 'age' | 'shutdown', result: 'ok' | 'stopped') => flushes.labels(trigger, result).inc(),
    queried(kind: QueryKind, seconds: number, scanned: number) {
      querySeconds.labels(kind).observe(seconds)
      scannedRows.inc(scanned)
    },
    reloaded: (isSuccess: boolean) => reload.set(isSuccess ? 1 : 0),
    tailDropped: (count: number) => droppedRows.inc(count),
  }
}

/** The first so many names as they are, `other` for the rest. */
function boundedLabel(): (name: string) => string {
  const names = new Set<string>()
  return name => {
    if (names.size < keyLabelsMax) names.add(name)
    return names.has(name) ? name : 'other'
  }
}

function errorClass(error: unknown): string {
  if (isDataError(error)) return 'data'
  if (isUnavailable(error)) return 'unavailable'
  if (errorCode(error) === '42501') return 'permission'
  return 'other'
}
