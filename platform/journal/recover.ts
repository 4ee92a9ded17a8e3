// What a journal does with the files it finds when it opens.
//
// Every segment but the newest was followed by another whose header says where it ended, so for those "cut short" and
// "longer than acknowledged" can be told apart. The newest one ended when its writer did, at any byte: whatever follows
// its last whole frame is the torn tail, cut and reported. Space written ahead (zeros) is no tail, and neither is what a
// file held before it was written again.
// Nothing here makes a start fail, except a format newer than this program.

import { type FileHandle, open, unlink } from 'node:fs/promises'
import type { Logger } from '../telemetry.ts'
import type { DamageBook, DamagedRange } from './damage.ts'
import { JournalTooNew } from './errors.ts'
import {
  type Damage,
  type FrameKey,
  formatVersion,
  frameHeaderBytes,
  framesFrom,
  readFrameHeader,
  type SegmentHeader,
} from './frame.ts'
import { segmentIdFrom } from './position.ts'
import {
  listSegments,
  readFrames,
  readRange,
  readSegmentHeader,
  removeSpares,
  type Segment,
  segmentPath,
  syncDirectory,
} from './segment.ts'

/** Bytes of older segments checked before `openJournal` returns: about a second's reading. What lies beyond is checked
 *  all the same, when it is read; a journal that filled for a day must not keep its service from starting. */
const verifyBytesMax = 1024 * 1024 * 1024

const chunkBytes = 4 * 1024 * 1024

export interface Recovered {
  /** Oldest first, all with a known end. */
  segments: Segment[]
  /** The newest id on disk, also of a file that was set aside: new ids must be greater. */
  newestId: string | undefined
  nextSequence: number
  /** What was cut from the newest segment, if anything. */
  torn: DamagedRange | null
}

interface Found {
  segment: Segment
  header: SegmentHeader
  file: FileHandle
  bytes: number
  /** Where the following segment says that this one ended. */
  knownEnd: number | undefined
}

export async function recover({ dir, book, log }: { dir: string; book: DamageBook; log: Logger }): Promise<Recovered> {
  // Left where it is when the disk refuses: it is looked for again at the next start.
  await removeSpares(dir).catch(error => log.warn({ err: error }, 'journal: a spare file could not be deleted'))
  const ids = await listSegments(dir)
  const files: { id: string; file: FileHandle; header: SegmentHeader | undefined; bytes: number }[] = []
  try {
    // All headers before the first change: a folder of a newer program is left exactly as it was.
    for (const id of ids) {
      const file = await openWritable(segmentPath(dir, id))
      // Before it is read: whatever fails from here on, it is closed.
      const found = { id, file, header: undefined as SegmentHeader | undefined, bytes: 0 }
      files.push(found)
      found.header = await readSegmentHeader(file)
      found.bytes = (await file.stat()).size
      const { header } = found
      if (header && header.version > formatVersion) {
        throw new JournalTooNew(segmentPath(dir, id), header.version, formatVersion)
      }
    }
    const found: Found[] = []
    let skippedSequences = 0
    for (const { id, file, header, bytes } of files) {
      const owner = header && segmentIdFrom(header.id)
      if (header && owner === id) {
        const { marker, seed, firstSequence } = header
        const segment = {
          id,
          path: segmentPath(dir, id),
          key: { marker, seed },
          firstSequence,
          end: framesFrom,
        }
        found.push({ segment, header, file, bytes, knownEnd: undefined })
      } else if (bytes <= framesFrom) {
        // Its making was interrupted before the first frame.
        await unlink(segmentPath(dir, id))
        await syncDirectory(dir)
      } else {
        const reason = header
          ? `the file is named ${id} but holds segment ${owner}`
          : 'both copies of the segment header are unreadable'
        await book.setFileAside(id, segmentPath(dir, id), bytes, reason)
        skippedSequences += framesIn(bytes)
      }
    }
    await linkEnds(found, book)
    const { lastSequence, torn } = await verify(found, book, log)
    return {
      segments: await dropEmpty(found, dir),
      newestId: ids.at(-1),
      nextSequence: lastSequence + skippedSequences + 1,
      torn,
    }
  } finally {
    for (const { file } of files) await file.close()
  }
}

/** Read-only when it must be: what is there can be read even on a disk that takes nothing any more. */
async function openWritable(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+')
  } catch {
    return await open(path, 'r')
  }
}

/** Tells each segment where its follower saw it end, and reports segments that vanished from the middle. */
async function linkEnds(found: Found[], book: DamageBook): Promise<void> {
  for (const [i, { header }] of found.entries()) {
    const before = found[i - 1]
    if (!before || !header.previous) continue
    const previousId = segmentIdFrom(header.previous.id)
    if (before.segment.id === previousId) before.knownEnd = header.previous.end
    else if (header.previous.end > framesFrom && !(await book.hasFile(previousId))) {
      book.report({
        segment: previousId,
        from: framesFrom,
        to: header.previous.end,
        reason: 'the segment file is missing',
      })
    }
  }
}

