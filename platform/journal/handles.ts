// Open files of segments, for reading: a reader comes back to the same one many times a second, and opening and closing
// a file are two trips through the thread pool beside the one that reads.

import { type FileHandle, open as openFile } from 'node:fs/promises'
import { diskError } from './errors.ts'
import type { Segment } from './segment.ts'

export interface Handles {
  /** What `work` makes of the segment's file; undefined when there is no such file any more. */
  use<T>(segment: Segment, work: (file: FileHandle) => Promise<T>): Promise<T | undefined>
  /** Nobody will ask for these again: waits for who reads them, and closes their files. */
  forget(segments: readonly Segment[]): Promise<void>
  /** All of them, also of segments that were let go just when somebody began to read them. */
  close(): Promise<void>
}

interface Handle {
  file: Promise<FileHandle | undefined>
  readonly uses: Set<Promise<unknown>>
}

/** Idle ones that stay open: of a reader at the end, and of one or two that work a backlog off. */
const idleMax = 3

export function openHandles(): Handles {
  const handles = new Map<string, Handle>()
  let isClosed = false

  const close = async (id: string) => {
    const handle = handles.get(id)
    handles.delete(id)
    // One that could not be opened has been told to who asked for it, and nothing is written through one that was.
    const file = await handle?.file.catch(() => undefined)
    await file?.close().catch(() => {})
  }

  const closeUnused = async (id: string) => {
    await Promise.allSettled(handles.get(id)?.uses ?? [])
    await close(id)
  }

  const closeIdle = async () => {
    const idle = [...handles].filter(([, { uses }]) => uses.size === 0)
    for (const [id] of idle.slice(0, Math.max(0, idle.length - idleMax))) await close(id)
  }

  return {
    async use(segment, work) {
      const handle = handles.get(segment.id) ?? { file: openForRead(segment), uses: new Set() }
      // Behind the others: the first of them is the one that was idle longest.
      handles.delete(segment.id)
      handles.set(segment.id, handle)
      const use = handle.file.then(file => file && work(file))
      handle.uses.add(use)
      try {
        return await use
      } finally {
        handle.uses.delete(use)
        const isOpen = (await handle.file.catch(() => undefined)) !== undefined
        if (!isOpen && handles.get(segment.id) === handle) handles.delete(segment.id)
        // Who was reading when all were closed may have gone on to another one.
        if (isClosed) await closeUnused(segment.id)
        else await closeIdle()
      }
    },
    async forget(segments) {
      for (const { id } of segments) await closeUnused(id)
    },
    async close() {
      isClosed = true
      // A use that ends may close some of them itself.
      for (let [id] = handles.keys(); id !== undefined; [id] = handles.keys()) await closeUnused(id)
    },
  }
}

async function openForRead(segment: Segment): Promise<FileHandle | undefined> {
  try {
    return await openFile(segment.path, 'r')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw diskError(`journal segment ${segment.path}`, error)
  }
}
