// From the journal into the database, in batches, in order, for as long as it takes.
//
//   waiting  ──▶ writing     BATCH_SIZE rows are pending, or the oldest is BATCH_FLUSH_INTERVAL old, or we drain
//   writing  ──▶ waiting     committed, or found to be committed already
//   writing  ──▶ backing off the database is away, full, or refuses us: 100 ms … 10 s, the same batch, the same ids
//   backing off ─▶ writing
//   any      ──▶ stopped     close(): what is left waits in the journal
//
// Two batches are in work at once: the second copies its rows while the first commits, and waits for it before it locks
// anything they share. So commits happen in the order of acceptance, ids ascend with it, and the stored ranges of a
// segment have no holes but damaged ones. A record that is larger than a batch goes in parts, one commit each. Memory holds
// two batches and one read ahead, whatever the backlog.

import type { Journal, JournalBatch, JournalPosition } from '#platform/journal'
import { isDataError, isUnavailable, type Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { type Clock, rfc3339, sleep } from '#platform/time'
import type { BufferPool } from '../buffer-pool.ts'
import { readRecord } from '../record.ts'
import { cutRecord, type RecordParts } from '../record-parts.ts'
import { type Batch, type CommitOutcome, commitBatch } from '../store/commit.ts'
import {
  drawIds,
  loadAccountedRows,
  loadCommitted,
  mergeCommitted,
  rowsBetween,
  type StoredRange,
  storedRange,
  storedUpTo,
} from '../store/commits.ts'
import { grantFor } from '../store/missing-right.ts'
import type { DoubtfulResends } from '../store/resends.ts'
import { type JournalBegin, noteRewound, rowsBeyond } from '../store/rewound.ts'
import { boundaryBehind, type PendingRecord, type Sink } from '../store/sink.ts'
import type { IntakeMetrics } from './metrics.ts'

export const journalReader = 'writer'

export interface WriterOptions {
  journal: Journal
  replica: string
  sql: Sql
  /** Where entries go. */
  sink: Sink
  /** Where ids come from, whichever the sink: they are unique over both. */
  sequence: string
  batchRows: number
  flushIntervalMs: number
  /** For what is read from the journal. */
  pool: BufferPool
  clock: Clock
  log: Logger
  metrics: IntakeMetrics
  /** Undefined: nobody compares totals. */
  begin?: JournalBegin
  /** Which unmarked requests other replicas may have accepted too. Undefined: none. */
  resends?: DoubtfulResends | undefined
  /** Rows whose acceptance was told to their senders. */
  acceptedRows: () => bigint
  /** All of that many rows are committed, and all before the position; told when nothing is left to do. */
  onCaughtUp: (rows: bigint, position: JournalPosition) => void
  /** Called each second while the database is at work for us: when it says nothing any more, its connections are to go. */
  cutSilent?: () => void
  /** In order, after each commit: rows that left the journal, and the running total behind them. */
  onCommitted: (
    outcome: CommitOutcome & {
      rows: number
      rowsBehind: bigint
      receivedUs: bigint
      /** All before it is committed. */
      position: JournalPosition
      records: readonly PendingRecord[]
    },
  ) => void
}

export interface Writer {
  status(): WriterStatus
  /** Compares the journal with the stored ranges once more, from the oldest segment kept: the database was restored. */
  recheck(): void
  /** Commits all that is pending, for `drainMs` at most, and stops. */
  close(drainMs: number): Promise<void>
}

export interface WriterStatus {
  /** Whether the last commit, or attempt at one, worked. */
  isHealthy: boolean
  /** Why not, for people. */
  problem: string | undefined
  since: string | undefined
  /** When the oldest row read and not yet committed was accepted; undefined when there is none. */
  oldestPendingUs: bigint | undefined
  stored: number
  flushes: number
  failures: number
  quarantinedAt: number | undefined
}

/** Bounds of a batch beside BATCH_SIZE: a COPY gains nothing beyond, and this is what memory holds twice. A row that is
 *  larger goes alone. */
const batchRowsMin = 10_000
export const batchBytesMax = 8 * 1024 * 1024
export const readBytes = 1024 * 1024
const listenEveryMs = 1_000
const backoffMinMs = 100
const backoffMaxMs = 10_000
/** Tries of a batch, counted from its first, before a stop leaves it to the next process when the database is away. */
const attemptsWhileDraining = 3
/** Commits between two merges of the stored ranges. */
const mergeEvery = 256
/** While a batch gathers, how often the journal is asked for more; a wake-up per request would cost more than this. */
const gatherMs = 25

class Stopped extends Error {}
/** The batch before failed: this attempt must not commit first. */
class OutOfTurn extends Error {}

interface InWork {
  /** Its ids are drawn: the next batch may draw greater ones. */
  drawn: Promise<unknown>
  /** Of the first attempt only; later attempts begin after `committed`. */
  firstAttempt: Promise<boolean>
  committed: Promise<void>
}

interface Queued extends PendingRecord {
  /** Monotonic ms: a step of the wall clock must not delay a flush. */
  seenMs: number
  piece: Piece
  /** What is still to be stored of a record that goes in parts. */
  parts?: RecordParts
}

/** Of the journal, as it was read; its buffer is given back when the last of its records is settled. */
interface Piece {
  buffer: Buffer | undefined
  records: number
}

export async function openWriter(o: WriterOptions): Promise<Writer> {
  const { journal, sql, replica, clock, log, metrics } = o
  let stored: Map<string, StoredRange[]> = await loadCommitted(sql, replica)
  if (o.begin) await noteSnapshot(o, stored, o.begin)
  /** What the database accounts for, to measure a hole before the first record that is read. */
  let rowsAccounted = await loadAccountedRows(sql, replica)
  const rowsMax = () => Math.max(o.batchRows, batchRowsMin)
  const stopping = new AbortController()
  const draining = new AbortController()
  let queue: Queued[] = []
  let queueRows = 0
  let queueBytes = 0
  let damagedRows = 0
  let position: JournalPosition | null = null
  let rowsBehind: bigint | undefined
  const inWork: InWork[] = []
  let sinceMerge = 0
  const status: WriterStatus = {
    isHealthy: true,
    problem: undefined,
    since: undefined,
    oldestPendingUs: undefined,
    stored: 0,
    flushes: 0,
    failures: 0,
    quarantinedAt: undefined,
  }
  const pendingTimes: bigint[] = []

  /** Reads ahead until a batch is full or nothing more is there. */
  const fill = async () => {
    while (queueRows < rowsMax() && queueBytes < batchBytesMax) {
      // Told before the read: what is accepted while it runs may not be in its answer.
      const accepted = o.acceptedRows()
      const piece: Piece = { buffer: undefined, records: 0 }
      const { batches, next } = await journal.read(position, {
        bytesMax: readBytes,
        allocate(bytes) {
          if (piece.buffer) o.pool.give(piece.buffer)
          piece.buffer = o.pool.take(bytes)
          return piece.buffer
        },
      })
      if (batches.length === 0) {
        position = next
        if (queue.length === 0 && inWork.length === 0 && !isRecheckWanted) o.onCaughtUp(accepted, next)
        return
      }
      for (const batch of batches) {
        const until = storedUpTo(stored.get(batch.segment), batch.from, batch.to)
        if (until >= batch.to) {
          noteStored(batch)
          position = { segment: batch.segment, offset: until }
          // Releasing means "and all before": not while something before is still to be stored.
          if (queue.length === 0 && inWork.length === 0) release(position)
          // What follows in this read may be stored too: ask again from there.
          if (until > batch.to) break
          continue
        }
        const record = readRecord(batch.payload)
        noteGap(record.rowsBefore, record.rows, batch)
        const seenMs = clock.monotonicMs()
        const entry: Queued = { record, segment: batch.segment, from: batch.from, to: batch.to, seenMs, piece }
        if (until > batch.from) entry.parts = cutRecord(record, until - batch.from)
        queue.push(entry)
        piece.records++
        queueRows += entry.parts?.rowsLeft ?? record.rows
        queueBytes += entry.parts?.bytesLeft ?? record.payload.length
        position = { segment: batch.segment, offset: batch.to }
        pendingTimes.push(record.receivedUs)
      }
      status.oldestPendingUs = pendingTimes[0]
      if (piece.records === 0 && piece.buffer) o.pool.give(piece.buffer)
    }
  }

  /** Records carry the exact running total of rows before them, so a hole tells how many rows were in it. Before the first
   *  record of all, a hole without damage is a database that lost more than the journal keeps: an imbalance. */
  let isAtStart = true
  /** Behind what `rowsBehind` counts. */
  let placeBehind: JournalPosition | undefined
  const noteGap = (
    before: bigint,
    rows: number,
    { segment, from, to }: { segment: string; from: number; to: number },
  ) => {
    if (isAtStart && journal.damaged.length > 0) rowsBehind = rowsAccounted
    isAtStart = false
    let gap = rowsBehind === undefined ? 0 : Number(before - rowsBehind)
    // What was damaged after it was stored, or after a part of it was, is not lost.
    if (gap > 0 && placeBehind) gap -= rowsBetween(stored, placeBehind, { segment, offset: from })
    if (gap > 0) {
      damagedRows += gap
      log.error({ rows: gap }, 'rows were lost to damage in the journal; they are counted in the ledger')
    }
    rowsBehind = before + BigInt(rows)
    placeBehind = { segment, offset: to }
  }

  /** Of a record that is stored, with others behind it or by itself. */
  const noteStored = ({ segment, from, to, payload }: JournalBatch) => {
    isAtStart = false
    const range = storedRange(stored.get(segment), from)
    const isFirst = range?.from === from
    rowsBehind = isFirst
      ? readRecord(payload).rowsBefore + BigInt(range.to < to ? readRecord(payload).rows : range.rows)
      : undefined
    placeBehind = isFirst ? { segment, offset: Math.max(range.to, to) } : undefined
  }

  let isRecheckWanted = false
  const startAgain = async () => {
    isRecheckWanted = false
    stored = await loadCommitted(sql, replica)
    rowsAccounted = await loadAccountedRows(sql, replica)
    position = null
    rowsBehind = undefined
    placeBehind = undefined
    isAtStart = true
    log.warn('the database lost ranges of this journal; what is kept of them is stored again')
  }

  const release = (at: JournalPosition) => journal.release(journalReader, at)

  /** As much as goes into one commit; of a record that is larger, a part by itself. */
  const takeBatch = (): Queued[] => {
    const taken: Queued[] = []
    let rows = 0
    let bytes = 0
    let count = 0
    for (const entry of queue) {
      const [rowsLeft, bytesLeft] = [
        entry.parts?.rowsLeft ?? entry.record.rows,
        entry.parts?.bytesLeft ?? entry.record.payload.length,
      ]
      const fits = rows + rowsLeft <= rowsMax() && bytes + bytesLeft <= batchBytesMax
      if (!fits && count > 0) break
      if (fits && !entry.parts) taken.push(entry)
      else taken.push(takePart(entry))
      rows += rowsLeft - (entry.parts?.rowsLeft ?? 0)
      bytes += bytesLeft - (entry.parts?.bytesLeft ?? 0)
      if (entry.parts && entry.parts.rowsLeft > 0) break
      count++
      if (!fits) break
    }
    queue = queue.slice(count)
    queueRows -= rows
    queueBytes -= bytes
    return taken
  }

  const takePart = (entry: Queued): Queued => {
    const { segment, from, to, seenMs, record: all, piece } = entry
    entry.parts ??= cutRecord(all, 0)
    const { record, rowsBefore } = entry.parts.next(rowsMax(), batchBytesMax)
    const isLast = entry.parts.rowsLeft === 0
    // A part is a copy.
    if (isLast && --piece.records === 0 && piece.buffer) o.pool.give(piece.buffer)
    // One time for each part.
    if (!isLast) pendingTimes.splice(pendingTimes.length - queue.length, 0, record.receivedUs)
    return {
      record,
      segment,
      from: from + rowsBefore,
      to: isLast ? to : from + rowsBefore + record.rows,
      whole: { from, to, rows: all.rows, rowsBefore },
      seenMs,
      piece: { buffer: undefined, records: 1 },
    }
  }

  const fail = (problem: string) => {
    status.failures++
    if (status.isHealthy || status.problem !== problem)
      log.error({ problem }, 'cannot store entries yet; they wait in the journal')
    if (status.isHealthy) status.since = rfc3339(clock.now())
    status.isHealthy = false
    status.problem = problem
  }

  const mendOf = (error: unknown) => {
    const grant = grantFor(error, String(sql.options.user))
    return grant === undefined ? '' : `. Let an administrator run: ${grant};`
  }

  const recover = () => {
    if (!status.isHealthy) log.info({ since: status.since }, 'storing entries again')
    status.isHealthy = true
    status.problem = undefined
    status.since = undefined
  }

  const settle = (records: readonly Queued[], batch: Batch, outcome: CommitOutcome) => {
    const last = records.at(-1)
    if (!last) return
    const behind = boundaryBehind(last)
    release(behind)
    pendingTimes.splice(0, records.length)
    status.oldestPendingUs = pendingTimes[0]
    status.stored += outcome.stored
    status.flushes++
    if (outcome.quarantined > 0) status.quarantinedAt = clock.monotonicMs()
    recover()
    const rows = batch.rows
    o.onCommitted({
      ...outcome,
      rows,
      rowsBehind: last.record.rowsBefore + BigInt(last.record.rows),
      receivedUs: last.record.receivedUs,
      position: behind,
      records,
    })
    for (const { piece } of records) if (--piece.records === 0 && piece.buffer) o.pool.give(piece.buffer)
    if (++sinceMerge < mergeEvery) return
    sinceMerge = 0
    mergeCommitted(sql, replica, behind).catch(error =>
      log.warn({ err: error }, 'stored ranges were not merged; they will be next time'),
    )
  }

  /** Tries until the batch is committed. Rejects only with Stopped. */
  const store = async (
    records: readonly Queued[],
    before: InWork | undefined,
    tell: { drawn: () => void; firstAttempt: (worked: boolean) => void },
  ) => {
    const rows = records.reduce((sum, { record }) => sum + record.rows, 0)
    const lost = damagedRows
    damagedRows = 0
    let ids: BigInt64Array | undefined
    let quarantines = false
    for (let attempt = 0; ; attempt++) {
      if (attempt > 0) await before?.committed
      const startedMs = clock.monotonicMs()
      const listening = setInterval(() => o.cutSilent?.(), listenEveryMs)
      try {
        if (!ids) {
          await before?.drawn
          ids = await drawIds(sql, o.sequence, rows)
          tell.drawn()
        }
        const batch: Batch = { replica, records, rows, ids, damagedRows: lost }
        const outcome = await commitBatch(sql, o.sink, batch, {
          quarantines,
          resends: o.resends,
          myTurn: async () => {
            if (attempt === 0 && before && !(await before.firstAttempt)) throw new OutOfTurn()
          },
        })
        tell.firstAttempt(true)
        metrics.committed(rows, (clock.monotonicMs() - startedMs) / 1_000)
        settle(records, batch, outcome)
        return
      } catch (error) {
        tell.firstAttempt(false)
        if (stopping.signal.aborted) throw new Stopped()
        if (error instanceof OutOfTurn) continue
        metrics.commitFailed(error)
        if (isDataError(error)) {
          // Perhaps somebody dropped a partition; if not, the bad entries are looked for one by one.
          o.sink.forget()
          if (!quarantines)
            log.warn({ err: error, rows }, 'the database refuses something in this batch; looking for it')
          quarantines = true
          if (attempt < 2) continue
        }
        fail(isUnavailable(error) ? `the database is away: ${messageOf(error)}` : messageOf(error) + mendOf(error))
        if (!isUnavailable(error)) log.debug({ err: error }, 'commit failed')
        // Often it is our own end that took the database with it; what is left is safe in the journal, and the next
        // process waits for our lock on it.
        if (isUnavailable(error) && draining.signal.aborted && attempt >= attemptsWhileDraining) throw new Stopped()
      } finally {
        clearInterval(listening)
      }
      await pause(attempt)
    }
  }

  const pause = async (attempt: number) => {
    const ms = backoffMs(attempt, Math.random())
    const isDraining = draining.signal.aborted
    // A pause that a drain finds under way ends at once; those within it take their time.
    const until = isDraining ? stopping.signal : AbortSignal.any([stopping.signal, draining.signal])
    await sleep(isDraining ? Math.min(ms, 1_000) : ms, until).catch(() => {
      if (stopping.signal.aborted) throw new Stopped()
    })
  }

  const begin = (trigger: 'size' | 'age' | 'shutdown') => {
    const records = takeBatch()
    const drawn = Promise.withResolvers<void>()
    const first = Promise.withResolvers<boolean>()
    const committed = store(records, inWork.at(-1), { drawn: drawn.resolve, firstAttempt: first.resolve })
    // Given up before the draw: nobody may wait for it any longer.
    committed.catch(() => drawn.resolve())
    const entry: InWork = { drawn: drawn.promise, firstAttempt: first.promise, committed }
    inWork.push(entry)
    entry.committed.then(
      () => {
        metrics.flushed(trigger, 'ok')
        inWork.shift()
      },
      () => metrics.flushed(trigger, 'stopped'),
    )
  }

  const run = async () => {
    while (!stopping.signal.aborted) {
      if (isRecheckWanted && queue.length === 0 && inWork.length === 0) await startAgain()
      await fill()
      const isDraining = draining.signal.aborted
      if (queue.length === 0) {
        if (isDraining && inWork.length === 0) return
        // While draining nothing more comes, and a wait for more would end at once.
        if (isDraining) await inWork[0]?.committed
        else await Promise.race([...inWork.map(entry => entry.committed), wakeAfter(position ?? journal.end)])
        continue
      }
      const ageMs = clock.monotonicMs() - (queue[0]?.seenMs ?? 0)
      const isFull = queueRows >= o.batchRows || queueBytes >= batchBytesMax
      const trigger = isDraining ? 'shutdown' : isFull ? 'size' : ageMs >= o.flushIntervalMs ? 'age' : null
      if (trigger !== null && inWork.length < 2) begin(trigger)
      else if (trigger !== null) await inWork[0]?.committed
      else await nap(Math.min(gatherMs, Math.max(1, o.flushIntervalMs - ageMs)))
    }
  }

  /** One waiter at a time, however often the loop asks. */
  let waiting: Promise<void> | undefined
  let woken = new AbortController()
  const wakeAfter = (at: JournalPosition): Promise<void> => {
    waiting ??= journal
      .waitForMore(at, AbortSignal.any([stopping.signal, draining.signal, woken.signal]))
      .catch(() => {})
      .finally(() => {
        waiting = undefined
        if (woken.signal.aborted) woken = new AbortController()
      })
    return waiting
  }

  const nap = (ms: number) => sleep(ms, draining.signal).catch(() => {})

  let failedRuns = 0
  /** Reading the journal can fail as disks do, and a record of a newer program cannot be read at all: say so, try again. */
  const keepRunning = async () => {
    while (!stopping.signal.aborted) {
      try {
        await run()
        return
      } catch (error) {
        if (error instanceof Stopped || stopping.signal.aborted) return
        log.error({ err: error }, 'reading the journal failed; trying again')
        fail(messageOf(error))
        await pause(failedRuns++).catch(() => {})
      }
    }
  }
  const running = keepRunning()

  return {
    status: () => ({ ...status }),
    recheck() {
      isRecheckWanted = true
      woken.abort()
    },
    async close(drainMs) {
      draining.abort()
      const timeout = new AbortController()
      await Promise.race([running, sleep(drainMs, timeout.signal).catch(() => {})])
      timeout.abort()
      stopping.abort()
      await running
      await Promise.allSettled(inWork.map(entry => entry.committed))
    },
  }
}

/** Says so when the journal is older than what the database holds of it. */
async function noteSnapshot(
  { journal, sql, replica, log }: WriterOptions,
  stored: ReadonlyMap<string, StoredRange[]>,
  begin: JournalBegin,
): Promise<void> {
  const beyond = await rowsBeyond(stored, begin, async position => {
    const [first] = (await journal.read(position, { bytesMax: 1 })).batches
    return first && readRecord(first.payload).rowsBefore
  })
  if (beyond.size === 0) return
  await noteRewound(sql, replica, beyond)
  const rows = beyond.values().reduce((sum, count) => sum + count, 0n)
  log.warn(
    { rows: String(rows), segments: beyond.size },
    'the data folder is older than the database: it came back from a snapshot. What was stored since then stays stored',
  )
}

/** Before the next attempt, counted from 0: 100 ms, doubled each time, 10 s at most, a quarter more or less by chance so
 *  that replicas do not come back all at once. `chance` is 0…1. */
export function backoffMs(attempt: number, chance: number): number {
  return Math.min(backoffMaxMs, backoffMinMs * 2 ** attempt * (0.75 + chance / 2))
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
