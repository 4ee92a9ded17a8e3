// What each output has taken, and the chunk it is being sent: tables `delivered` and `inflight`.

import type { DatabaseSync } from 'node:sqlite'
import { addRange, firstPosition, missingRanges, type Range, seqOf } from '../positions.ts'

export interface Inflight extends Range {
  bodySha256: Uint8Array
  attempts: number
  firstMs: number
}

export function openDelivery(db: DatabaseSync, output: string) {
  const remove = db.prepare('DELETE FROM delivered WHERE output = ? AND lo = ?')
  const insert = db.prepare('INSERT INTO delivered (output, lo, hi) VALUES (?, ?, ?)')
  const putInflight = db.prepare(
    `INSERT INTO inflight (output, lo, hi, body_sha256, attempts, first_ms) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (output) DO UPDATE SET lo = excluded.lo, hi = excluded.hi, body_sha256 = excluded.body_sha256,
     attempts = excluded.attempts, first_ms = excluded.first_ms`,
  )
  const clearInflight = db.prepare('DELETE FROM inflight WHERE output = ?')
  const freeze = db.prepare(
    'UPDATE epoch SET frozen = 1 WHERE frozen = 0 AND id IN (SELECT DISTINCT epoch FROM frame WHERE seq BETWEEN ? AND ?)',
  )
  const framesIn = db.prepare('SELECT seq, n FROM frame WHERE seq BETWEEN ? AND ? ORDER BY seq')

  let set: Range[] = db
    .prepare('SELECT lo, hi FROM delivered WHERE output = ? ORDER BY lo')
    .all(output)
    .map(row => ({ lo: Number(row.lo), hi: Number(row.hi) }))
  let inflight = loadInflight()

  function loadInflight(): Inflight | undefined {
    const row = db.prepare('SELECT lo, hi, body_sha256, attempts, first_ms FROM inflight WHERE output = ?').get(output)
    if (!row || !(row.body_sha256 instanceof Uint8Array)) return undefined
    return {
      lo: Number(row.lo),
      hi: Number(row.hi),
      bodySha256: row.body_sha256,
      attempts: Number(row.attempts),
      firstMs: Number(row.first_ms),
    }
  }

  return {
    output,
    get inflight(): Inflight | undefined {
      return inflight
    },
    /**
     * Ranges not taken yet among the frames `fromSeq`…`toSeq`, both inclusive; ranges may hold unused ordinals.
     * `also` counts as taken.
     */
    pending(fromSeq: number, toSeq: number, also?: Range): Range[] {
      return missingRanges(also ? addRange(set, also).set : set, {
        lo: firstPosition(fromSeq),
        hi: firstPosition(toSeq + 1),
      })
    },
    /** Real samples not taken yet: a walk over the pending frames, for start-up; afterwards counts are kept. */
    countPending(nextSeq: number): number {
      let samples = 0
      for (const range of this.pending(0, nextSeq)) {
        for (const row of framesIn.iterate(seqOf(range.lo), seqOf(range.hi - 1)))
          samples += overlap(range, firstPosition(Number(row.seq)), Number(row.n))
      }
      return samples
    },
    /** Inside a transaction, with `publish` after its commit: these positions are never sent again. */
    mark(range: Range): { publish(): void } {
      const next = addRange(set, range)
      for (const old of next.removed) remove.run(output, old.lo)
      insert.run(output, next.added.lo, next.added.hi)
      return {
        publish() {
          set = next.set
        },
      }
    },
    /** Inside a transaction: these positions wait again. */
    unmark(range: Range): { publish(): void } {
      const next = set.flatMap(taken => missingRanges([range], taken))
      db.prepare('DELETE FROM delivered WHERE output = ?').run(output)
      for (const { lo, hi } of next) insert.run(output, lo, hi)
      return {
        publish() {
          set = next
        },
      }
    },
    /** Inside a transaction: the exact range is on disk before its first attempt, and its epochs keep their offsets. */
    plan(next: Inflight): { publish(): void } {
      putInflight.run(output, next.lo, next.hi, next.bodySha256, next.attempts, next.firstMs)
      freeze.run(seqOf(next.lo), seqOf(next.hi - 1))
      return {
        publish() {
          inflight = next
        },
      }
    },
    unplan(): { publish(): void } {
      clearInflight.run(output)
      return {
        publish() {
          inflight = undefined
        },
      }
    },
  }
}

export type Delivery = ReturnType<typeof openDelivery>

/** How many of the `count` samples that start at `first` lie in the range. */
export function overlap(range: Range, first: number, count: number): number {
  return Math.max(0, Math.min(range.hi, first + count) - Math.max(range.lo, first))
}
