// What will never be delivered, and why. One row per stretch of loss; neighbours with one cause become one row.

import type { DatabaseSync } from 'node:sqlite'

export type DropReason =
  | 'queue_full'
  | 'disk_full'
  | 'rejected'
  | 'invalid'
  | 'too_old'
  | 'cardinality'
  | 'corrupt'
  | 'not_stored'

export const dropReasons: readonly DropReason[] = [
  'queue_full',
  'disk_full',
  'rejected',
  'invalid',
  'too_old',
  'cardinality',
  'corrupt',
  'not_stored',
]

export interface Loss {
  fromMs: number
  toMs: number
  samples: number
  series: number
  bytes: number
  reason: DropReason
  /** Destination that does not get them; empty when no destination can. */
  output: string
}

/** Losses of one cause this close together are one event to a reader. */
const mergeWithinMs = 3_600_000

/** A month of hourly trouble with every cause fits; past it, rows of one day and cause are added up. */
const rowsMax = 10_000

export function openLedger(db: DatabaseSync) {
  const neighbour = db.prepare(
    `SELECT id FROM loss WHERE reason = ? AND kind = 'lost' AND output = ? AND to_ms >= ? AND from_ms <= ?
     ORDER BY id DESC LIMIT 1`,
  )
  const extend = db.prepare(
    `UPDATE loss SET from_ms = min(from_ms, ?), to_ms = max(to_ms, ?), samples = samples + ?,
     series = max(series, ?), bytes = bytes + ? WHERE id = ?`,
  )
  const insert = db.prepare(
    `INSERT INTO loss (from_ms, to_ms, samples, series, bytes, reason, kind, output) VALUES (?, ?, ?, ?, ?, ?, 'lost', ?)`,
  )
  const addUp = db.prepare(
    `INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + excluded.value`,
  )
  const total = db.prepare('SELECT value FROM meta WHERE key = ?')
  const dropped = new Map<DropReason, number>(
    dropReasons.map(reason => [reason, Number(total.get(`dropped.${reason}`)?.value ?? 0)]),
  )

  return {
    /** Samples dropped since this database was made, by reason. */
    dropped: dropped as ReadonlyMap<DropReason, number>,
    /** Inside a transaction; call `count` with the same losses once it is committed. */
    book(loss: Loss): void {
      const { fromMs, toMs, samples, series, bytes, reason, output } = loss
      const row = neighbour.get(reason, output, fromMs - mergeWithinMs, toMs + mergeWithinMs)
      if (row) extend.run(fromMs, toMs, samples, series, bytes, Number(row.id))
      else insert.run(fromMs, toMs, samples, series, bytes, reason, output)
      addUp.run(`dropped.${reason}`, samples)
    },
    count(loss: Loss): void {
      dropped.set(loss.reason, (dropped.get(loss.reason) ?? 0) + loss.samples)
    },
    /** Inside a transaction. */
    compact(): void {
      const rows = Number(db.prepare('SELECT count(*) AS n FROM loss').get()?.n ?? 0)
      if (rows <= rowsMax) return
      db.exec(`
        CREATE TEMP TABLE daily AS
          SELECT min(from_ms) AS from_ms, max(to_ms) AS to_ms, sum(samples) AS samples, max(series) AS series,
                 sum(bytes) AS bytes, reason, kind, output
          FROM loss GROUP BY from_ms / 86400000, reason, kind, output;
        DELETE FROM loss;
        INSERT INTO loss (from_ms, to_ms, samples, series, bytes, reason, kind, output) SELECT * FROM daily;
        DROP TABLE daily;
      `)
    },
    list(sinceMs: number, limit: number): Loss[] {
      return db
        .prepare(
          `SELECT from_ms, to_ms, samples, series, bytes, reason, output FROM loss WHERE kind = 'lost' AND to_ms >= ?
           ORDER BY from_ms DESC LIMIT ?`,
        )
        .all(sinceMs, limit)
        .map(row => ({
          fromMs: Number(row.from_ms),
          toMs: Number(row.to_ms),
          samples: Number(row.samples),
          series: Number(row.series),
          bytes: Number(row.bytes),
          reason: dropReasons.find(reason => reason === row.reason) ?? 'invalid',
          output: String(row.output),
        }))
    },
  }
}

export type Ledger = ReturnType<typeof openLedger>
