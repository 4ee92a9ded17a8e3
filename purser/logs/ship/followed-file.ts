// One path, followed: through rotation (another file under the name) and truncation (the same file from its beginning).
//
// Files stand in a queue, the one rotated away before the present one; a file leaves it when it is read to its end and
// nobody has written to it for a while.

import { createHash } from 'node:crypto'
import { type FileHandle, open, readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { bodyOf, type Continuation, splitEvents } from './events.ts'
import { type FileOffsets, openOffsets } from './offsets.ts'

export interface Batch {
  key: string
  body: string
  rows: number
  bytes: number
  /** The service has it on disk. */
  acknowledged(): void
}

export interface FollowedFile {
  path: string
  /** Undefined: nothing is complete yet. `isEnd`: what is there now is all there will be. */
  next(isEnd: boolean): Promise<Batch | undefined>
  /** Bytes of all files in the queue, and those that are shipped. */
  sizes(): { total: number; shipped: number }
  close(): Promise<void>
}

const batchBytesMax = 512 * 1024
const headBytes = 1_024
const lastBytes = 256
/** The last event may go on until its file was quiet for so long. */
const quietMs = 300
/** Writers may hold a file for a while after it was rotated away. */
const rotatedQuietMs = 5_000

interface Open {
  file: FileHandle
  offsets: FileOffsets
  size: number
  grownAtMs: number
}

export async function followFile(o: {
  path: string
  dir: string
  continues: Continuation
  /** Of files seen for the first time. */
  start: 'beginning' | 'end'
  now: () => number
  warn: (message: string) => void
}): Promise<FollowedFile> {
  const { path, now } = o
  const book = await openOffsets(o.dir, path)
  const queue: Open[] = []
  let shippedBefore = 0

  const push = async (file: FileHandle, offsets: FileOffsets) => {
    const { size } = await file.stat()
    queue.push({ file, offsets, size, grownAtMs: now() })
  }
  for (const offsets of [...book.files]) {
    const file = await findAgain(path, offsets)
    if (file) await push(file, offsets)
    else {
      book.files.splice(book.files.indexOf(offsets), 1)
      o.warn(
        `${path}: the file followed last is gone (deleted or compressed); what it held behind ${offsets.offset} was not shipped`,
      )
    }
  }
  let isFirstLook = book.files.length === 0

  const lookForRotation = async () => {
    const found = await stat(path, { bigint: true }).catch(() => undefined)
    if (!found?.isFile()) return
    const present = queue.at(-1)?.offsets
    if (present && present.dev === String(found.dev) && present.ino === String(found.ino)) return
    const file = await open(path, 'r').catch(() => undefined)
    if (!file) return
    const opened = await file.stat({ bigint: true })
    const offset = isFirstLook && o.start === 'end' ? Number(opened.size) : 0
    const offsets: FileOffsets = {
      dev: String(opened.dev),
      ino: String(opened.ino),
      generation: 0,
      head: await digest(file, 0, Math.min(headBytes, Number(opened.size))),
      last: await digest(file, Math.max(0, offset - lastBytes), Math.min(lastBytes, offset)),
      offset,
      inflight: null,
    }
    book.files.push(offsets)
    await push(file, offsets)
    // Noted at once: it may be rotated away under another name before its first batch leaves.
    await book.save()
  }

  /** The same file, begun anew: by truncation, or rewritten in place. */
  const beginAnew = async (opened: Open) => {
    const { offsets, file } = opened
    o.warn(`${path}: truncated at ${opened.size}; reading it from its beginning`)
    shippedBefore += offsets.offset
    offsets.generation++
    offsets.offset = 0
    offsets.inflight = null
    offsets.head = await digest(file, 0, Math.min(headBytes, opened.size))
    offsets.last = await digest(file, 0, 0)
  }

  const batchOf = async (opened: Open, from: number, to: number): Promise<Batch> => {
    const { file, offsets } = opened
    const events = splitEvents(await readExactly(file, from, to - from), o.continues, true)
    const body = bodyOf(events, path)
    const identity = `${offsets.dev}:${offsets.ino}:${offsets.generation}`
    const last = await digest(file, Math.max(0, to - lastBytes), Math.min(lastBytes, to))
    return {
      // The path too: inode numbers of two machines with one key may be equal.
      key: createHash('sha256')
        .update(JSON.stringify([path, identity, offsets.head.sha256, from, to]))
        .digest('hex'),
      body,
      rows: body === '' ? 0 : body.split('\n').length - 1,
      bytes: to - from,
      acknowledged() {
        offsets.offset = to
        offsets.inflight = null
        offsets.last = last
      },
    }
  }

  return {
    path,
    async next(isEnd) {
      await lookForRotation()
      isFirstLook = false
      for (let opened = queue[0]; opened; opened = queue[0]) {
        const { offsets, file } = opened
        const { size } = await file.stat()
        if (size !== opened.size) opened.grownAtMs = now()
        opened.size = size
        const { inflight } = offsets
        if (inflight && inflight.to <= size && (await isUnchanged(file, offsets))) {
          return await batchOf(opened, inflight.from, inflight.to)
        }
        if (size < offsets.offset || !(await isUnchanged(file, offsets))) await beginAnew(opened)

        const isRotated = queue.length > 1
        const quiet = now() - opened.grownAtMs
        const isLast = size - offsets.offset <= batchBytesMax
        const bytes = await readExactly(file, offsets.offset, Math.min(batchBytesMax, size - offsets.offset))
        const isOver = isLast && (isEnd || (isRotated && quiet >= rotatedQuietMs))
        const events = splitEvents(bytes, o.continues, isOver)
        const mayGrow = !isOver && !(isLast && quiet >= quietMs)
        if (mayGrow && (isLast || events.length > 1)) events.pop()
        const end = events.at(-1)?.to
        if (end !== undefined) {
          // The head is part of the key, so it stays what it is from the first batch of a file on.
          if (offsets.offset === 0) offsets.head = await digest(file, 0, Math.min(headBytes, end))
          offsets.inflight = { from: offsets.offset, to: offsets.offset + end }
          await book.save()
          return await batchOf(opened, offsets.inflight.from, offsets.inflight.to)
        }
        if (!isRotated || !(isEnd || quiet >= rotatedQuietMs)) return undefined
        await file.close()
        queue.shift()
        book.files.splice(book.files.indexOf(offsets), 1)
        shippedBefore += offsets.offset
      }
      return undefined
    },
    sizes: () => ({
      total: shippedBefore + queue.reduce((sum, { size }) => sum + size, 0),
      shipped: shippedBefore + queue.reduce((sum, { offsets }) => sum + offsets.offset, 0),
    }),
    async close() {
      for (const { file } of queue) await file.close()
      await book.close()
    },
  }
}

/** Under its name, or under the one it was rotated to: the same inode in the same folder with the same beginning. */
async function findAgain(path: string, offsets: FileOffsets): Promise<FileHandle | undefined> {
  const dir = dirname(path)
  const others = await readdir(dir).catch(() => [])
  for (const candidate of [path, ...others.map(name => join(dir, name))]) {
    const found = await stat(candidate, { bigint: true }).catch(() => undefined)
    if (!found?.isFile() || String(found.ino) !== offsets.ino || String(found.dev) !== offsets.dev) continue
    const file = await open(candidate, 'r').catch(() => undefined)
    if (!file) continue
    const size = Number(found.size)
    // Shorter than what was shipped: truncated meanwhile, which next() sees.
    const isSame =
      size < offsets.head.bytes || (await digest(file, 0, offsets.head.bytes)).sha256 === offsets.head.sha256
    if (isSame) return file
    await file.close()
  }
  return undefined
}

async function isUnchanged(file: FileHandle, { offset, last, head }: FileOffsets): Promise<boolean> {
  return (
    (await digest(file, offset - last.bytes, last.bytes)).sha256 === last.sha256 &&
    (await digest(file, 0, head.bytes)).sha256 === head.sha256
  )
}

async function digest(file: FileHandle, from: number, bytes: number): Promise<{ bytes: number; sha256: string }> {
  const content = await readExactly(file, from, bytes)
  return { bytes, sha256: createHash('sha256').update(content).digest('hex') }
}

/** Less only when the file is shorter. */
async function readExactly(file: FileHandle, from: number, bytes: number): Promise<Buffer> {
  const content = Buffer.alloc(Math.max(0, bytes))
  let at = 0
  while (at < content.length) {
    const { bytesRead } = await file.read(content, at, content.length - at, from + at)
    if (bytesRead === 0) break
    at += bytesRead
  }
  return content.subarray(0, at)
}
