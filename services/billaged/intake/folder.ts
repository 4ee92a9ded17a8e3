import { Counter, Histogram } from 'prom-client'
import type { HealthCheck } from '#platform/http'
import {
  comparePositions,
  type Journal,
  type JournalBatch,
  JournalClosed,
  type JournalPosition,
} from '#platform/journal'
import type { Base } from '#platform/lifecycle'
import { isDataError } from '#platform/postgres'
import { sleep } from '#platform/time'
import { sealAfterMs } from './hours.ts'
import { decodeRecord, type Fact } from './record.ts'

// Works the journal into the database, for as long as the process lives.
//
//   caught up ──▶ collecting ──▶ writing ──▶ caught up | writing
//                                   │
//                database away: waiting, longer each time, then writing the same again
//                data refused:  writing one journal batch at a time; the one that is refused alone is set aside
//
// One transaction holds the facts of some batches and the position behind them, so a crash between any two lines folds
// them once. Facts are sets, so folding them twice would be the same.

export interface Folder {
  /** Everything this replica acknowledged before the position is committed, or the time is over. */
  waitUntilFolded(position: JournalPosition, timeoutMs: number): Promise<boolean>
  isCaughtUp(): boolean
  /** Number of the last journal batch that is committed. */
  lastSequence(): bigint | null
  health(): HealthCheck
  /** Folds what is there for up to `drainMs`, then stops; the rest stays in the journal. */
  close(drainMs: number): Promise<void>
}

export interface FolderOptions {
  journal: Journal
  /** The journal's reader that this folder is. */
  reader: string
  /** Where an earlier life came to; null: from the oldest there is. */
  from: JournalPosition | null
  write(
    facts: readonly Fact[],
    position: JournalPosition,
    mayOverlap: (fact: Extract<Fact, { kind: 'samples' }>) => boolean,
  ): Promise<FoldedCounts>
  /** Takes batches that cannot be read or stored, for a person; says where they are. */
  setAside(name: string, payload: Uint8Array, error: unknown): Promise<string>
  /** Samples that were acknowledged and turned out to be of hours that are sealed. */
  onExpired(count: number): void
  base: Base
}

/** Of the journal, as it was read. */
interface Piece {
  batches: readonly JournalBatch[]
  next: JournalPosition
  facts: readonly Fact[]
}

interface FoldedCounts {
  samples: number
  duplicateSamples: number
  conflicts: number
  events: number
  duplicateEvents: number
  expired: number
}

/** Long enough to fill a transaction, short enough that usage shows within two seconds. */
const collectMs = 250
const foldBytesMax = 8 * 1024 * 1024
const retryMsMax = 5_000

