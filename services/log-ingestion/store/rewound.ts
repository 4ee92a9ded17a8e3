// A journal folder that came back from a snapshot: the database holds ranges of segments that it never heard of. Segment ids
// are random and no life writes into a segment of another, so nothing is lost or repeated by that; only the running total
// goes back, and what lies beyond has to be left out of comparisons with it.

import type { JournalPosition } from '#platform/journal'
import { arrayLiteral, type Sql } from '#platform/postgres'
import type { StoredRange } from './commits.ts'

export interface JournalBegin {
  /** The end of the journal when this life began. */
  position: JournalPosition
  /** Rows ever accepted before it, by the journal. */
  rows: bigint
}

/** Rows per segment that are stored and lie beyond the journal; empty as a rule. Asked before this life commits anything.
 *  `rowsBefore` is the running total at the start of a stored range, from the journal. */
export async function rowsBeyond(
  stored: ReadonlyMap<string, readonly StoredRange[]>,
  { position, rows }: JournalBegin,
  rowsBefore: (position: JournalPosition) => Promise<bigint | undefined>,
): Promise<Map<string, bigint>> {
  const beyond = new Map<string, bigint>()
  const add = (segment: string, count: bigint) => {
    if (count > 0n) beyond.set(segment, (beyond.get(segment) ?? 0n) + count)
  }
  // A journal keeps its newest segment for ever: one that never accepted a row knows nothing of all that is stored.
  const isEmpty = rows === 0n
  for (const [segment, ranges] of stored) {
    if (segment < position.segment && !isEmpty) continue
    for (const range of ranges) {
      if (isEmpty || segment > position.segment || range.from >= position.offset) add(segment, BigInt(range.rows))
      else if (range.to > position.offset) {
        const before = await rowsBefore({ segment, offset: range.from })
        if (before !== undefined) add(segment, BigInt(range.rows) - (rows - before))
      }
    }
  }
  return beyond
}

/** Noted once: a second start before anything new is accepted finds the same. */
export async function noteRewound(sql: Sql, replica: string, beyond: ReadonlyMap<string, bigint>): Promise<void> {
  await sql`
    insert into purser_logs.rewound (replica, segment, rows)
    select ${replica}::uuid, * from unnest(${[...beyond.keys()]}::uuid[], ${arrayLiteral([...beyond.values()])}::int8[])
    on conflict do nothing`
}
