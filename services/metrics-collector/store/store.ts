// The store of one collector: ticks go in, committed; samples come out.
//
//   tick → commit (fsynced) → listeners, newest values, queries, uploader
//        ↘ SQLite refuses: the tick waits in a ring in memory and goes in before the next one; past 10,000 samples
//          the oldest tick in the ring is dropped and booked as soon as the database can be written again
//
// Nothing is visible to anyone before its commit.

import type { DatabaseSync } from 'node:sqlite'
import { seqOf } from '../positions.ts'
import type { Labels } from '../sample.ts'
import type { Chunk } from './chunks.ts'
import { openDatabase, sqliteMessage, transaction } from './database.ts'
import { type Delivery, openDelivery } from './delivery.ts'
import { type Committed, openFrames, type Tick } from './frames.ts'
import { type DropReason, type Loss, openLedger } from './ledger.ts'
import { takeLock } from './lock.ts'
import { openRetention } from './retention.ts'
import { openSeries, type SeriesLimits } from './series.ts'

export interface StoreOptions {
  path: string
  bytesMax: number
  walBytesMax: number
  localRetentionMs: number
  ageMsMax: number
  hostLabels: Labels
  limits: SeriesLimits
  bootId: string
  buildMs: number
  /** Name of the destination; undefined: everything stays here. */
  output: string | undefined
  nowMs: number
}

const quarantineBytesMax = 8 * 1024 * 1024

/** A chunk in quarantine. */
export interface Culprit {
  id: number
  lo: number
  hi: number
  samples: number
}

/** What waits in memory while the database cannot be written. */
const ringSamplesMax = 10_000

