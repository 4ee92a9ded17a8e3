// Keeping the file inside its bounds: by age, by size, and the write-ahead log by size.
//
// Everything here works in slices of a few hundred frames, each its own transaction, and lets others run in between.

import { statSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import { setImmediate as letOthersRun } from 'node:timers/promises'
import { decodeShape } from '../frame.ts'
import { firstPosition } from '../positions.ts'
import { pageBytes, pragma, transaction } from './database.ts'
import { type Delivery, overlap } from './delivery.ts'
import type { Frames } from './frames.ts'
import type { DropReason, Ledger, Loss } from './ledger.ts'
import type { SeriesTable } from './series.ts'

export interface RetentionOptions {
  path: string
  bytesMax: number
  /** How long a sample stays readable here once nobody waits for it. */
  localRetentionMs: number
  /** How long an undelivered sample is kept. */
  ageMsMax: number
  bootId: string
}

interface Parts {
  db: DatabaseSync
  frames: Frames
  series: SeriesTable
  ledger: Ledger
  /** None without a destination: then every frame counts as delivered. */
  delivery: Delivery | undefined
  /** Told what was booked, after the commit. */
  onLost(loss: Loss): void
}

interface Victim {
  seq: number
  stampMs: number
  count: number
  bytes: number
}

const framesPerSlice = 200

/** Act from here … */
const highWater = 0.8
/** … down to here: one long clean-up is cheaper than one per tick. */
const lowWater = 0.75

export function openRetention(parts: Parts, o: RetentionOptions) {
  const { db, frames, series, ledger, delivery } = parts
  const oldestIn = db.prepare(
    'SELECT seq, mono_ms, n, length(body) AS bytes FROM frame WHERE epoch = ? AND mono_ms < ? AND (mono_ms, seq) > (?, ?) ORDER BY mono_ms, seq LIMIT ?',
  )
  const oldestAfter = db.prepare(
    `SELECT seq, mono_ms + (SELECT offset_ms FROM epoch WHERE id = frame.epoch) AS stamp, n, length(body) AS bytes
     FROM frame WHERE seq > ? ORDER BY seq LIMIT ?`,
  )
  const remove = db.prepare('DELETE FROM frame WHERE seq = ?')
  const remember = db.prepare(
    `INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE
     SET value = max(CAST(value AS INTEGER), excluded.value)`,
  )

  const pendingSamples = ({ seq, count }: Victim): number =>
    delivery?.pending(seq, seq).reduce((n, range) => n + overlap(range, firstPosition(seq), count), 0) ?? 0

  /** What is being sent is left alone: it may be stored over there already, and a resend must find the same rows. */
  const isInFlight = (seq: number): boolean => {
    const inflight = delivery?.inflight
    return inflight !== undefined && firstPosition(seq) < inflight.hi && firstPosition(seq + 1) > inflight.lo
  }

  const evict = (victims: readonly Victim[], reason: DropReason): void => {
    if (victims.length === 0) return
    const losses: Loss[] = []
    transaction(db, () => {
      for (const victim of victims) {
        const samples = pendingSamples(victim)
        if (delivery && samples > 0) {
          const { stampMs, count } = victim
          const bytes = Math.round((victim.bytes * samples) / count)
          const loss = {
            fromMs: stampMs,
            toMs: stampMs,
            samples,
            series: samples,
            bytes,
            reason,
            output: delivery.output,
          }
          ledger.book(loss)
          losses.push(loss)
          // Each mark builds on the one before, so it is taken over before the commit. Should that fail, the frames
          // are still there, wait until the next start, and go out then.
          delivery.mark({ lo: firstPosition(victim.seq), hi: firstPosition(victim.seq + 1) }).publish()
        }
        remove.run(victim.seq)
      }
      remember.run('evicted_to_seq', Math.max(...victims.map(victim => victim.seq)))
      remember.run('newest_stamp_ms', frames.newestStampMs)
    })
    for (const loss of losses) {
      ledger.count(loss)
      parts.onLost(loss)
    }
  }

  /** Drops what is too old. Age is told by the monotonic clock for this boot, so a stepped wall clock evicts nothing. */
  async function evictByAge(nowMs: number, monoMs: number): Promise<number> {
    let evicted = 0
    for (const epoch of frames.epochs) {
      const nowInEpoch = epoch.bootId === o.bootId ? monoMs : nowMs - epoch.offsetMs
      let after = { mono: Number.NEGATIVE_INFINITY, seq: 0 }
      for (;;) {
        const rows = oldestIn.all(epoch.id, nowInEpoch - o.localRetentionMs, after.mono, after.seq, framesPerSlice)
        const last = rows.at(-1)
        if (!last) break
        after = { mono: Number(last.mono_ms), seq: Number(last.seq) }
        const victims = rows
          .map(row => ({
            seq: Number(row.seq),
            stampMs: Number(row.mono_ms) + epoch.offsetMs,
            count: Number(row.n),
            bytes: Number(row.bytes),
          }))
          .filter(victim => !isInFlight(victim.seq))
          .filter(victim => pendingSamples(victim) === 0 || victim.stampMs - epoch.offsetMs < nowInEpoch - o.ageMsMax)
        evict(victims, 'too_old')
        evicted += victims.length
        await letOthersRun()
      }
    }
    return evicted
  }

  const usedPages = () => Number(pragma(db, 'page_count')) - Number(pragma(db, 'freelist_count'))
  const pagesMax = () => Number(pragma(db, 'max_page_count'))

  /** When pages run short: delivered frames first, oldest first; then the oldest pending ones, booked. */
  async function evictBySize(): Promise<number> {
    if (usedPages() < pagesMax() * highWater) return 0
    let evicted = 0
    for (const reason of ['delivered', 'queue_full'] as const) {
      let afterSeq = 0
      while (usedPages() > pagesMax() * lowWater) {
        const rows = oldestAfter.all(afterSeq, framesPerSlice)
        const last = rows.at(-1)
        if (!last) break
        afterSeq = Number(last.seq)
        const victims = rows
          .map(row => ({
            seq: Number(row.seq),
            stampMs: Number(row.stamp),
            count: Number(row.n),
            bytes: Number(row.bytes),
          }))
          .filter(victim => !isInFlight(victim.seq) && (reason === 'queue_full' || pendingSamples(victim) === 0))
        evict(victims, 'queue_full')
        evicted += victims.length
        await letOthersRun()
      }
    }
    return evicted
  }

  /** Forgets shapes without a frame and series without a shape; once a day. */
  async function sweep(): Promise<void> {
    const usedShapes = new Set<number>()
    const usedBetween = db.prepare('SELECT DISTINCT shape FROM frame WHERE seq >= ? AND seq < ?')
    const startSeq = frames.nextSeq
    for (
      let seq = Number(db.prepare('SELECT min(seq) AS seq FROM frame').get()?.seq ?? startSeq);
      seq < startSeq;
      seq += 2_000
    ) {
      for (const row of usedBetween.all(seq, seq + 2_000)) usedShapes.add(Number(row.shape))
      await letOthersRun()
    }
    const usedSeries = new Set<number>()
    const deadShapes: number[] = []
    // No await from here on: a tick between looking and deleting could start to use what is about to go.
    for (const row of usedBetween.all(startSeq, frames.nextSeq)) usedShapes.add(Number(row.shape))
    for (const row of db.prepare('SELECT id, series_ids FROM shape').all()) {
      if (!usedShapes.has(Number(row.id))) deadShapes.push(Number(row.id))
      else if (row.series_ids instanceof Uint8Array) for (const id of decodeShape(row.series_ids)) usedSeries.add(id)
    }
    const deadSeries = [...series.byId.keys()].filter(id => !usedSeries.has(id))
    if (deadShapes.length === 0 && deadSeries.length === 0) return
    const dropShape = db.prepare('DELETE FROM shape WHERE id = ?')
    const dropSeries = db.prepare('DELETE FROM series WHERE id = ?')
    transaction(db, () => {
      for (const id of deadShapes) dropShape.run(id)
      for (const id of deadSeries) dropSeries.run(id)
    })
    series.remove(deadSeries)
    frames.forgetShapes()
  }

  return {
    evictByAge,
    evictBySize,
    sweep,
    /** Writes what is not worth a page per tick; hourly and on close. */
    flush(): void {
      transaction(db, () => {
        series.touchAll()
        ledger.compact()
      })
    },
    /** Moves the write-ahead log into the file. SQLite reports "busy" in its answer, not as an error. */
    checkpoint(): { isBusy: boolean; beforeBytes: number; afterBytes: number } {
      const beforeBytes = walBytes(o.path)
      const row = db.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get()
      return { isBusy: Number(row?.busy) !== 0, beforeBytes, afterBytes: walBytes(o.path) }
    },
    /** Gives pages back to the file system, a few MiB at a time, when a quarter of the file is empty. */
    shrink(): void {
      const pages = Number(pragma(db, 'page_count'))
      if (Number(pragma(db, 'freelist_count')) > pages / 4) db.exec('PRAGMA incremental_vacuum(1024)')
    },
    size: () => ({
      databaseBytes: Number(pragma(db, 'page_count')) * pageBytes,
      usedBytes: usedPages() * pageBytes,
      walBytes: walBytes(o.path),
    }),
  }
}

export type Retention = ReturnType<typeof openRetention>

function walBytes(path: string): number {
  return statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0
}
