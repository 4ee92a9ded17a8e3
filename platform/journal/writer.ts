// The one writer of a journal: group commit.
//
//   idle ──append──▶ writing ──▶ syncing ──▶ all of the group resolved ──▶ the next group, or idle
//                      │            │
//                      │            └─ fdatasync failed: group refused, segment closed for ever, next append opens another
//                      └─ no space: group refused and truncated away, the segment goes on; any other error: as above
//
// A group is whatever was appended while the one before was being synced; there is no timer, so an idle journal answers
// after one write and one sync. One writev and one fdatasync per group. After a failed fsync nobody knows what the
// kernel threw away, and a second fsync would lie, so that segment is never written or synced again.

import fs from 'node:fs'
import { type FileHandle, statfs } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import type { Logger } from '../telemetry.ts'
import type { Clock } from '../time.ts'
import { diskError, isOutOfSpace, JournalDiskError } from './errors.ts'
import { type FrameKey, frameHeaderBytes, framesFrom, groupEnd, writeFrameHeader } from './frame.ts'
import type { JournalMetrics } from './metrics.ts'
import { nextSegmentId } from './position.ts'
import { createSegment, type Segment } from './segment.ts'
import type { Spares } from './spares.ts'

export interface Receipt {
  segment: string
  from: number
  to: number
  sequence: bigint
}

export interface Pending {
  payload: Uint8Array
  payloadCrc: number
  startedMs: number
  resolve(receipt: Receipt): void
  reject(error: Error): void
}

export interface Writer {
  /** Payload and frame bytes waiting or being written. */
  readonly queuedBytes: number
  readonly queuedCount: number
  push(pending: Pending): void
  /** Cuts off what a segment's file held before it was written again, once the segment is so old. */
  cutOldContent(ageMs: number): Promise<void>
  /** The next append begins a new segment. */
  rotate(): Promise<void>
  /** Waits for what was pushed, then closes the file. */
  close(): Promise<void>
}

export interface WriterOptions {
  dir: string
  segmentBytes: number
  /** Space on the device that is left to others; see journal.ts. */
  reserveBytes: (deviceBytes: number) => number
  nextSequence: number
  /** Id of the first segment that this life makes. */
  firstId: string
  /** The newest segment of the life before, for the chain. */
  previous: Segment | undefined
  spares: Spares
  clock: Clock
  log: Logger
  metrics: JournalMetrics
  onSegment(segment: Segment): void
  /** `bytes` more are durable; `writtenMs` is when they were written. */
  onDurable(bytes: number, writtenMs: number): void
}

/** Most bytes and frames written at once: a larger group would only delay its own first member. */
const groupBytesMax = 8 * 1024 * 1024
const groupFramesMax = 16_384

/** Payloads below this are copied behind their headers into one buffer; above it a slice of their own is cheaper. */
const copyBytesMax = 16 * 1024

/** Zeros written past the end together with a small group, so that the following groups overwrite allocated space: a
 *  sync then need not commit a new file size. Measured on ext4: 1.3–1.6 × the syncs per second for groups up to 32 KiB.
 *  It doubles the bytes written, which larger groups would feel on a disk with limited bandwidth. */
const aheadBytes = 256 * 1024
const aheadGroupBytesMax = 32 * 1024
const zeros = Buffer.alloc(aheadBytes)

/** How old a reading of the free space may be. */
const freeSpaceAgeMsMax = 1_000

interface Current {
  segment: Segment
  file: FileHandle
  /** Bytes of the file. */
  allocated: number
  /** When a spare file was taken for it; behind the end lies what that held before. */
  reusedMs: number | undefined
}