/** Takes the lock, opens the file, brings its schema up to date. @throws StartError */
export async function openStore(o: StoreOptions) {
  const lock = await takeLock(o.path)
  let db: DatabaseSync
  try {
    db = openDatabase(o)
  } catch (error) {
    lock.release()
    throw error
  }
  const series = openSeries(db, o.hostLabels, o.limits, o.nowMs)
  const frames = openFrames(db, series, o)
  const ledger = openLedger(db)
  const delivery: Delivery | undefined = o.output === undefined ? undefined : openDelivery(db, o.output)
  let pendingSamples = delivery?.countPending(frames.nextSeq) ?? 0
  const retention = openRetention(
    { db, frames, series, ledger, delivery, onLost: loss => (pendingSamples -= loss.samples) },
    o,
  )
  const listeners = new Set<(committed: Committed) => void>()
  const ring: Tick[] = []
  /** Dropped since the last booking, by reason; they reach the ledger with the next write that works. */
  const unbooked = new Map<DropReason, Loss>()
  let writeError: string | undefined
  let commitMs = 0

  const dropLater = (reason: DropReason, samples: number, fromMs: number, toMs: number) => {
    if (samples === 0) return
    const known = unbooked.get(reason)
    unbooked.set(reason, {
      fromMs: Math.min(known?.fromMs ?? fromMs, fromMs),
      toMs: Math.max(known?.toMs ?? toMs, toMs),
      samples: (known?.samples ?? 0) + samples,
      series: Math.max(known?.series ?? 0, samples),
      bytes: 0,
      reason,
      output: '',
    })
  }

  const bookDropped = () => {
    if (unbooked.size === 0) return
    const losses = [...unbooked.values()]
    transaction(db, () => losses.forEach(ledger.book))
    unbooked.clear()
    losses.forEach(ledger.count)
  }

  const commitOne = (tick: Tick): Committed => {
    const startedMs = performance.now()
    const committed = frames.commit(tick)
    commitMs = performance.now() - startedMs
    return committed
  }

  const announce = (committed: Committed) => {
    if (delivery) pendingSamples += committed.samples.length
    dropLater('invalid', committed.refused.invalid, committed.stampMs, committed.stampMs)
    dropLater('cardinality', committed.refused.cardinality, committed.stampMs, committed.stampMs)
    for (const listener of listeners) listener(committed)
  }

  const makeRoomInRing = () => {
    let waiting = ring.reduce((n, tick) => n + tick.readings.length, 0)
    while (waiting > ringSamplesMax && ring.length > 1) {
      const oldest = ring.shift()
      if (!oldest) return
      waiting -= oldest.readings.length
      dropLater('disk_full', oldest.readings.length, oldest.wallMs, oldest.wallMs)
    }
  }

  return {
    series,
    frames,
    ledger,
    delivery,
    retention,
    database: db,
    /** Commits the tick, after any that wait. Undefined when the database refused; the tick is then in the ring. */
    record(tick: Tick): Committed | undefined {
      ring.push(tick)
      const done: Committed[] = []
      try {
        for (let next = ring[0]; next; next = ring[0]) {
          done.push(commitOne(next))
          ring.shift()
        }
        // Otherwise hourly: a ledger row per tick would cost more than the tick.
        if (writeError !== undefined) bookDropped()
        writeError = undefined
      } catch (error) {
        writeError = sqliteMessage(error)
        makeRoomInRing()
      }
      for (const committed of done) announce(committed)
      return ring.length === 0 ? done.at(-1) : undefined
    },
    onCommit(listener: (committed: Committed) => void): () => void {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    /** Marks, plans or clears in one transaction; `delivered` samples leave the pending count. */
    deliver(work: (delivery: Delivery) => { publish(): void }[], deliveredSamples: number): void {
      if (!delivery) throw new Error('BUG: delivering without a destination')
      const done = transaction(db, () => work(delivery))
      for (const change of done) change.publish()
      pendingSamples -= deliveredSamples
    },
    /** Books what a chunk could not hold because its frames are damaged, and takes it out of the queue. */
    loseDamaged(chunk: Chunk, nowMs: number): void {
      if (!delivery) throw new Error('BUG: losing without a destination')
      const samples = chunk.damagedSamples
      const loss: Loss = {
        fromMs: nowMs,
        toMs: nowMs,
        samples,
        series: samples,
        bytes: 0,
        reason: 'corrupt',
        output: delivery.output,
      }
      const mark = transaction(db, () => {
        ledger.book(loss)
        return delivery.mark(chunk)
      })
      mark.publish()
      ledger.count(loss)
      pendingSamples -= samples
    },
    /** Sets a refused chunk aside. The oldest make room, booked as rejected. */
    quarantine(chunk: Chunk, { status, answer, nowMs }: { status: number; answer: string; nowMs: number }): Culprit {
      if (!delivery) throw new Error('BUG: quarantine without a destination')
      const { lo, hi, samples, body } = chunk
      const losses: Loss[] = []
      const { id, mark } = transaction(db, () => {
        const row = db
          .prepare(
            `INSERT INTO quarantine (output, kind, created_ms, status, answer, samples, lo, hi, body)
             VALUES (?, 'samples', ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
          )
          .get(delivery.output, nowMs, status, answer.slice(0, 1_024), samples, lo, hi, body)
        const old = db
          .prepare(
            `SELECT id, created_ms, samples, length(body) AS bytes FROM
             (SELECT *, sum(length(body)) OVER (ORDER BY id DESC) AS newer FROM quarantine) WHERE newer > ?`,
          )
          .all(quarantineBytesMax)
        for (const gone of old) {
          const [at, n] = [Number(gone.created_ms), Number(gone.samples)]
          const loss: Loss = {
            fromMs: at,
            toMs: at,
            samples: n,
            series: n,
            bytes: Number(gone.bytes),
            reason: 'rejected',
            output: delivery.output,
          }
          ledger.book(loss)
          losses.push(loss)
          db.prepare('DELETE FROM quarantine WHERE id = ?').run(Number(gone.id))
        }
        return { id: Number(row?.id), mark: delivery.mark(chunk) }
      })
      mark.publish()
      losses.forEach(ledger.count)
      pendingSamples -= samples
      return { id, lo, hi, samples }
    },
    /** Puts chunks back that were not to blame. */
    release(culprits: readonly Culprit[]): void {
      if (!delivery) throw new Error('BUG: release without a destination')
      for (const { id, lo, hi, samples } of culprits) {
        const unmark = transaction(db, () => {
          db.prepare('DELETE FROM quarantine WHERE id = ?').run(id)
          return delivery.unmark({ lo, hi })
        })
        unmark.publish()
        pendingSamples += samples
      }
    },
    /** Undefined when nothing waits. */
    oldestPendingStampMs(): number | undefined {
      const seq = db.prepare('SELECT min(seq) AS seq FROM frame').get()?.seq
      const first =
        seq === null || seq === undefined ? undefined : delivery?.pending(Number(seq), frames.nextSeq - 1)[0]
      if (!first) return undefined
      const row = db
        .prepare(
          'SELECT mono_ms + (SELECT offset_ms FROM epoch WHERE id = frame.epoch) AS stamp FROM frame WHERE seq >= ? ORDER BY seq LIMIT 1',
        )
        .get(seqOf(first.lo))
      return row ? Number(row.stamp) : undefined
    },
    quarantinedSamples: () => Number(db.prepare('SELECT sum(samples) AS n FROM quarantine').get()?.n ?? 0),
    /** Drops booked or about to be. */
    dropped(reason: DropReason): number {
      return (ledger.dropped.get(reason) ?? 0) + (unbooked.get(reason)?.samples ?? 0)
    },
    get pendingSamples() {
      return pendingSamples
    },
    /** Undefined while the last write worked. */
    get writeError() {
      return writeError
    },
    get ringTicks() {
      return ring.length
    },
    get commitMs() {
      return commitMs
    },
    /** Hourly. */
    flush(): void {
      bookDropped()
      retention.flush()
    },
    /** Leaves one complete file, without a write-ahead log beside it. */
    close(): void {
      try {
        bookDropped()
        retention.flush()
        retention.checkpoint()
      } finally {
        db.close()
        lock.release()
      }
    },
  }
}

export type Store = Awaited<ReturnType<typeof openStore>>