export function startFolder(o: FolderOptions): Folder {
  const { journal, base } = o
  const { log, clock } = base
  const metrics = createMetrics(base)
  const recent = createRecent()
  const stopping = new AbortController()
  const waiters = new Set<{ position: JournalPosition; done(): void }>()
  let position = o.from
  let failure: { error: unknown; sinceMs: number } | null = null
  let lastSequence: bigint | null = null
  let ahead: { from: JournalPosition; piece: Promise<Piece> } | null = null
  let isDraining = false

  const isFolded = (to: JournalPosition) => position !== null && comparePositions(position, to) >= 0
  const isCaughtUp = () => journal.bytes === 0 || isFolded(journal.end)

  function committed(next: JournalPosition) {
    position = next
    failure = null
    journal.release(o.reader, next)
    for (const waiter of waiters) if (isFolded(waiter.position)) waiter.done()
  }

  function noteCounts(counts: FoldedCounts, facts: readonly Fact[]) {
    if (counts.expired > 0) o.onExpired(counts.expired)
    count(metrics, counts, facts, clock.now())
  }

  async function foldNext(): Promise<void> {
    const { batches, next, facts } = await take()
    if (batches.length === 0) {
      committed(next)
      await journal.waitForMore(next, stopping.signal)
      if (waiters.size === 0 && !isDraining) await sleep(collectMs, stopping.signal)
      return
    }
    const stop = metrics.seconds.startTimer()
    readAhead(batches, next)
    try {
      noteCounts(await o.write(facts, next, recent.mayOverlap), facts)
      recent.remember(facts)
      committed(next)
      lastSequence = batches.at(-1)?.sequence ?? lastSequence
    } catch (error) {
      if (!isDataError(error)) throw error
      log.warn({ err: error, batches: batches.length }, 'the database refused a fold; folding one batch at a time')
      await foldEach(batches)
    } finally {
      stop()
    }
  }

  async function take(): Promise<Piece> {
    // After a failure the same is folded again, not what follows it.
    const piece = ahead?.from === position ? await ahead.piece : undefined
    ahead = null
    // What was read ahead may have been nothing yet.
    return piece !== undefined && piece.batches.length > 0 ? piece : read(position)
  }

  async function read(from: JournalPosition | null): Promise<Piece> {
    const { batches, next } = await journal.read(from, { bytesMax: foldBytesMax })
    return { batches, next, facts: await factsOf(batches) }
  }

  /** With a backlog, the next piece is read and decoded while the database has this one. */
  function readAhead(batches: readonly JournalBatch[], from: JournalPosition) {
    const bytes = batches.reduce((sum, { payload }) => sum + payload.length, 0)
    if (bytes < foldBytesMax / 2) return
    ahead = { from, piece: read(from) }
    // Whoever takes it hears of it.
    ahead.piece.catch(() => {})
  }

  async function foldEach(batches: readonly JournalBatch[]) {
    for (const batch of batches) {
      const next = { segment: batch.segment, offset: batch.to }
      try {
        const facts = await factsOf([batch])
        noteCounts(await o.write(facts, next, recent.mayOverlap), facts)
      } catch (error) {
        if (!isDataError(error)) throw error
        await setAside(batch, error)
        await o.write([], next, recent.mayOverlap)
      }
      committed(next)
      lastSequence = batch.sequence
    }
  }

  async function factsOf(batches: readonly JournalBatch[]): Promise<Fact[]> {
    const facts: Fact[] = []
    for (const batch of batches) {
      try {
        facts.push(...decodeRecord(batch.payload))
      } catch (error) {
        await setAside(batch, error)
      }
    }
    return facts
  }

  async function setAside(batch: JournalBatch, error: unknown) {
    const path = await o.setAside(`batch-${batch.segment}-${batch.from}`, batch.payload, error)
    metrics.errors.inc({ error_type: 'unreadable_batch' })
    log.error({ err: error, path }, 'BUG: an acknowledged batch cannot be folded; it is set aside')
  }

  async function run() {
    let retryMs = 100
    while (!stopping.signal.aborted) {
      try {
        await foldNext()
        retryMs = 100
        if (isDraining && isCaughtUp()) return
      } catch (error) {
        if (stopping.signal.aborted || error instanceof JournalClosed) return
        if (failure === null) log.warn({ err: error }, 'folding fails; the journal keeps what comes in, trying again')
        failure ??= { error, sinceMs: clock.now() }
        metrics.errors.inc({ error_type: 'fold' })
        await sleep(retryMs, stopping.signal).catch(() => {})
        retryMs = Math.min(retryMs * 2, retryMsMax)
      }
    }
  }

  const running = run()

  return {
    isCaughtUp,
    lastSequence: () => lastSequence,
    async waitUntilFolded(to, timeoutMs) {
      if (isFolded(to)) return true
      return new Promise(resolve => {
        const settle = (isDone: boolean) => {
          clearTimeout(timer)
          waiters.delete(waiter)
          resolve(isDone)
        }
        const timer = setTimeout(() => settle(false), timeoutMs)
        const waiter = { position: to, done: () => settle(true) }
        waiters.add(waiter)
      })
    },
    health() {
      if (failure === null) return { status: 'ok' }
      const text = failure.error instanceof Error ? failure.error.message : String(failure.error)
      return {
        status: 'degraded',
        detail: `not folding, the journal keeps what comes in: ${text}`,
        since: new Date(failure.sinceMs).toISOString(),
      }
    },
    async close(drainMs) {
      isDraining = true
      if (isCaughtUp()) stopping.abort()
      const deadline = setTimeout(() => stopping.abort(), drainMs)
      await running
      clearTimeout(deadline)
    },
  }
}

function count(metrics: ReturnType<typeof createMetrics>, counts: FoldedCounts, facts: readonly Fact[], nowMs: number) {
  metrics.duplicates.inc(counts.duplicateSamples)
  metrics.conflicts.inc(counts.conflicts)
  let late = 0
  for (const fact of facts)
    if (fact.kind === 'samples' && (fact.part.hour + 1) * 3_600_000 + sealAfterMs < nowMs) late += fact.part.count
  metrics.late.inc(late)
}

/** Up to where the parts of recent series reach, so that only those that reach back are compared for conflicts. */
function createRecent() {
  const ends = new Map<string, bigint>()
  const keyOf = (fact: { customerId: string; vmId: string }) => `${fact.customerId}\0${fact.vmId}`
  return {
    mayOverlap: (fact: Extract<Fact, { kind: 'samples' }>) => fact.part.minNs <= (ends.get(keyOf(fact)) ?? -1n),
    remember(facts: readonly Fact[]) {
      for (const fact of facts) {
        if (fact.kind !== 'samples') continue
        const key = keyOf(fact)
        const before = ends.get(key)
        if (before !== undefined && before >= fact.part.maxNs) continue
        // Taken out first, so that the oldest key is the one that was silent longest.
        ends.delete(key)
        ends.set(key, fact.part.maxNs)
      }
      for (const key of ends.keys()) {
        if (ends.size <= recentSeriesMax) break
        ends.delete(key)
      }
    },
  }
}

const recentSeriesMax = 100_000

function createMetrics({ registry }: Base) {
  const registers = [registry]
  return {
    seconds: new Histogram({
      name: 'billaged_aggregation_duration_seconds',
      help: 'One pass from the journal to the database.',
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    }),
    duplicates: new Counter({
      name: 'billaged_samples_duplicate_total',
      help: 'Samples that were stored already: retries and replays. Counted by part.',
      registers,
    }),
    conflicts: new Counter({
      name: 'billaged_samples_conflict_total',
      help: 'Instants of a VM found with several different readings.',
      registers,
    }),
    late: new Counter({
      name: 'billaged_samples_late_total',
      help: 'Samples folded more than 15 minutes after the end of their hour.',
      registers,
    }),
    errors: new Counter({
      name: 'billaged_billing_errors_total',
      help: 'Folding that failed.',
      labelNames: ['error_type'],
      registers,
    }),
  }
}
