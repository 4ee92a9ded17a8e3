// A journal that fills is shared: from half full on, each key may add at most its equal part of what is left, so that one
// flood does not take the room of the others. A part is kept back for keys that have nothing in it yet.

import { JournalFull } from '#platform/journal'
import type { Backlog } from './backlog.ts'

export interface JournalShares {
  /** @throws JournalFull: this key has had its share */
  claim(key: string, bytes: number): void
}

/** Of the second half, for newcomers. */
const keptBack = 1 / 16
const retryAfterS = 5

export function createJournalShares(o: {
  /** Bytes that wait. */
  journalBytes: () => number
  bytesMax: number
  backlog: Pick<Backlog, 'journalBytesOf' | 'keys'>
}): JournalShares {
  const half = o.bytesMax / 2
  /** Claimed since the journal was last half empty. */
  const claimed = new Map<string, number>()
  return {
    claim(key, bytes) {
      if (o.journalBytes() <= half) {
        claimed.clear()
        return
      }
      const before = claimed.get(key) ?? 0
      const keys = o.backlog.keys + (o.backlog.journalBytesOf(key) === 0 ? 1 : 0)
      const share = (half * (1 - keptBack)) / Math.max(1, keys)
      if (before > 0 && before + bytes > share)
        throw new JournalFull(
          `the journal is more than half full and this key holds its share of the rest, ${Math.floor(share)} bytes`,
          retryAfterS,
        )
      claimed.set(key, before + bytes)
    },
  }
}
