// Ticks in, samples out: the `frame`, `shape` and `epoch` tables.

import { createHash } from 'node:crypto'
import type { DatabaseSync } from 'node:sqlite'
import { type Epoch, startsEpoch } from '../clock-epoch.ts'
import { decodeShape, encodeShape, encodeValues, frameChecksum, frameValuesMax } from '../frame.ts'
import { seqOf } from '../positions.ts'
import { type Reading, toValue } from '../sample.ts'
import { transaction } from './database.ts'
import type { SeriesTable, StoredSeries } from './series.ts'

export interface Tick {
  wallMs: number
  monoMs: number
  readings: readonly Reading[]
}

export interface Sample {
  series: StoredSeries
  value: number
}

export interface Committed {
  stampMs: number
  samples: readonly Sample[]
  /** Sequence numbers of the frames of this tick. */
  seqs: readonly number[]
  /** Readings that were not stored, by reason. */
  refused: { invalid: number; cardinality: number }
  /** Whether the clock was stepped since the tick before. */
  isNewEpoch: boolean
}

export interface StoredFrame {
  seq: number
  stampMs: number
  shape: number
  count: number
  body: Uint8Array
}

export interface FramesOptions {
  bootId: string
  /** Samples stamped before this time were stamped by a clock that nobody had set. */
  buildMs: number
}

