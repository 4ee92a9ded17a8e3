// The series of this host, in memory and in the `series` table, within the bounds on their number.

import type { DatabaseSync } from 'node:sqlite'
import { type Labels, type MetricKind, type Reading, type Series, seriesKey, toSeries } from '../sample.ts'

export interface StoredSeries extends Series {
  id: number
  /** Monotonic time of the newest sample of this process; −∞ when there is none. */
  lastMonoMs: number
  lastStampMs: number
}

export interface SeriesLimits {
  /** Live at one time. */
  seriesMax: number
  newPerDayMax: number
}

/** A series without a sample for this long makes room for another. */
const liveMs = 3_600_000

const dayMs = 86_400_000

/**
 * Finding a reading's series is staged: what a transaction added becomes known only by `publish`, after its commit,
 * and is forgotten by `discard`.
 */
export function openSeries(db: DatabaseSync, hostLabels: Labels, limits: SeriesLimits, nowMs: number) {
  const byId = new Map<number, StoredSeries>()
  const byKey = new Map<string, StoredSeries>()
  /** From the reading as its source gave it, so that names and labels are made valid once per series and not per tick. */
  const byReading = new Map<string, StoredSeries>()
  let newToday = Number(db.prepare('SELECT count(*) AS n FROM series WHERE first_ms > ?').get(nowMs - dayMs)?.n ?? 0)
  let dayStartMonoMs: number | undefined
  const stagedByReading = new Map<string, StoredSeries>()
  const stagedNew = new Map<string, StoredSeries>()
  const insert = db.prepare(
    'INSERT INTO series (name, labels, kind, first_ms, last_ms) VALUES (?, ?, ?, ?, ?) RETURNING id',
  )
  const touch = db.prepare('UPDATE series SET last_ms = ? WHERE id = ?')

  const add = (series: StoredSeries) => {
    byId.set(series.id, series)
    byKey.set(seriesKey(series), series)
  }
  for (const row of db.prepare('SELECT id, name, labels, kind, last_ms FROM series').iterate()) {
    add({
      id: Number(row.id),
      name: String(row.name),
      labels: parseLabels(String(row.labels)),
      kind: row.kind === 'c' || row.kind === 'g' ? row.kind : ('u' satisfies MetricKind),
      lastMonoMs: Number.NEGATIVE_INFINITY,
      lastStampMs: Number(row.last_ms),
    })
  }

  const liveCount = (monoMs: number) => {
    let count = 0
    for (const series of byId.values()) if (monoMs - series.lastMonoMs < liveMs) count++
    return count
  }
  const isRoomFor = (monoMs: number) => {
    dayStartMonoMs ??= monoMs
    if (monoMs - dayStartMonoMs >= dayMs) [dayStartMonoMs, newToday] = [monoMs, 0]
    const addedNow = stagedNew.size
    if (newToday + addedNow >= limits.newPerDayMax) return false
    // Counting is only worth it near the limit: every live series is in the map.
    return byId.size + addedNow < limits.seriesMax || liveCount(monoMs) + addedNow < limits.seriesMax
  }

  return {
    byId: byId as ReadonlyMap<number, StoredSeries>,
    /** Undefined when the bounds leave no room for a new series. Inside a transaction. */
    find(reading: Reading, stampMs: number, monoMs: number): StoredSeries | undefined {
      const readingKey = reading.name + JSON.stringify(reading.labels)
      const known = byReading.get(readingKey) ?? stagedByReading.get(readingKey)
      if (known) return known
      const series = toSeries(reading, hostLabels)
      const key = seriesKey(series)
      const stored = byKey.get(key) ?? stagedNew.get(key)
      if (stored) {
        stagedByReading.set(readingKey, stored)
        return stored
      }
      if (!isRoomFor(monoMs)) return undefined
      const row = insert.get(series.name, JSON.stringify(series.labels), series.kind, stampMs, stampMs)
      const added = { ...series, id: Number(row?.id), lastMonoMs: Number.NEGATIVE_INFINITY, lastStampMs: stampMs }
      stagedByReading.set(readingKey, added)
      stagedNew.set(key, added)
      return added
    },
    publish(): void {
      for (const series of stagedNew.values()) add(series)
      newToday += stagedNew.size
      for (const [readingKey, series] of stagedByReading) byReading.set(readingKey, series)
      this.discard()
      // Sources that invent ever new label values would grow the cache; the table itself is bounded.
      if (byReading.size > limits.seriesMax * 2) byReading.clear()
    },
    discard(): void {
      stagedNew.clear()
      stagedByReading.clear()
    },
    /** Writes last_ms of what this process saw; not worth a page per tick. Inside a transaction. */
    touchAll(): void {
      for (const series of byId.values())
        if (series.lastMonoMs !== Number.NEGATIVE_INFINITY) touch.run(series.lastStampMs, series.id)
    },
    remove(ids: Iterable<number>): void {
      for (const id of ids) {
        const series = byId.get(id)
        if (!series) continue
        byId.delete(id)
        byKey.delete(seriesKey(series))
      }
      byReading.clear()
    },
  }
}

export type SeriesTable = ReturnType<typeof openSeries>

function parseLabels(text: string): Labels {
  const parsed: unknown = JSON.parse(text)
  const labels: Record<string, string> = {}
  if (typeof parsed === 'object' && parsed !== null)
    for (const [name, value] of Object.entries(parsed)) labels[name] = String(value)
  return labels
}
