// Buffers that are given back by hand and used again.
//
// Bodies and records are most of the bytes this process allocates. Left to the garbage collector they live past two
// scavenges, and then only a full mark of the heap frees them: at 150,000 rows/s that was six marks a second, a third of a
// core. Whoever takes a buffer and loses it loses nothing but that; whoever gives one back that is still read corrupts
// somebody else's entries, so there is one place per kind of buffer where its last reader is known to be done.

import { Buffer } from 'node:buffer'

export interface BufferPool {
  /** At least `bytes`, often more; holds whatever it was used for before. */
  take(bytes: number): Buffer
  /** Nobody reads or writes it any more. What did not come from `take`, or came back already, is left alone. */
  give(buffer: Buffer): void
  /** Bytes that are kept for whoever comes next. */
  readonly freeBytes: number
  close(): void
}

/** Smaller ones are cut from slabs and die young. */
const pooledBytesMin = 16 * 1024
/** Larger ones are rare, and would be dear to keep. */
const pooledBytesMax = 2 * 1024 * 1024
/** What was not needed for so long goes. */
const sweepEveryMs = 10_000

interface Shelf {
  free: Buffer[]
  /** Fewest that lay there since the last sweep: so many too many. */
  least: number
}

/** Keeps `bytesMax` at most. */
export function createBufferPool({ bytesMax }: { bytesMax: number }): BufferPool {
  /** By size: powers of two. */
  const shelves = new Map<number, Shelf>()
  const lent = new WeakSet<Buffer>()
  let freeBytes = 0

  const shelfOf = (size: number): Shelf => {
    let shelf = shelves.get(size)
    if (!shelf) {
      shelf = { free: [], least: 0 }
      shelves.set(size, shelf)
    }
    return shelf
  }

  const sweep = () => {
    for (const [size, shelf] of shelves) {
      freeBytes -= shelf.free.splice(0, shelf.least).length * size
      shelf.least = shelf.free.length
    }
  }
  const sweeping = setInterval(sweep, sweepEveryMs)
  sweeping.unref()

  return {
    take(bytes) {
      if (bytes < pooledBytesMin) return Buffer.allocUnsafe(bytes)
      if (bytes > pooledBytesMax) return Buffer.allocUnsafeSlow(bytes)
      const size = 2 ** Math.ceil(Math.log2(bytes))
      const shelf = shelfOf(size)
      const known = shelf.free.pop()
      if (known) freeBytes -= size
      if (shelf.free.length < shelf.least) shelf.least = shelf.free.length
      const buffer = known ?? Buffer.allocUnsafeSlow(size)
      lent.add(buffer)
      return buffer
    },
    give(buffer) {
      if (!lent.delete(buffer) || freeBytes + buffer.length > bytesMax) return
      shelfOf(buffer.length).free.push(buffer)
      freeBytes += buffer.length
    },
    get freeBytes() {
      return freeBytes
    },
    close() {
      clearInterval(sweeping)
      shelves.clear()
      freeBytes = 0
    },
  }
}

/** For whoever makes few of them. */
export const noPool: BufferPool = {
  take: bytes => Buffer.allocUnsafe(bytes),
  give: () => {},
  freeBytes: 0,
  close: () => {},
}
