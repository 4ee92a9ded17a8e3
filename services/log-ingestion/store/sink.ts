// What one sink does in a commit. The transaction, its range and its counts are commit.ts's; which sink runs is nothing it
// has to know.

import type { JournalPosition } from '#platform/journal'
import type { Tx } from '#platform/postgres'
import { levelAt } from '../level.ts'
import { type LogRecord, RowWalk } from '../record.ts'

/** A request as the journal gives it back. */
export interface PendingRecord {
  record: LogRecord
  segment: string
  from: number
  to: number
  /** It is a part of this one. */
  whole?: WholeRecord
}

/** A record that is stored in parts: its place, its rows, and how many of them are before the part. */
export interface WholeRecord {
  from: number
  to: number
  rows: number
  rowsBefore: number
}

/** Where the journal is read from to go on behind it: a part's record has to be read again. */
export function boundaryBehind({ segment, to, record, whole }: PendingRecord): JournalPosition {
  const isLast = whole === undefined || whole.rowsBefore + record.rows === whole.rows
  return { segment, offset: isLast ? to : whole.from }
}

/** The rows of some records, in order. */
export interface RowsToStore {
  records: readonly PendingRecord[]
  /** One per row, ascending. */
  ids: BigInt64Array
  /** Rows that are to be stored; undefined: all. */
  keeps?: (index: number) => boolean
}

export interface Sink {
  readonly kind: 'rows' | 'columnar'
  /** Encodes, and makes what has to be there before the rows: partitions, columns. Outside the transaction, so that the
   *  database does not wait for us with locks held; may be done again for every attempt. */
  prepare(rows: RowsToStore): Promise<PreparedRows>
  /** Forgets what is known to be there: somebody may have dropped it. */
  forget(): void
}

export interface PreparedRows {
  write(tx: Tx): Promise<void>
  /** What locks rows that other batches lock too; called when it is this batch's turn. */
  link(tx: Tx): Promise<void>
  /** Sums over these rows, where encoding gave them for free. */
  totals: readonly TotalRows[] | undefined
}

/** Rows of one hour of the events' own time. */
export interface TotalRows {
  tenant: string
  /** Hours since 1970. */
  hour: number
  service: string
  level: string
  rows: bigint
}

export function eachRow(
  { records, ids, keeps }: RowsToStore,
  visit: (walk: RowWalk, id: bigint, pending: PendingRecord, rowInRecord: number, index: number) => void,
): void {
  let index = 0
  for (const pending of records) {
    const walk = new RowWalk(pending.record)
    for (let row = 0; walk.next(); row++, index++)
      if (keeps === undefined || keeps(index)) visit(walk, ids[index] as bigint, pending, row, index)
  }
}

export function totalsOf(rows: RowsToStore): TotalRows[] {
  const sums = new Map<string, TotalRows>()
  eachRow(rows, (walk, _, { record }) => {
    const hour = Math.floor(walk.seconds / 3_600)
    const { service } = walk
    const id = `${record.tenant}\0${hour}\0${walk.level}\0${service}`
    const sum = sums.get(id)
    if (sum) sum.rows += 1n
    else sums.set(id, { tenant: record.tenant, hour, service, level: levelAt(walk.level), rows: 1n })
  })
  return [...sums.values()]
}
