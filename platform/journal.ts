// An append-only journal: what a service has acknowledged and not yet worked into its database.
//
// Promises
//  · append() resolves after an fdatasync covers the payload; the order of resolution is the order in the file.
//  · What was acknowledged is read back, in order, once, after kill -9, power cuts and full disks. A payload that was
//    refused or not yet acknowledged when the process died may be there or not; it is never there in part.
//  · It is bounded: at `bytesMax` unreleased bytes it refuses (JournalFull) and forgets nothing.
//
// States and exits
//   open ──▶ writing ──▶ closed         close() syncs what was appended, then gives the lock back
//              │  ▲
//   disk full, │  │ space is back, or the disk answers again: the next append that works
//   disk error ▼  │
//            refusing                   appends fail with JournalDiskError; reading goes on
//
// On disk: <dir>/<UUIDv7>.journal, 64 MiB each (frame.ts has the bytes), some of them .spare (spares.ts), <dir>/lock, and
// <dir>/damaged/ for what could not be read. Every life of the process begins a new segment and never appends to an older
// one: a position names the same bytes for ever, even when the tail of the last life was lost in a power cut or the folder
// came back from a snapshot, so an owner's "I have stored up to here" can never cover bytes written later.
//
// A position is the owner's to keep, in the same transaction as the data it made of the batches. After a start the owner
// reads from its stored position and calls release() with it; a segment goes when all readers have released it.

import { type FileHandle, mkdir } from 'node:fs/promises'
import path from 'node:path'
import { type DamagedRange, openDamageBook } from './journal/damage.ts'
import { diskError, JournalClosed, JournalFull, JournalLocked } from './journal/errors.ts'
import { type FrameKey, frameHeaderBytes, framesFrom, payloadBytesMax, readFrameHeader } from './journal/frame.ts'
import { openHandles } from './journal/handles.ts'
import { journalMetrics } from './journal/metrics.ts'
import { comparePositions, type JournalPosition, nextSegmentId, segmentBegunMs } from './journal/position.ts'
import { recover } from './journal/recover.ts'
import { readFrames, readRange, type Segment, syncDirectory } from './journal/segment.ts'
import { openSpares } from './journal/spares.ts'
import { openWriter, pendingAppend, type Receipt } from './journal/writer.ts'
import { AlreadyLocked, type Lock, lockFile } from './lock.ts'
import type { Logger, Registry } from './telemetry.ts'
import { type Clock, systemClock } from './time.ts'

export { JournalClosed, JournalDiskError, JournalFull, JournalLocked, JournalTooNew } from './journal/errors.ts'
export { comparePositions, type JournalPosition } from './journal/position.ts'

export interface JournalBatch {
  segment: string
  from: number
  /** Where the next batch begins. */
  to: number
  /** Rises by one from batch to batch; a hole is a damaged range or the torn tail of an earlier life. */
  sequence: bigint
  /** When it was written: wall clock, Unix ms. */
  writtenMs: number
  /** A slice of a buffer shared by the batches of one read(): copy what must outlive it. */
  payload: Buffer
}