export function openWriter(o: WriterOptions): Writer {
  const { clock, log, metrics } = o
  const queue: Pending[] = []
  let queuedBytes = 0
  let queuedCount = 0
  let nextSequence = o.nextSequence
  let newestId: string | undefined
  let previous = o.previous
  let current: Current | undefined
  let cutAgeMs: number | undefined
  let isRotateWanted = false
  let pumping: Promise<void> | undefined
  let staging = Buffer.allocUnsafeSlow(64 * 1024)
  let free = { readMs: Number.NEGATIVE_INFINITY, bytes: 0, reserveBytes: 0 }

  const pump = async () => {
    // Appends made in the same run of the event loop share the first group, as later ones share theirs.
    await null
    while (queue.length > 0 || cutAgeMs !== undefined || isRotateWanted) {
      if (cutAgeMs !== undefined) await cutNow(cutAgeMs)
      cutAgeMs = undefined
      if (isRotateWanted) await finish()
      isRotateWanted = false
      if (queue.length === 0) break
      const group = takeGroup(queue)
      const bytes = group.reduce((sum, { payload }) => sum + frameHeaderBytes + payload.length, 0)
      try {
        await commit(group, bytes)
      } catch (error) {
        const refusal = diskError(`journal ${o.dir}`, error)
        metrics.failed(refusal.reason)
        log.error({ err: refusal, appends: group.length }, 'journal: a group was refused; nothing of it was kept')
        dequeue(group, bytes)
        for (const pending of group) pending.reject(refusal)
      }
    }
    pumping = undefined
  }

  /** Before anyone is told: whoever appends next must not be counted twice. */
  const dequeue = (group: Pending[], bytes: number) => {
    queuedBytes -= bytes
    queuedCount -= group.length
  }

  const commit = async (group: Pending[], bytes: number) => {
    await requireFreeSpace(bytes)
    const { segment, file } = await segmentFor(bytes)
    const from = segment.end
    const writtenMs = clock.now()
    const buffers = encode(group, segment.key, writtenMs)
    await write(buffers, from, bytes)
    const syncStartedMs = clock.monotonicMs()
    try {
      await fdatasync(file.fd)
    } catch (error) {
      metrics.failed('SYNC')
      await abandon()
      throw error
    }
    const nowMs = clock.monotonicMs()
    metrics.synced(nowMs - syncStartedMs)
    segment.end = from + bytes
    dequeue(group, bytes)
    o.onDurable(bytes, writtenMs)
    let at = from
    for (const { payload, startedMs, resolve } of group) {
      const to = at + frameHeaderBytes + payload.length
      resolve({ segment: segment.id, from: at, to, sequence: BigInt(nextSequence++) })
      metrics.appended(nowMs - startedMs)
      at = to
    }
  }

  /** The current segment, or a new one when the group does not fit. A group larger than a segment gets one alone. */
  const segmentFor = async (bytes: number) => {
    if (current && current.segment.end + bytes > o.segmentBytes && current.segment.end > framesFrom) await finish()
    if (current) return current
    const id = newestId === undefined ? o.firstId : nextSegmentId(clock.now(), newestId)
    const spare = o.spares.take()
    const { segment, file } = await createSegment({
      dir: o.dir,
      id,
      firstSequence: nextSequence,
      createdMs: clock.now(),
      previous,
      spare,
    })
    newestId = id
    const allocated = Math.max(segment.end, spare?.bytes ?? 0)
    current = { segment, file, allocated, reusedMs: spare && clock.monotonicMs() }
    o.onSegment(segment)
    return current
  }

  /** Headers, and copies of small payloads, lie in `staging`; it is free again when the group is written. */
  const encode = (group: Pending[], key: FrameKey, writtenMs: number): Buffer[] => {
    let stagedBytes = 0
    for (const { payload } of group)
      stagedBytes += frameHeaderBytes + (payload.length < copyBytesMax ? payload.length : 0)
    if (staging.length < stagedBytes) staging = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(stagedBytes)))
    const buffers: Buffer[] = []
    let sequence = nextSequence
    let begin = 0
    let end = 0
    for (const { payload, payloadCrc } of group) {
      writeFrameHeader(staging, end, key, { lengthBytes: payload.length, sequence: sequence++, writtenMs, payloadCrc })
      end += frameHeaderBytes
      if (payload.length < copyBytesMax) {
        staging.set(payload, end)
        end += payload.length
      } else {
        buffers.push(staging.subarray(begin, end), asBuffer(payload))
        begin = end
      }
    }
    if (end > begin) buffers.push(staging.subarray(begin, end))
    return buffers
  }

  const write = async (buffers: Buffer[], from: number, bytes: number) => {
    if (!current) throw new Error('BUG: writing without a segment')
    const { file, segment, allocated } = current
    const isAhead =
      bytes <= aheadGroupBytesMax && from + bytes > allocated && from + bytes + aheadBytes <= o.segmentBytes
    if (isAhead) buffers.push(zeros)
    else if (current.reusedMs !== undefined && from + bytes < allocated) buffers.push(groupEnd)
    try {
      const written = await writeAll(file.fd, buffers, from, bytes)
      free.bytes -= written
      current.allocated = Math.max(allocated, from + written)
    } catch (error) {
      await truncateGroup(file, segment, error)
      throw error
    }
  }

  /** Takes a group that was written in part off the file again. */
  const truncateGroup = async (file: FileHandle, segment: Segment, error: unknown) => {
    try {
      await file.truncate(segment.end)
      if (current) current.allocated = segment.end
      if (isOutOfSpace(error)) return
    } catch (truncateError) {
      log.warn({ err: truncateError }, 'journal: could not truncate a refused group; its segment is closed')
    }
    await retire()
  }

  /** After a failed fsync. What was acknowledged stays readable; the next segment's header records where that ends. */
  const abandon = async () => {
    await current?.file.truncate(current.segment.end).catch(() => {})
    await retire()
  }

  const cutNow = async (ageMs: number) => {
    if (current?.reusedMs === undefined || clock.monotonicMs() - current.reusedMs < ageMs) return
    const { file, segment } = current
    await file.truncate(segment.end).then(
      () => {
        if (current) Object.assign(current, { allocated: segment.end, reusedMs: undefined })
      },
      error => log.warn({ err: error }, 'journal: what a released segment held could not be cut off'),
    )
  }

  const finish = async () => {
    if (current && current.allocated > current.segment.end)
      await current.file.truncate(current.segment.end).catch(() => {})
    await retire()
  }

  const retire = async () => {
    if (!current) return
    const { file, segment } = current
    previous = segment
    current = undefined
    await file.close().catch(error => log.warn({ err: error }, 'journal: closing a segment failed'))
  }

  const requireFreeSpace = async (bytes: number) => {
    const isTight = free.bytes - bytes < free.reserveBytes
    if (isTight) await o.spares.drop()
    if (isTight || clock.monotonicMs() - free.readMs > freeSpaceAgeMsMax) {
      const { bavail, blocks, bsize } = await statfs(o.dir)
      free = { readMs: clock.monotonicMs(), bytes: bavail * bsize, reserveBytes: o.reserveBytes(blocks * bsize) }
    }
    if (free.bytes - bytes < free.reserveBytes) {
      throw new JournalDiskError(
        `journal ${o.dir}: ${free.bytes} bytes are free on the device and ${free.reserveBytes} are left to its other ` +
          'users. Free some space, or move the data folder.',
        'DISK_FULL',
      )
    }
  }

  return {
    get queuedBytes() {
      return queuedBytes
    },
    get queuedCount() {
      return queuedCount
    },
    push(pending) {
      queue.push(pending)
      queuedBytes += frameHeaderBytes + pending.payload.length
      queuedCount++
      pumping ??= pump()
    },
    cutOldContent(ageMs) {
      cutAgeMs = ageMs
      pumping ??= pump()
      return pumping
    },
    rotate() {
      isRotateWanted = true
      pumping ??= pump()
      return pumping
    },
    async close() {
      await pumping
      await finish()
    },
  }
}

