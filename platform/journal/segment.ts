// One file of a journal: making it, naming it, reading frames out of it.

import { randomBytes } from 'node:crypto'
import { type FileHandle, open, readdir, rename, unlink } from 'node:fs/promises'
import path from 'node:path'
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  type FrameKey,
  framesFrom,
  groupEnd,
  type Scan,
  type SegmentHeader,
  scanFrames,
} from './frame.ts'
import { isSegmentId, segmentIdBytes } from './position.ts'
import type { Spare } from './spares.ts'

export interface Segment {
  readonly id: string
  readonly path: string
  readonly key: FrameKey
  readonly firstSequence: number
  /** The end of what is durable. Readers never look further. */
  end: number
}

const suffix = '.journal'
/** Behind the name of a file that is to be written again; see spares.ts. */
export const spareSuffix = '.spare'

export function segmentPath(dir: string, id: string): string {
  return path.join(dir, id + suffix)
}

/** Ids of the segments in a folder, oldest first. Other files are nobody's business. */
export async function listSegments(dir: string): Promise<string[]> {
  const names = await readdir(dir)
  return names
    .filter(name => name.endsWith(suffix))
    .map(name => name.slice(0, -suffix.length))
    .filter(isSegmentId)
    .sort()
}

/** Spare files of an earlier life: whatever they hold was released. */
export async function removeSpares(dir: string): Promise<void> {
  for (const name of await readdir(dir)) if (name.endsWith(suffix + spareSuffix)) await unlink(path.join(dir, name))
}

/** A new segment on disk, in a file of its own or in a spare one, header and directory entry synced. Leaves nothing
 *  behind when it fails. */
export async function createSegment(o: {
  dir: string
  id: string
  firstSequence: number
  createdMs: number
  previous: { id: string; end: number } | undefined
  spare: Spare | undefined
}): Promise<{ segment: Segment; file: FileHandle }> {
  const random = randomBytes(8)
  const header = {
    id: segmentIdBytes(o.id),
    // Never zero: space written ahead of the frames is zeros, and must not look like markers.
    marker: random.readUInt32LE(0) || 1,
    seed: random.readUInt32LE(4),
    firstSequence: o.firstSequence,
    createdMs: o.createdMs,
    isReused: o.spare !== undefined,
    previous: o.previous && { id: segmentIdBytes(o.previous.id), end: o.previous.end },
  }
  const filePath = segmentPath(o.dir, o.id)
  const file = await (o.spare === undefined ? open(filePath, 'wx', 0o600) : open(o.spare.path, 'r+'))
  try {
    await file.writeFile(encodeSegmentHeader(header))
    if (o.spare !== undefined) await file.write(groupEnd, 0, groupEnd.length, framesFrom)
    await file.sync()
    // Only now: a segment's name never stands on a file with another one's header.
    if (o.spare !== undefined) await rename(o.spare.path, filePath)
    await syncDirectory(o.dir)
  } catch (error) {
    await file.close().catch(() => {})
    await unlink(filePath).catch(() => {})
    if (o.spare !== undefined) await unlink(o.spare.path).catch(() => {})
    throw error
  }
  const { marker, seed, firstSequence } = header
  return {
    segment: { id: o.id, path: filePath, key: { marker, seed }, firstSequence, end: framesFrom },
    file,
  }
}

/** Makes the creation or removal of files in `dir` survive a power cut. */
export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

export async function readSegmentHeader(file: FileHandle): Promise<SegmentHeader | undefined> {
  return decodeSegmentHeader(await readRange(file, 0, Buffer.alloc(framesFrom)))
}

/**
 * Frames from `from` on: about `bytesMax` of them, at least one if there is one before `limit`. Payloads share one
 * buffer, fresh for every call unless `allocate` has another. The last one it gave is the one they lie in.
 */
export async function readFrames(
  file: FileHandle,
  key: FrameKey,
  {
    from,
    limit,
    bytesMax,
    allocate = Buffer.allocUnsafeSlow,
    isPiecewise = false,
  }: {
    from: number
    limit: number
    bytesMax: number
    allocate?: ((bytes: number) => Buffer) | undefined
    /** Damage may come in neighbouring pieces, instead of being read in one piece however long it is. */
    isPiecewise?: boolean
  },
): Promise<Scan> {
  let bytes = Math.min(bytesMax, limit - from)
  for (;;) {
    const buffer = allocate(bytes).subarray(0, bytes)
    const scan = scanFrames(await readRange(file, from, buffer), from, limit, key, isPiecewise)
    if (scan.next > from || bytes >= limit - from) return scan
    // One frame is larger than asked for, or the search after damage needs more.
    bytes = Math.min(Math.max(scan.wantedBytes, bytes + 1), limit - from)
  }
}

const pageBytes = 4096

/** Fills `target` from offset `from`; what the file does not have, or the disk cannot read, comes back as zeros: the
 *  checksums then tell which frames that cost, instead of one bad sector hiding a whole segment. */
export async function readRange(file: FileHandle, from: number, target: Buffer): Promise<Buffer> {
  for (let done = 0; done < target.length; ) {
    const part = target.subarray(done)
    try {
      const { bytesRead } = await file.read(part, 0, part.length, from + done)
      if (bytesRead === 0) {
        part.fill(0)
        break
      }
      done += bytesRead
    } catch (error) {
      if (!isReadError(error)) throw error
      done += await readPage(file, from + done, part)
    }
  }
  return target
}

/** One page, so that only the unreadable ones are given up. */
async function readPage(file: FileHandle, from: number, target: Buffer): Promise<number> {
  const page = target.subarray(0, Math.min(target.length, pageBytes - (from % pageBytes)))
  try {
    const { bytesRead } = await file.read(page, 0, page.length, from)
    if (bytesRead > 0) return bytesRead
  } catch (error) {
    if (!isReadError(error)) throw error
  }
  page.fill(0)
  return page.length
}

function isReadError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EIO'
}
