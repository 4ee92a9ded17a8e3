// What to send next: a contiguous range of positions, its samples, and the bytes they make.

import { createHash } from 'node:crypto'
import type { DatabaseSync } from 'node:sqlite'
import { encodeLines, type LineSeries } from '../delivery/lines.ts'
import { decodeValues, frameChecksum } from '../frame.ts'
import { firstPosition, ordinalOf, type Range, seqOf } from '../positions.ts'
import type { Delivery } from './delivery.ts'
import type { Frames } from './frames.ts'
import type { SeriesTable } from './series.ts'

export interface Chunk extends Range {
  samples: number
  body: Buffer
  sha256: Buffer
  newestStampMs: number
  /** Samples of frames whose checksum is wrong; they are in the range and cannot be sent. */
  damagedSamples: number
}

export interface NextChunk {
  nowMs: number
  /** Samples from here on go before any backlog. */
  liveFromMs: number
  samplesMax: number
  /** About to be marked: taken as delivered. */
  also?: Range
}

/** VictoriaMetrics drops what is further ahead without saying so. */
const aheadMsMax = 2 * 86_400_000 - 60_000

export function openChunks(db: DatabaseSync, frames: Frames, series: SeriesTable, delivery: Delivery) {
  const page = db.prepare(
    'SELECT seq, epoch, mono_ms, shape, n, kind, crc32, body FROM frame WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT 64',
  )
  const oldest = db.prepare('SELECT min(seq) AS seq FROM frame')
  const firstSince = db.prepare('SELECT min(seq) AS seq FROM frame WHERE epoch = ? AND mono_ms >= ?')

  /** The first samples of `range` that may be sent, at most `samplesMax`; undefined when there are none. */
  function build(range: Range, samplesMax: number, nowMs: number): Chunk | undefined {
    const tracks = new Map<number, { stampsMs: number[]; values: number[] }>()
    let { lo } = range
    let hi = lo
    let samples = 0
    let damagedSamples = 0
    let newestStampMs = 0
    let seq = seqOf(lo)
    walk: for (;;) {
      const rows = page.all(seq, seqOf(range.hi - 1))
      if (rows.length === 0) break
      for (const row of rows) {
        seq = Number(row.seq) + 1
        const first = firstPosition(Number(row.seq))
        const head = {
          epoch: Number(row.epoch),
          monoMs: Number(row.mono_ms),
          shape: Number(row.shape),
          count: Number(row.n),
          kind: Number(row.kind),
        }
        const from = first < range.lo ? ordinalOf(range.lo) : 0
        const to = Math.min(head.count, range.hi - first)
        if (from >= to) continue
        const epoch = frames.epochs.find(known => known.id === head.epoch)
        const stampMs = head.monoMs + (epoch?.offsetMs ?? 0)
        if (!epoch?.isTrusted || stampMs <= 0 || stampMs > nowMs + aheadMsMax) {
          // It waits for better times, so no range may reach over it.
          if (samples + damagedSamples > 0) break walk
          lo = firstPosition(seq)
          continue
        }
        const taken = Math.min(to - from, samplesMax - samples)
        if (taken === 0) break walk
        const ids = frames.getShape(head.shape)
        const isWhole =
          row.body instanceof Uint8Array && ids && head.kind === 0 && frameChecksum(head, row.body) === row.crc32
        if (isWhole && row.body instanceof Uint8Array) {
          const values = decodeValues(row.body, head.count)
          for (let i = from; i < from + taken; i++) {
            const id = ids[i] ?? 0
            const value = values[i] ?? Number.NaN
            if (Number.isNaN(value)) continue
            const track = tracks.get(id) ?? { stampsMs: [], values: [] }
            tracks.set(id, track)
            track.stampsMs.push(stampMs)
            track.values.push(value)
          }
          samples += taken
          newestStampMs = Math.max(newestStampMs, stampMs)
        } else damagedSamples += taken
        hi = from + taken >= head.count ? firstPosition(seq) : first + from + taken
        if (samples >= samplesMax) break walk
      }
    }
    if (samples + damagedSamples === 0) return undefined
    const lines: LineSeries[] = [...tracks]
      .sort(([a], [b]) => a - b)
      .flatMap(([id, track]) => {
        const known = series.byId.get(id)
        return known ? [{ name: known.name, labels: known.labels, ...ascending(track) }] : []
      })
    const body = encodeLines(lines)
    return { lo, hi, samples, damagedSamples, body, sha256: createHash('sha256').update(body).digest(), newestStampMs }
  }

  return {
    build,
    /** The newest samples first, then the backlog, oldest first. */
    next({ nowMs, liveFromMs, samplesMax, also }: NextChunk): Chunk | undefined {
      const oldestSeq = Number(oldest.get()?.seq ?? 0)
      const pending = delivery.pending(oldestSeq, frames.nextSeq - 1, also)
      const current = frames.epochs.at(-1)
      const liveSeq = current ? firstSince.get(current.id, liveFromMs - current.offsetMs)?.seq : undefined
      const edge = liveSeq === null || liveSeq === undefined ? Number.POSITIVE_INFINITY : firstPosition(Number(liveSeq))
      const live = pending
        .filter(range => range.hi > edge)
        .map(range => ({ lo: Math.max(range.lo, edge), hi: range.hi }))
      const backlog = pending
        .filter(range => range.lo < edge)
        .map(range => ({ lo: range.lo, hi: Math.min(range.hi, edge) }))
      for (const range of [...live, ...backlog]) {
        const chunk = build(range, samplesMax, nowMs)
        if (chunk) return chunk
      }
      return undefined
    },
  }
}

export type Chunks = ReturnType<typeof openChunks>

/** Receivers want stamps ascending; a range that spans a step of the clock has them out of order. */
function ascending({ stampsMs, values }: { stampsMs: number[]; values: number[] }) {
  if (stampsMs.every((stamp, i) => i === 0 || stamp > (stampsMs[i - 1] ?? 0))) return { stampsMs, values }
  const order = stampsMs.map((_, i) => i).sort((a, b) => (stampsMs[a] ?? 0) - (stampsMs[b] ?? 0))
  return { stampsMs: order.map(i => stampsMs[i] ?? 0), values: order.map(i => values[i] ?? 0) }
}