/** What goes into one write: everything, up to the bounds, and at least one. */
function takeGroup(queue: Pending[]): Pending[] {
  let bytes = 0
  let count = 0
  for (const { payload } of queue) {
    bytes += frameHeaderBytes + payload.length
    if (count > 0 && (bytes > groupBytesMax || count >= groupFramesMax)) break
    count++
  }
  return queue.splice(0, count)
}

export function pendingAppend(payload: Uint8Array, startedMs: number, pending: Pick<Pending, 'resolve' | 'reject'>) {
  // Here, and not in the group: the checksum of the next group is computed while this one is on its way to the disk.
  return { payload, payloadCrc: crc32(payload), startedMs, resolve: pending.resolve, reject: pending.reject }
}

/** Writes all buffers, or at least the first `neededBytes`; the rest is space written ahead and may not fit. */
async function writeAll(fd: number, buffers: Buffer[], from: number, neededBytes: number): Promise<number> {
  let done = 0
  let rest = buffers
  while (done < neededBytes) {
    const written = await writev(fd, rest, from + done)
    if (written === 0) throw new Error('the system wrote nothing and gave no reason')
    done += written
    // The system stops short before it says why; asking for the rest brings the reason.
    if (done < neededBytes) rest = skipBytes(rest, written)
  }
  return done
}

function skipBytes(buffers: Buffer[], bytes: number): Buffer[] {
  let skip = bytes
  let first = 0
  for (; first < buffers.length && skip >= (buffers[first]?.length ?? 0); first++) skip -= buffers[first]?.length ?? 0
  const [head, ...tail] = buffers.slice(first)
  return head ? [head.subarray(skip), ...tail] : []
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

// The callback forms: measured here, FileHandle's promises cost 10–20 % more per small group.
function writev(fd: number, buffers: Buffer[], at: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.writev(fd, buffers, at, (error, written) => (error ? reject(error) : resolve(written)))
  })
}

function fdatasync(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.fdatasync(fd, error => (error ? reject(error) : resolve()))
  })
}