export function openFrames(db: DatabaseSync, series: SeriesTable, o: FramesOptions) {
  const insertFrame = db.prepare(
    'INSERT INTO frame (seq, epoch, mono_ms, shape, n, kind, crc32, body) VALUES (?, ?, ?, ?, ?, 0, ?, ?)',
  )
  const insertShape = db.prepare('INSERT INTO shape (hash, series_ids) VALUES (?, ?) RETURNING id')
  const findShape = db.prepare('SELECT id FROM shape WHERE hash = ?')
  const loadShape = db.prepare('SELECT series_ids FROM shape WHERE id = ?')
  const insertEpoch = db.prepare(
    'INSERT INTO epoch (boot_id, offset_ms, correction_ms, trusted, frozen, first_seq) VALUES (?, ?, 0, ?, 0, ?) RETURNING id',
  )
  const endEpoch = db.prepare('UPDATE epoch SET last_seq = ? WHERE last_seq IS NULL')
  const atTime = db.prepare('SELECT 1 AS found FROM frame WHERE epoch = ? AND mono_ms = ? LIMIT 1')
  const newestOf = db.prepare('SELECT max(mono_ms) AS mono FROM frame WHERE epoch = ?')
  const page = db.prepare(
    `SELECT seq, mono_ms, shape, n, kind, crc32, body FROM frame
     WHERE epoch = ? AND (mono_ms, seq) > (?, ?) AND mono_ms <= ? ORDER BY mono_ms, seq LIMIT ?`,
  )

  const epochs: Epoch[] = db
    .prepare('SELECT id, boot_id, offset_ms, trusted FROM epoch ORDER BY id')
    .all()
    .map(row => ({
      id: Number(row.id),
      bootId: String(row.boot_id),
      offsetMs: Number(row.offset_ms),
      isTrusted: row.trusted === 1,
    }))
  const shapeIds = new Map<string, number>()
  const shapes = new Map<number, readonly number[]>()

  let nextSeq = firstFreeSeq(db)
  let current = epochs.at(-1)
  let lastMonoMs = Number(current ? (newestOf.get(current.id)?.mono ?? -1) : -1)
  let newestStampMs = Math.max(
    Number(db.prepare(`SELECT value FROM meta WHERE key = 'newest_stamp_ms'`).get()?.value ?? 0),
    ...epochs.map(epoch => Number(newestOf.get(epoch.id)?.mono ?? Number.NEGATIVE_INFINITY) + epoch.offsetMs),
  )

  /** Inside a transaction; what it learns is kept only when the transaction commits. */
  const shapeOf = (samples: readonly Sample[]): { id: number; key: string } => {
    const body = encodeShape(samples.map(sample => sample.series.id))
    const hash = createHash('sha256').update(body).digest().subarray(0, 16)
    const key = hash.toString('base64')
    const id = shapeIds.get(key) ?? findShape.get(hash)?.id ?? insertShape.get(hash, body)?.id
    return { id: Number(id), key }
  }

  const isStampTaken = (stampMs: number) =>
    stampMs <= newestStampMs && epochs.some(epoch => atTime.get(epoch.id, stampMs - epoch.offsetMs) !== undefined)

  /** @throws what SQLite throws; then nothing was stored and the tick may be committed later. */
  function commit(tick: Tick): Committed {
    const wallMs = Math.round(tick.wallMs)
    const isNewEpoch = startsEpoch(current, o.bootId, wallMs, tick.monoMs)
    const offsetMs = isNewEpoch || !current ? wallMs - Math.floor(tick.monoMs) : current.offsetMs
    let monoMs = Math.floor(tick.monoMs)
    if (!isNewEpoch) monoMs = Math.max(monoMs, lastMonoMs + 1)
    // After a step back the clock passes the same milliseconds again; no series may get two values at one of them.
    while (isStampTaken(monoMs + offsetMs)) monoMs++
    const stampMs = monoMs + offsetMs

    const refused = { invalid: 0, cardinality: 0 }
    const seqs: number[] = []
    const usedShapes: { id: number; key: string }[] = []
    let epoch = current
    let samples: Sample[] = []
    try {
      transaction(db, () => {
        samples = collectSamples(tick.readings, stampMs, monoMs, refused)
        if (isNewEpoch || !epoch) {
          endEpoch.run(nextSeq - 1)
          const isTrusted = wallMs >= o.buildMs && wallMs >= newestStampMs - 3_600_000
          const row = insertEpoch.get(o.bootId, offsetMs, Number(isTrusted), nextSeq)
          epoch = { id: Number(row?.id), bootId: o.bootId, offsetMs, isTrusted }
        }
        for (let from = 0; from < samples.length; from += frameValuesMax) {
          const part = samples.slice(from, from + frameValuesMax)
          const shape = shapeOf(part)
          const body = encodeValues(part.map(sample => sample.value))
          const head = { epoch: epoch.id, monoMs, shape: shape.id, count: part.length, kind: 0 }
          const seq = nextSeq + seqs.length
          insertFrame.run(seq, head.epoch, monoMs, shape.id, part.length, frameChecksum(head, body), body)
          usedShapes.push(shape)
          seqs.push(seq)
        }
      })
    } catch (error) {
      series.discard()
      throw error
    }

    series.publish()
    for (const { id, key } of usedShapes) remember(shapeIds, key, id)
    if (epoch && epoch !== current) epochs.push(epoch)
    const isStep = isNewEpoch && current?.bootId === o.bootId
    current = epoch
    lastMonoMs = monoMs
    nextSeq += seqs.length
    newestStampMs = Math.max(newestStampMs, stampMs)
    for (const sample of samples) {
      sample.series.lastMonoMs = monoMs
      sample.series.lastStampMs = stampMs
    }
    return { stampMs, samples, seqs, refused, isNewEpoch: isStep }
  }

  function collectSamples(
    readings: readonly Reading[],
    stampMs: number,
    monoMs: number,
    refused: { invalid: number; cardinality: number },
  ): Sample[] {
    const samples = new Map<number, Sample>()
    for (const reading of readings) {
      const value = toValue(reading.value)
      if (value === undefined) {
        refused.invalid++
        continue
      }
      const found = series.find(reading, stampMs, monoMs)
      if (!found) refused.cardinality++
      else if (samples.has(found.id))
        refused.invalid++ // two readings became one series once their labels were valid
      else samples.set(found.id, { series: found, value })
    }
    return [...samples.values()].sort((a, b) => a.series.id - b.series.id)
  }

  /** Series ids of a shape in frame order; undefined when the shape is gone. */
  function getShape(id: number): readonly number[] | undefined {
    const known = shapes.get(id)
    if (known) return known
    const row = loadShape.get(id)
    if (!(row?.series_ids instanceof Uint8Array)) return undefined
    const ids = decodeShape(row.series_ids)
    remember(shapes, id, ids)
    return ids
  }

  /**
   * Frames stamped `fromMs`…`toMs`, both inclusive, a page at a time so that the caller can let others run between
   * pages. Ascending within an epoch; a clock that was stepped back makes epochs overlap.
   */
  function* readFrames(fromMs: number, toMs: number, onDamaged: (seq: number) => void): Generator<StoredFrame[]> {
    for (const epoch of [...epochs].sort((a, b) => a.offsetMs - b.offsetMs)) {
      let afterMono = fromMs - epoch.offsetMs - 1
      let afterSeq = Number.MAX_SAFE_INTEGER
      for (;;) {
        const rows = page.all(epoch.id, afterMono, afterSeq, toMs - epoch.offsetMs, framesPerPage)
        if (rows.length === 0) break
        const frames: StoredFrame[] = []
        for (const row of rows) {
          const seq = Number(row.seq)
          afterMono = Number(row.mono_ms)
          afterSeq = seq
          const head = {
            epoch: epoch.id,
            monoMs: afterMono,
            shape: Number(row.shape),
            count: Number(row.n),
            kind: Number(row.kind),
          }
          if (!(row.body instanceof Uint8Array) || head.kind !== 0 || frameChecksum(head, row.body) !== row.crc32) {
            onDamaged(seq)
            continue
          }
          frames.push({
            seq,
            stampMs: afterMono + epoch.offsetMs,
            shape: head.shape,
            count: head.count,
            body: row.body,
          })
        }
        yield frames
        if (rows.length < framesPerPage) break
      }
    }
  }

  return {
    commit,
    /** Someone compared the clock: the timestamps of the current epoch may leave the machine. */
    trustClock(): void {
      if (!current || current.isTrusted) return
      db.prepare('UPDATE epoch SET trusted = 1 WHERE id = ?').run(current.id)
      current.isTrusted = true
    },
    get isClockTrusted(): boolean {
      return current?.isTrusted ?? true
    },
    getShape,
    readFrames,
    epochs: epochs as readonly Epoch[],
    get newestStampMs() {
      return newestStampMs
    },
    get nextSeq() {
      return nextSeq
    },
    /** Daily housekeeping removed these shapes. */
    forgetShapes(): void {
      shapes.clear()
      shapeIds.clear()
    },
  }
}

export type Frames = ReturnType<typeof openFrames>

const framesPerPage = 256

/** Cached shapes; each holds up to 5,000 numbers, and a machine at rest uses one or two. */
const shapesMax = 64

function remember<K, V>(cache: Map<K, V>, key: K, value: V) {
  if (cache.size >= shapesMax && !cache.has(key))
    for (const oldest of cache.keys()) {
      cache.delete(oldest)
      break
    }
  cache.set(key, value)
}

/** Never one that was used before, even if its frame was evicted: positions in `delivered` outlive frames. */
function firstFreeSeq(db: DatabaseSync): number {
  const value = (sql: string) => Number(db.prepare(sql).get()?.value ?? 0)
  return (
    1 +
    Math.max(
      value('SELECT max(seq) AS value FROM frame'),
      value('SELECT max(last_seq) AS value FROM epoch'),
      seqOf(value('SELECT max(hi) AS value FROM delivered') - 1),
      seqOf(value('SELECT max(hi) AS value FROM inflight') - 1),
      value(`SELECT CAST(value AS INTEGER) AS value FROM meta WHERE key = 'evicted_to_seq'`),
    )
  )
}