export interface Journal {
  /**
   * Resolves when `payload` is on disk. The payload belongs to the journal until then: do not write into it.
   * @throws {JournalFull | JournalDiskError | JournalClosed} and nothing of it is acknowledged
   * @throws {RangeError} the payload is larger than a frame or the whole journal may be
   */
  append(payload: Uint8Array): Promise<Receipt>
  /**
   * Durable batches from `from` (null: the oldest there is), about `bytesMax` of them and at least one; empty when there
   * are no more yet. Damaged ranges are reported, set aside and stepped over. They lie in fresh memory, or in what
   * `allocate` returned last: it is asked for at least so many bytes, more than once when one batch is larger.
   * @throws {RangeError} `from` lies beyond all that was ever written here: the folder was replaced
   */
  read(
    from: JournalPosition | null,
    o?: { bytesMax?: number; allocate?: (bytes: number) => Buffer },
  ): Promise<{ batches: JournalBatch[]; next: JournalPosition }>
  /** Resolves when there is something behind `after`; rejects when `signal` aborts or the journal closes. */
  waitForMore(after: JournalPosition, signal?: AbortSignal): Promise<void>
  /** `reader` never again needs anything before `position`. Going back has no effect. */
  release(reader: string, position: JournalPosition): void
  /**
   * Takes away what was written before that time and is released, whatever `keepBytes` says, and what was copied aside of
   * damage in segments begun before it. The newest segment is closed, and goes when the next append has begun another:
   * false says that something is left.
   */
  forget(writtenBeforeMs: number): Promise<boolean>
  /** Where the next batch will begin, as far as is known: the end of what is durable. */
  readonly end: JournalPosition
  /** Unreleased bytes, frames included. */
  readonly bytes: number
  /** Age of the oldest unreleased batch; 0 when there is none. */
  readonly oldestAgeMs: number
  /** What could not be read since the start, at most 1,000 ranges; the metric counts them all. */
  readonly damaged: readonly DamagedRange[]
  /** What was cut from the end of the last life, if anything. Not damage: it had not been acknowledged. */
  readonly torn: DamagedRange | null
  close(): Promise<void>
}

export interface JournalOptions {
  /** Made 0700 when missing. */
  dir: string
  /** Most unreleased bytes. The disk may hold `keepBytes`, three segments and the torn tails of crashes more. */
  bytesMax: number
  segmentBytes?: number
  /** All who read: nothing is deleted before each of them released it. */
  readers: readonly string[]
  log: Logger
  registry?: Registry
  /** Start of the metric names, such as `log_ingestion_journal`. */
  metricPrefix?: string
  /** Name of the histogram of syncs, where a guide gives it one: `<prefix>_fsync_duration_seconds` otherwise. */
  syncMetric?: string
  clock?: Clock
  /** Newest released segments that stay, to refill a database restored from a backup. */
  keepBytes?: number
  /** Most bytes appended and not yet on disk; they are held in memory. */
  queueBytesMax?: number
  /** Space on the device that appends leave free. The journal shares its disk with PostgreSQL, which does not survive a
   *  full one. 5 % of the device, 1 GiB at most, unless given. */
  reserveBytes?: (deviceBytes: number) => number
}

const segmentBytesDefault = 64 * 1024 * 1024
const queueBytesMaxDefault = 64 * 1024 * 1024
/** Most appends waiting: each costs some 300 bytes of memory beside its payload. */
const queueCountMax = 65_536
const readBytesDefault = 1024 * 1024

/** A full queue drains with the next syncs; a full journal when its reader gets on, which is usually a database. */
const queueRetryS = 1
const fullRetryS = 5

/** What was released is overwritten or deleted within twice this time. A journal in use for its speed needs a spare file
 *  sooner. */
const oldContentMs = 30_000

const reserveBytesDefault = (deviceBytes: number) => Math.min(1024 ** 3, Math.floor(deviceBytes / 20))

/** @throws {JournalLocked | JournalTooNew | JournalDiskError} never because of what the segments hold */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { dir } = options
  if (options.readers.length === 0) throw new Error('BUG: a journal without readers would never delete anything')
  try {
    await makeFolder(dir)
    const lock = await lockFile(path.join(dir, 'lock'))
    try {
      return await startJournal(options, lock)
    } catch (error) {
      lock.release()
      throw error
    }
  } catch (error) {
    if (error instanceof AlreadyLocked) throw new JournalLocked(dir, error)
    throw error instanceof Error && 'syscall' in error ? diskError(`journal ${dir}`, error) : error
  }
}

