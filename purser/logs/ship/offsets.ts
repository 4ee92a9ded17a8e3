// How far each file is shipped: one small file per followed path, written before a batch leaves and again with the next.
//
// `inflight` is the batch that may or may not have arrived. After a crash exactly those bytes are sent again under the
// same key, and the service stores them once; `offset` only moves past them when they are acknowledged.

import { createHash } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { type Lock, lockFile } from '#platform/lock'

export interface FileOffsets {
  dev: string
  ino: string
  /** Rises with each truncation of the same file: its offsets begin anew, and so must its keys. */
  generation: number
  /** SHA-256 of the file's first bytes: an inode number may come back with another file. */
  head: { bytes: number; sha256: string }
  /** SHA-256 of the bytes right before the offset: a file rewritten in place is not gone on with. */
  last: { bytes: number; sha256: string }
  /** Acknowledged up to here. */
  offset: number
  inflight: { from: number; to: number } | null
}

export interface OffsetBook {
  /** In the order in which they are to be shipped: a file rotated away first, the present one last. */
  files: FileOffsets[]
  save(): Promise<void>
  close(): Promise<void>
}

interface Saved {
  version: 1
  path: string
  files: FileOffsets[]
}

/** @throws AlreadyLocked when another shipper follows the same path with this folder */
export async function openOffsets(dir: string, path: string): Promise<OffsetBook> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const name = join(dir, createHash('sha256').update(path).digest('hex').slice(0, 24))
  const lock: Lock = await lockFile(`${name}.lock`)
  const book: OffsetBook = {
    files: await load(`${name}.json`),
    async save() {
      const content: Saved = { version: 1, path, files: book.files }
      const temporary = `${name}.json.new`
      const file = await open(temporary, 'w', 0o600)
      try {
        await file.writeFile(JSON.stringify(content))
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(temporary, `${name}.json`)
    },
    async close() {
      await book.save()
      lock.release()
    },
  }
  return book
}

async function load(name: string): Promise<FileOffsets[]> {
  const text = await readFile(name, 'utf8').catch(error => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (text === undefined) return []
  const saved = JSON.parse(text) as Saved
  if (saved.version !== 1) throw new Error(`${name} was written by a newer program; upgrade this one`)
  return saved.files
}
