// What was found unreadable: reported once, and copied out so that a person can still look at the bytes.

import { type FileHandle, mkdir, open, readdir, rename, stat, truncate, unlink } from 'node:fs/promises'
import path from 'node:path'
import type { Logger } from '../telemetry.ts'
import { isSegmentId, segmentBegunMs } from './position.ts'
import { readRange, type Segment, segmentPath, syncDirectory } from './segment.ts'

export interface DamagedRange {
  segment: string
  from: number
  to: number
  reason: string
}

/** Most bytes that copies in `damaged/` may take together. Beyond that ranges are still reported: a dying disk must not
 *  fill itself with evidence. */
const copiesBytesMax = 256 * 1024 * 1024
/** Most ranges kept in memory for `journal.damaged`; all are counted and logged. */
const rangesMax = 1_000

export interface DamageBook {
  readonly ranges: readonly DamagedRange[]
  readonly total: number
  /** Reports the range and copies it aside. A range seen before, in this life or an earlier one, is not copied again. */
  setAside(segment: Segment, file: FileHandle, damage: { from: number; to: number; reason: string }): Promise<void>
  /** A whole file, of which not even the header makes sense. */
  setFileAside(id: string, filePath: string, bytes: number, reason: string): Promise<void>
  /** True when `setFileAside` took this segment, now or in an earlier life. */
  hasFile(id: string): Promise<boolean>
  /** A range whose bytes are gone. */
  report(range: DamagedRange): void
  /** Copies without reporting damage: the torn tail, which nobody was promised. True when a copy exists now. */
  copy(segment: Segment, file: FileHandle, from: number, to: number): Promise<boolean>
  /** Empties the copies of segments that were begun until then. Their names stay: what was reported is not reported anew. */
  forget(begunUntilMs: number): Promise<void>
}

export function openDamageBook({ dir, log }: { dir: string; log: Logger }): DamageBook {
  const folder = path.join(dir, 'damaged')
  const ranges: DamagedRange[] = []
  let total = 0

  const report = (range: DamagedRange) => {
    total++
    if (ranges.length < rangesMax) ranges.push(range)
    log.error(range, 'journal damage: these bytes cannot be read; what lies before and after them is')
  }

  const copy = async (segment: Segment, file: FileHandle, from: number, to: number) => {
    const target = path.join(folder, `${segment.id}-${from}-${to}.bytes`)
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      if ((await folderBytes(folder)) + to - from > copiesBytesMax) {
        log.warn({ folder, copiesBytesMax }, 'damaged bytes not copied: the folder is full; move its files away')
        return false
      }
      await copyRange(file, from, to, target)
      await syncDirectory(folder)
      return true
    } catch (error) {
      if (isExisting(error)) return true
      // The report stands without the copy; a full disk is no reason to withhold what can be read.
      log.warn({ err: error, target }, 'damaged bytes could not be copied aside')
      return false
    }
  }

  return {
    ranges,
    get total() {
      return total
    },
    report,
    copy,
    async setAside(segment, file, { from, to, reason }) {
      // A reader that starts elsewhere may meet a part of what was reported as one.
      if (ranges.some(range => range.segment === segment.id && range.from <= from && range.to >= to)) return
      report({ segment: segment.id, from, to, reason })
      await copy(segment, file, from, to)
    },
    async setFileAside(id, filePath, bytes, reason) {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      await rename(filePath, path.join(folder, path.basename(filePath)))
      await syncDirectory(folder)
      await syncDirectory(dir)
      report({ segment: id, from: 0, to: bytes, reason })
    },
    async forget(begunUntilMs) {
      const names = await readdir(folder).catch(() => [])
      for (const name of names) {
        const id = name.slice(0, 36)
        if (!isSegmentId(id) || segmentBegunMs(id) > begunUntilMs) continue
        const target = path.join(folder, name)
        if ((await stat(target)).size === 0) continue
        await truncate(target, 0)
        log.warn({ target }, 'a copy of damaged bytes is emptied: what it may hold must not be kept any longer')
      }
    },
    hasFile: id =>
      stat(segmentPath(folder, id)).then(
        () => true,
        () => false,
      ),
  }
}

async function copyRange(file: FileHandle, from: number, to: number, target: string): Promise<void> {
  const out = await open(target, 'wx', 0o600)
  try {
    const chunk = Buffer.allocUnsafe(Math.min(to - from, 1024 * 1024))
    for (let at = from; at < to; at += chunk.length) {
      await out.writeFile(await readRange(file, at, chunk.subarray(0, Math.min(chunk.length, to - at))))
    }
    await out.sync()
  } catch (error) {
    await unlink(target).catch(() => {})
    throw error
  } finally {
    await out.close()
  }
}

async function folderBytes(folder: string): Promise<number> {
  const sizes = await Promise.all((await readdir(folder)).map(async name => (await stat(path.join(folder, name))).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}

function isExisting(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EEXIST'
}