/** With every new directory entry synced: a journal whose folder vanishes in a power cut has lost all of it. */
async function makeFolder(dir: string): Promise<void> {
  const firstMade = await mkdir(dir, { recursive: true, mode: 0o700 })
  if (firstMade === undefined) return
  for (let made = path.resolve(dir); made.length >= firstMade.length; made = path.dirname(made)) {
    await syncDirectory(path.dirname(made))
  }
}

async function startJournal(options: JournalOptions, lock: Lock): Promise<Journal> {
  const { dir, bytesMax, log, registry, clock = systemClock, keepBytes = 0 } = options
  const { queueBytesMax = queueBytesMaxDefault } = options
  const book = openDamageBook({ dir, log })
  const { segments, newestId, nextSequence, torn } = await recover({ dir, book, log })
  const released = new Map<string, JournalPosition | null>(options.readers.map(name => [name, null]))
  const waiters = new Set<() => void>()
  /** The first segment of this life, made by the first append; named now, so that a position exists before that. */
  const firstId = nextSegmentId(clock.now(), newestId)
  let pendingBytes = 0
  let oldestMs: number | undefined
  let refreshing: Promise<void> | undefined
  let isRefreshWanted = false
  let removing: Promise<void> = Promise.resolve()
  let isClosed = false
  const segmentBytes = options.segmentBytes ?? segmentBytesDefault
  const spares = openSpares({ dir, segmentBytes, clock, log })
  const handles = openHandles()

  const metrics = journalMetrics(
    registry,
    options.metricPrefix ?? 'journal',
    {
      bytes: () => pendingBytes,
      bytesMax,
      diskBytes: () => segments.reduce((sum, segment) => sum + segment.end, spares.bytes),
      oldestAgeMs: () => oldestAgeMs(),
      damagedRanges: () => book.total,
    },
    options.syncMetric,
  )

  const writer = openWriter({
    dir,
    segmentBytes,
    reserveBytes: options.reserveBytes ?? reserveBytesDefault,
    nextSequence,
    firstId,
    previous: segments.at(-1),
    spares,
    clock,
    log,
    metrics,
    onSegment: segment => segments.push(segment),
    onDurable(bytes, writtenMs) {
      pendingBytes += bytes
      oldestMs ??= writtenMs
      for (const wake of waiters) wake()
      waiters.clear()
    },
  })

  const end = (): JournalPosition => {
    const last = segments.at(-1)
    return last ? { segment: last.id, offset: last.end } : { segment: firstId, offset: framesFrom }
  }

  /** Least position that some reader still needs; null when one of them released nothing yet. */
  const floor = (): JournalPosition | null => {
    let least: JournalPosition | undefined
    for (const position of released.values()) {
      if (position === null) return null
      if (!least || comparePositions(position, least) < 0) least = position
    }
    return least ?? null
  }

  const neededBytes = (segment: Segment, from: JournalPosition | null): number => {
    if (from && segment.id < from.segment) return 0
    const start = from?.segment === segment.id ? Math.max(from.offset, framesFrom) : framesFrom
    return Math.max(0, segment.end - start)
  }

  /** Files of segments that are no longer listed: nobody begins to read them. */
  const letGo = async (gone: readonly Segment[]) => {
    await handles.forget(gone)
    await spares.offer(gone)
  }

  /** Deletes what no reader needs, oldest first, but for the newest segment (it carries the sequence and the order of ids
   *  over a restart) and `keepBytes` of the rest. */
  const removeReleased = () => {
    const from = floor()
    const needed = segments.findIndex(segment => neededBytes(segment, from) > 0)
    const done = segments.slice(0, needed < 0 ? -1 : needed)
    let keptBytes = 0
    const gone = done.toReversed().filter(segment => {
      keptBytes += segment.end
      return keptBytes > keepBytes
    })
    if (gone.length === 0) return
    segments.splice(0, gone.length)
    // Oldest first, so that a crash in between leaves no hole.
    removing = removing.then(() => letGo(gone.toReversed()))
  }

  const forget = async (writtenBeforeMs: number): Promise<boolean> => {
    const from = floor()
    const isOld = (segment: Segment) => segmentBegunMs(segment.id) <= writtenBeforeMs
    const newest = segments.at(-1)
    if (newest && isOld(newest)) await writer.rotate()
    const kept = segments.findIndex(
      segment => !isOld(segment) || neededBytes(segment, from) > 0 || segment === segments.at(-1),
    )
    const gone = segments.splice(0, Math.max(0, kept))
    if (gone.length > 0) removing = removing.then(() => letGo(gone))
    await book.forget(writtenBeforeMs)
    await removing
    return !segments.some(isOld)
  }

  /** Age is read from the frame at the floor, so it costs nothing while nobody asks for precision but a release. */
  const refreshOldest = async () => {
    while (isRefreshWanted) {
      isRefreshWanted = false
      const from = floor()
      const segment = segments.find(candidate => neededBytes(candidate, from) > 0)
      const offset = segment && from?.segment === segment.id ? from.offset : framesFrom
      const readMs =
        segment && (await handles.use(segment, file => writtenAt(file, segment.key, offset)).catch(() => undefined))
      // Unreadable: what was known before is older, which is the right side to err on.
      oldestMs = pendingBytes === 0 ? undefined : (readMs ?? oldestMs ?? clock.now())
    }
  }

  const wantRefresh = () => {
    isRefreshWanted = true
    // Cleared from outside: a pass that never waits would otherwise end before it is assigned, and look under way for ever.
    refreshing ??= refreshOldest().finally(() => {
      refreshing = undefined
      if (isRefreshWanted) wantRefresh()
    })
  }

  const oldestAgeMs = () => (oldestMs === undefined || pendingBytes === 0 ? 0 : Math.max(0, clock.now() - oldestMs))

  const requireOpen = () => {
    if (isClosed) throw new JournalClosed()
  }

  /** The segment and offset to read at, stepping over ends and over segments that are gone. */
  const locate = (from: JournalPosition | null): { segment: Segment; offset: number } | undefined => {
    for (const segment of segments) {
      if (from && segment.id < from.segment) continue
      const offset = from?.segment === segment.id ? Math.max(from.offset, framesFrom) : framesFrom
      if (offset < segment.end) return { segment, offset }
    }
    return undefined
  }

  const dropOldContent = async () => {
    await writer.cutOldContent(oldContentMs)
    await spares.drop(oldContentMs)
  }

  pendingBytes = segments.reduce((sum, segment) => sum + neededBytes(segment, null), 0)
  wantRefresh()
  await refreshing
  const dropping = setInterval(() => void dropOldContent(), oldContentMs).unref()
  log.info({ dir, segments: segments.length, bytes: pendingBytes, nextSequence }, 'journal open')

  return {
    append(payload) {
      if (isClosed) return Promise.reject(new JournalClosed())
      const bytes = frameHeaderBytes + payload.length
      if (payload.length > payloadBytesMax || bytes > bytesMax) {
        const most = Math.min(payloadBytesMax, bytesMax - frameHeaderBytes)
        return Promise.reject(
          new RangeError(`a payload of ${payload.length} bytes; this journal takes ${most} at most`),
        )
      }
      if (pendingBytes + writer.queuedBytes + bytes > bytesMax) {
        metrics.failed('FULL')
        return Promise.reject(
          new JournalFull(
            `journal ${dir} is full: ${pendingBytes} of ${bytesMax} bytes wait for their readers`,
            fullRetryS,
          ),
        )
      }
      if (
        writer.queuedCount >= queueCountMax ||
        (writer.queuedCount > 0 && writer.queuedBytes + bytes > queueBytesMax)
      ) {
        metrics.failed('FULL')
        return Promise.reject(
          new JournalFull(
            `journal ${dir}: ${writer.queuedCount} appends of ${writer.queuedBytes} bytes wait for the disk already`,
            queueRetryS,
          ),
        )
      }
      return new Promise((resolve, reject) => {
        writer.push(pendingAppend(payload, clock.monotonicMs(), { resolve, reject }))
      })
    },

    async read(from, o) {
      requireOpen()
      requireKnown(from, end(), firstId)
      for (let position = from; ; ) {
        const place = locate(position)
        if (!place) return { batches: [], next: position ?? end() }
        const { segment, offset } = place
        const limit = segment.end
        const bytesMax = Math.max(o?.bytesMax ?? readBytesDefault, frameHeaderBytes)
        const scan = await handles.use(segment, async file => {
          const found = await readFrames(file, segment.key, { from: offset, limit, bytesMax, allocate: o?.allocate })
          for (const damage of found.damage) await book.setAside(segment, file, damage)
          return found
        })
        // Released while we were about to open it: its reader has no need of it.
        if (!scan && segments.includes(segment))
          throw new Error(`journal segment ${segment.path} is gone: someone removed it`)
        position = { segment: segment.id, offset: scan?.next ?? limit }
        if (!scan || scan.frames.length === 0) continue
        const batches = scan.frames.map(frame => ({
          segment: segment.id,
          from: frame.from,
          to: frame.to,
          sequence: BigInt(frame.sequence),
          writtenMs: frame.writtenMs,
          payload: frame.payload,
        }))
        return { batches, next: position }
      }
    },

    waitForMore(after, signal) {
      return new Promise((resolve, reject) => {
        if (isClosed) return reject(new JournalClosed())
        if (signal?.aborted) return reject(signal.reason)
        if (locate(after)) return resolve()
        const wake = () => {
          signal?.removeEventListener('abort', abort)
          if (isClosed) reject(new JournalClosed())
          else resolve()
        }
        const abort = () => {
          waiters.delete(wake)
          reject(signal?.reason)
        }
        waiters.add(wake)
        signal?.addEventListener('abort', abort, { once: true })
      })
    },

    release(reader, position) {
      const before = released.get(reader)
      if (before === undefined) throw new Error(`BUG: ${reader} is no reader of journal ${dir}`)
      if (before && comparePositions(position, before) <= 0) return
      released.set(reader, position)
      const from = floor()
      pendingBytes = segments.reduce((sum, segment) => sum + neededBytes(segment, from), 0)
      removeReleased()
      wantRefresh()
    },

    forget(writtenBeforeMs) {
      requireOpen()
      return forget(writtenBeforeMs)
    },

    get end() {
      return end()
    },
    get bytes() {
      return pendingBytes
    },
    get oldestAgeMs() {
      return oldestAgeMs()
    },
    get damaged() {
      return book.ranges
    },
    torn,

    async close() {
      if (isClosed) return
      isClosed = true
      await writer.close()
      for (const wake of waiters) wake()
      waiters.clear()
      await refreshing
      clearInterval(dropping)
      await removing
      await spares.drop()
      await handles.close()
      metrics.close()
      lock.release()
    },
  }
}

function requireKnown(from: JournalPosition | null, end: JournalPosition, firstId: string): void {
  // A position of a life that is not on disk any more (the folder came back from a snapshot) is fine as long as whatever
  // is written next lies behind it.
  const latest = firstId > end.segment ? { segment: firstId, offset: framesFrom } : end
  if (!from || comparePositions(from, latest) <= 0) return
  throw new RangeError(
    `position ${from.segment}:${from.offset} lies beyond the end of this journal, ${end.segment}:${end.offset}. ` +
      'The journal folder was replaced by an older or empty one: restore it, or reset the stored position.',
  )
}

async function writtenAt(file: FileHandle, key: FrameKey, offset: number): Promise<number | undefined> {
  return readFrameHeader(await readRange(file, offset, Buffer.alloc(frameHeaderBytes)), 0, key)?.writtenMs
}
