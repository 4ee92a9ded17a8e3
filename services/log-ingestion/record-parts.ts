// A record that is too large for one commit, in parts: records of their own, each with a copy of its rows. Cut one after
// the other, so that no more than the parts in work are in memory twice.
//
// Ranges of the journal are kept in bytes. Inside a record a place is its first byte plus a number of rows, which are always
// fewer than its bytes: a part is a range like any other, and from where it ends follows how many rows are stored.

import { Buffer } from 'node:buffer'
import { levelAt } from './level.ts'
import { type LogRecord, RowWalk, readRecord, recordHead } from './record.ts'

export interface RecordParts {
  readonly rowsLeft: number
  readonly bytesLeft: number
  /** The next rows, one at least. */
  next(rowsMax: number, bytesMax: number): RecordPart
}

export interface RecordPart {
  record: LogRecord
  /** Rows of the whole before it. */
  rowsBefore: number
}

/** `skip`: rows that are stored already. */
export function cutRecord(record: LogRecord, skip: number): RecordParts {
  const walk = new RowWalk(record)
  for (let i = 0; i < skip; i++) walk.next()
  let done = skip
  /** Of the rows that are done. */
  let end = walk.end
  /** The walk has moved to a row that did not fit. */
  let isAhead = false

  return {
    get rowsLeft() {
      return record.rows - done
    },
    get bytesLeft() {
      return done === record.rows ? 0 : record.rowsAt + record.payload.length - end
    },
    next(rowsMax, bytesMax) {
      const [from, rowsBefore] = [end, done]
      let accountedBytes = 0
      while (done < record.rows && done - rowsBefore < rowsMax) {
        if (!isAhead) walk.next()
        isAhead = done > rowsBefore && walk.end - from > bytesMax
        if (isAhead) break
        accountedBytes += walk.end - walk.serviceFrom + levelAt(walk.level).length
        end = walk.end
        done++
      }
      const head = recordHead(record, {
        rowsBefore: record.rowsBefore + BigInt(rowsBefore),
        rows: done - rowsBefore,
        accountedBytes,
      })
      return { record: readRecord(Buffer.concat([head, record.payload.subarray(from, end)])), rowsBefore }
    },
  }
}
