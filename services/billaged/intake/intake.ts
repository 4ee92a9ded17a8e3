import { Counter, Histogram } from 'prom-client'
import type { HealthCheck } from '#platform/http'
import { type Journal, JournalClosed, JournalDiskError, JournalFull, type JournalPosition } from '#platform/journal'
import type { Base } from '#platform/lifecycle'
import type { Unacknowledged } from '../errors.ts'
import { type AsideReason, encodeRecord, type Fact } from './record.ts'
import { describeAside } from './validate.ts'

export interface Intake {
  /** Resolves when the facts are durable: all of them, or it throws NotAcknowledged and none is stored. */
  acknowledge(facts: readonly Fact[]): Promise<void>
  /** The same for facts that are encoded already. */
  acknowledgeRecord(record: Buffer): Promise<void>
  /** For the caller's metrics and log, after acknowledge. */
  countSamples(
    of: { customerId: string; vmId: string },
    accepted: number,
    aside: ReadonlyMap<AsideReason, number>,
  ): void
  /** Samples that were acknowledged, and set aside when they were folded. */
  countExpired(count: number): void
  countEvents(accepted: number, aside: ReadonlyMap<AsideReason, number>): void
  /** What of notices was set aside. */
  countAside(aside: ReadonlyMap<AsideReason, number>): void
  /** Whether anything can be acknowledged. Red from a refusal by the journal until an append works again. */
  health(): HealthCheck
  /** Since the start: for the regular summary. */
  totals(): { batches: number; samples: number; events: number }
  /** Number of the last journal batch of this life. */
  lastSequence(): bigint | null
  draining(): void
  close(): Promise<void>
}

export class NotAcknowledged extends Error {
  override name = 'NotAcknowledged'
  readonly why: Unacknowledged

  constructor(why: Unacknowledged, cause?: unknown) {
    super(why.message, { cause })
    this.why = why
  }
}

export interface IntakeOptions {
  journal: Journal
  ack: 'journal' | 'database'
  /** Resolves when everything before the position is committed in the database. */
  waitUntilFolded(position: JournalPosition, timeoutMs: number): Promise<boolean>
  /** Adds labels per VM and customer to what is counted by sample and batch. */
  isHighCardinality?: boolean
  base: Base
}

/** How long a reply may wait for the database with ACK=database. Shorter than a sender's own time-out. */
const databaseAckMsMax = 10_000
const probeEveryMs = 1_000

export function createIntake(o: IntakeOptions): Intake {
  const { journal, ack, waitUntilFolded, base, isHighCardinality = false } = o
  const metrics = createMetrics(base, isHighCardinality)
  const tally = createTally(base)
  let isDraining = false
  let refused: { why: Unacknowledged; sinceMs: number } | null = null
  let lastSequence: bigint | null = null
  const totals = { batches: 0, samples: 0, events: 0 }
  let probing: NodeJS.Timeout | undefined

  async function append(record: Buffer) {
    try {
      const receipt = await journal.append(record)
      refused = null
      lastSequence = receipt.sequence
      return receipt
    } catch (error) {
      const named = refusal(error)
      if (named instanceof NotAcknowledged && named.why.reason !== 'STOPPING') {
        refused ??= { why: named.why, sinceMs: base.clock.now() }
        probeLater()
      }
      throw named
    }
  }

  /** A red health check turns senders away, so nobody's append would find out that the disk is back: ours must. */
  function probeLater() {
    probing ??= setTimeout(() => {
      probing = undefined
      append(encodeRecord([])).catch(() => {})
    }, probeEveryMs).unref()
  }

  async function acknowledgeRecord(record: Buffer) {
    if (isDraining)
      throw new NotAcknowledged({ reason: 'STOPPING', message: 'stopping; send it again', retryAfterS: 1 })
    const startedMs = base.clock.monotonicMs()
    const receipt = await append(record)
    const end = { segment: receipt.segment, offset: receipt.to }
    if (ack === 'database' && !(await waitUntilFolded(end, databaseAckMsMax)))
      throw new NotAcknowledged({
        reason: 'DATABASE_AWAY',
        message: 'the database has not committed it yet; send it again, nothing is counted twice',
        retryAfterS: 5,
      })
    metrics.seconds.observe((base.clock.monotonicMs() - startedMs) / 1000)
  }

  return {
    acknowledge: facts => acknowledgeRecord(encodeRecord(facts)),
    acknowledgeRecord,
    countSamples({ customerId, vmId }, accepted, aside) {
      let total = accepted
      for (const n of aside.values()) total += n
      metrics.batchSize.observe(total)
      if (isHighCardinality) {
        const labels = { vm_id: vmId, customer_id: customerId, tenant_id: customerId }
        metrics.batches.inc(labels)
        metrics.samples.inc(labels, total)
      } else {
        metrics.batches.inc()
        metrics.samples.inc(total)
      }
      totals.batches++
      totals.samples += total
      for (const [reason, n] of aside) metrics.aside.inc({ reason }, n)
      tally(total, aside)
    },
    countExpired: count => metrics.aside.inc({ reason: 'expired' }, count),
    countAside(aside) {
      for (const [reason, n] of aside) metrics.aside.inc({ reason }, n)
    },
    countEvents(accepted, aside) {
      const total = accepted + [...aside.values()].reduce((sum, n) => sum + n, 0)
      metrics.events.inc(total)
      totals.events += total
      for (const [reason, n] of aside) metrics.aside.inc({ reason }, n)
    },
    health() {
      if (refused === null) return { status: 'ok' }
      return { status: 'down', detail: refused.why.message, since: new Date(refused.sinceMs).toISOString() }
    },
    totals: () => ({ ...totals }),
    lastSequence: () => lastSequence,
    draining() {
      isDraining = true
    },
    async close() {
      isDraining = true
      clearTimeout(probing)
    },
  }
}

