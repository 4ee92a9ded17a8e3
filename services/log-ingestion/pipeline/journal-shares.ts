// A journal that fills is shared: from half full on, each key may hold at most its equal part of what is left, so that one
// flood does not take the room of the others. A part is kept back for keys that have nothing in it yet.
//
// A journal empties from its oldest end, so the second half is always its newest bytes: as the oldest go, those in the
// middle come to be of the first half, whose they are does not matter any more.

import { JournalFull } from '#platform/journal'
import type { Backlog } from './backlog.ts'

export interface JournalShares {
  /** To be told in the end whether the bytes were kept. @throws JournalFull: this key has its share */
  claim(this: void, key: string, bytes: number): (isKept: boolean) => void
}

/** Of the second half, for newcomers. */
const keptBack = 1 / 16
/** Of the second half: so finely is known what moves into the first. */
const chunksMax = 64
const retryAfterS = 5

interface Chunk {
  bytes: number
  ofKeys: Map<string, number>
}

export function createJournalShares(o: {
  /** Bytes that wait. */
  journalBytes: () => number
  bytesMax: number
  backlog: Pick<Backlog, 'journalBytesOf' | 'keys'>
}): JournalShares {
  const half = o.bytesMax / 2
  /** What was added beyond the half mark, the oldest first, and its sum by key. */
  let chunks: Chunk[] = []
  let bytesBeyond = 0
  const beyond = new Map<string, number>()
  /** To the disk. */
  let bytesOnTheWay = 0

  const put = (key: string, bytes: number) => {
    let last = chunks.at(-1)
    if (!last || last.bytes >= half / chunksMax) {
      last = { bytes: 0, ofKeys: new Map() }
      chunks.push(last)
    }
    last.bytes += bytes
    add(last.ofKeys, key, bytes)
    bytesBeyond += bytes
    add(beyond, key, bytes)
  }
  /** What the half mark has passed. */
  const trim = () => {
    const passed = bytesBeyond - Math.max(0, o.journalBytes() + bytesOnTheWay - half)
    let count = 0
    let bytes = 0
    for (const chunk of chunks) {
      if (bytes + chunk.bytes > passed) break
      bytes += chunk.bytes
      count++
      for (const [key, part] of chunk.ofKeys) add(beyond, key, -part)
    }
    chunks = count === 0 ? chunks : chunks.slice(count)
    bytesBeyond -= bytes
  }

  return {
    claim(key, bytes) {
      const isFilling = o.journalBytes() + bytesOnTheWay > half
      if (isFilling || chunks.length > 0) trim()
      if (isFilling) {
        const held = beyond.get(key) ?? 0
        const keys = o.backlog.keys + (o.backlog.journalBytesOf(key) === 0 ? 1 : 0)
        const share = (half * (1 - keptBack)) / Math.max(1, keys)
        if (held > 0 && held + bytes > share)
          throw new JournalFull(
            `the journal is more than half full and this key holds its share of the rest, ${Math.floor(share)} bytes`,
            retryAfterS,
          )
        put(key, bytes)
      }
      bytesOnTheWay += bytes
      return isKept => {
        bytesOnTheWay -= bytes
        if (isFilling && !isKept) put(key, -bytes)
      }
    },
  }
}

function add(counts: Map<string, number>, key: string, bytes: number): void {
  const sum = (counts.get(key) ?? 0) + bytes
  if (sum === 0) counts.delete(key)
  else counts.set(key, sum)
}