async function verify(found: Found[], book: DamageBook, log: Logger) {
  const scratch = Buffer.allocUnsafe(chunkBytes)
  let budgetBytes = verifyBytesMax
  let lastSequence = 0
  let torn: DamagedRange | null = null
  for (const { segment, header, file, bytes, knownEnd } of found.toReversed()) {
    lastSequence = Math.max(lastSequence, segment.firstSequence - 1)
    if (knownEnd !== undefined) {
      segment.end = knownEnd
      if (bytes > knownEnd) await cut(file, knownEnd, log)
      if (budgetBytes <= 0) continue
      budgetBytes -= knownEnd
    }
    const scanned = await scanSegment(segment, file, Math.max(knownEnd ?? bytes, framesFrom), scratch)
    lastSequence = Math.max(lastSequence, scanned.lastSequence)
    const tail = scanned.damage.at(-1)
    const hasTail = knownEnd === undefined && tail?.to === bytes
    for (const damage of hasTail ? scanned.damage.slice(0, -1) : scanned.damage) {
      await book.setAside(segment, file, damage)
    }
    if (knownEnd !== undefined) continue
    segment.end = hasTail ? tail.from : Math.max(bytes, framesFrom)
    if (!hasTail) continue
    const residue = header.isReused
      ? await tornOverOldBytes(file, tail.from, segment.key)
      : await tornBytes(file, tail.from, tail.to)
    if (residue > 0) {
      torn = { segment: segment.id, from: tail.from, to: tail.from + residue, reason: tail.reason }
      log.warn(torn, 'journal: a torn tail was cut; it was never acknowledged')
      // Whoever was in there keeps its sequence, whether or not the write had been finished.
      lastSequence += framesIn(tail.to - tail.from)
      if (!(await book.copy(segment, file, torn.from, torn.to))) continue
    }
    await cut(file, segment.end, log)
  }
  return { lastSequence, torn }
}

async function scanSegment(segment: Segment, file: FileHandle, limit: number, scratch: Buffer) {
  const damage: Damage[] = []
  let lastSequence = 0
  for (let from = framesFrom; from < limit; ) {
    const scan = await readFrames(file, segment.key, {
      from,
      limit,
      bytesMax: scratch.length,
      allocate: bytes => (bytes <= scratch.length ? scratch : Buffer.allocUnsafeSlow(bytes)),
      isPiecewise: true,
    })
    lastSequence = scan.frames.at(-1)?.sequence ?? lastSequence
    for (const range of scan.damage) {
      const last = damage.at(-1)
      if (last?.to === range.from) last.to = range.to
      else damage.push(range)
    }
    from = scan.next
  }
  return { damage, lastSequence }
}

/** Bytes from `from` to the last one that is not zero. */
async function tornBytes(file: FileHandle, from: number, to: number): Promise<number> {
  let last = from
  for (let at = from; at < to; at += chunkBytes) {
    const chunk = await readRange(file, at, Buffer.alloc(Math.min(chunkBytes, to - at)))
    const end = chunk.findLastIndex(byte => byte !== 0)
    if (end >= 0) last = at + end + 1
  }
  return last - from
}

/** The same where old content follows: nothing where a group was ended, else the one frame that was begun there. */
async function tornOverOldBytes(file: FileHandle, from: number, key: FrameKey): Promise<number> {
  const bytes = await readRange(file, from, Buffer.alloc(frameHeaderBytes))
  if (bytes.every(byte => byte === 0)) return 0
  return frameHeaderBytes + (readFrameHeader(bytes, 0, key)?.lengthBytes ?? 0)
}

/** Best effort: readers stop at `segment.end` anyway, and the next segment's header records it. */
async function cut(file: FileHandle, end: number, log: Logger): Promise<void> {
  try {
    await file.truncate(end)
    await file.sync()
  } catch (error) {
    log.warn({ err: error }, 'journal: could not cut a segment')
  }
}

/** Segments without a frame go, but for the newest, which carries the sequence on. */
async function dropEmpty(found: Found[], dir: string): Promise<Segment[]> {
  const kept = []
  for (const [i, { segment }] of found.entries()) {
    if (segment.end > framesFrom || i === found.length - 1) kept.push(segment)
    else await unlink(segment.path).catch(() => {})
  }
  if (kept.length < found.length) await syncDirectory(dir)
  return kept
}

/** Most frames that so many bytes can have held. */
function framesIn(bytes: number): number {
  return Math.ceil(bytes / frameHeaderBytes)
}