/** Why the journal did not take it, as a reply; bugs stay as they are. */
function refusal(error: unknown): unknown {
  if (error instanceof JournalFull)
    return new NotAcknowledged(
      {
        reason: 'JOURNAL_FULL',
        message: 'the journal is full until the database has caught up; nothing was stored, send it again',
        retryAfterS: error.retryAfterS,
      },
      error,
    )
  if (error instanceof JournalDiskError)
    return new NotAcknowledged(
      {
        reason: error.reason,
        message: 'the journal cannot be written; nothing was stored, send it again',
        retryAfterS: 5,
      },
      error,
    )
  if (error instanceof JournalClosed)
    return new NotAcknowledged({ reason: 'STOPPING', message: 'stopping; send it again', retryAfterS: 1 }, error)
  // A request larger than the whole journal may be: with a very small JOURNAL_MAX_BYTES only.
  if (error instanceof RangeError)
    return new NotAcknowledged(
      { reason: 'JOURNAL_FULL', message: `${error.message}; send less at once`, retryAfterS: 5 },
      error,
    )
  return error
}

/** One INFO line a second at most, with totals; each batch at DEBUG. */
function createTally({ log, clock }: Base) {
  let batches = 0
  let samples = 0
  let loggedMs = Number.NEGATIVE_INFINITY
  return (count: number, aside: ReadonlyMap<AsideReason, number>) => {
    batches++
    samples += count
    if (log.isLevelEnabled('debug'))
      log.debug({ samples: count, ...(aside.size > 0 ? { setAside: describeAside(aside) } : {}) }, 'metrics batch')
    if (clock.monotonicMs() - loggedMs < 1000) return
    loggedMs = clock.monotonicMs()
    log.info({ batches, samples }, 'received metrics batch')
    batches = 0
    samples = 0
  }
}

function createMetrics({ registry }: Base, isHighCardinality: boolean) {
  const registers = [registry]
  const labelNames = isHighCardinality ? ['vm_id', 'customer_id', 'tenant_id'] : []
  return {
    samples: new Counter({
      name: 'billaged_metrics_processed_total',
      help: 'Samples made durable.',
      labelNames,
      registers,
    }),
    batches: new Counter({
      name: 'billaged_usage_records_processed_total',
      help: 'Batches made durable.',
      labelNames,
      registers,
    }),
    seconds: new Histogram({
      name: 'billaged_processing_duration_seconds',
      help: 'From a decoded request to its durable reply.',
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    }),
    batchSize: new Histogram({
      name: 'billaged_batch_size_histogram',
      help: 'Samples per batch.',
      buckets: [1, 10, 60, 100, 300, 600, 1_000, 3_000, 10_000, 30_000, 100_000],
      registers,
    }),
    aside: new Counter({
      name: 'billaged_samples_set_aside_total',
      help: 'Valid but doubtful samples, notices and events, kept and not billed.',
      labelNames: ['reason'],
      registers,
    }),
    events: new Counter({ name: 'billaged_events_processed_total', help: 'Usage events made durable.', registers }),
  }
}
