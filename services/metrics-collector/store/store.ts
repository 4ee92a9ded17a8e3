// The store of one collector: ticks go in, committed; samples come out.
//
//   tick → commit (fsynced) → listeners, newest values, queries, uploader
//        ↘ SQLite refuses: the tick waits in a ring in memory and goes in before the next one; past 10,000 samples
//          the oldest tick in the ring is dropped and booked as soon as the database can be written again
//
// Nothing is visible to anyone before its commit.

import type { DatabaseSync } from 'node:sqlite'
import type { Labels } from '../sample.ts'
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
