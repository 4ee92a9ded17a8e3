// The moment of acceptance: rows become a journal record, the record is on disk, then the sender hears of it.
//
// The running total in a record must be exact: it is what a damaged stretch is counted by. A total can only be written once
// it is known which records before it were kept, so requests gather here while a group is on its way to the disk, and go
// as the next group, which the journal keeps whole or refuses whole. Who sends much does not make others wait for it: a
// group takes equal bytes of each key.
//
// Records carry the running total of rows before them. It has to survive restarts, and reading the whole journal for it
// at each start would take long, so a small file notes position and total about once a second; at start only what follows
// that position is read. The file is a shortcut and nothing else: without it everything there is gets counted.

import { randomUUID } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Journal, JournalClosed, JournalFull, type JournalPosition } from '#platform/journal'
import { frameHeaderBytes } from '#platform/journal/frame'
import type { Logger } from '#platform/telemetry'
import { type RecordBuilder, type RecordHeader, readRecord } from '../record.ts'
import { createFairQueue } from './fair-queue.ts'

export interface Accepted {
  segment: string
  from: number
  to: number
  rows: number
  /** UTF-8 bytes of the entries. */
  accountedBytes: number
  receivedUs: bigint
}

/** With what the journal holds of it: the bytes are used again right afterwards. */
export interface AcceptedRecord extends Accepted {
  payload: Buffer
}

export interface Acceptance {
  /** Rows ever accepted by this replica. */
  readonly rows: bigint
  /** What was known of committed rows when the total was noted; the writer knows better once it runs. */
  readonly committedRowsHint: bigint
  /** Resolves when the rows are on disk; the builder is freed, whatever comes of it. @throws what journal.append throws, and then nothing was accepted */
  accept(builder: RecordBuilder, header: Omit<RecordHeader, 'rowsBefore'>): Promise<Accepted>
  close(): Promise<void>
}

interface Note {
  segment: string
  offset: number
  rows: string
  committedRows: string
}

const noteEveryMs = 1_000
/** Whoever answers knows the speed of the writer and says better. */
const journalFullRetryS = 5

/** One group of the journal: less than it writes at once, so that a group here is never two groups there. */
export const groupBytesMax = 6 * 1024 * 1024
const groupCountMax = 8_192
/** What a record is at most beside its rows, nearly: what there is to know about its sender. */
const recordHeadBytes = 512
/** Requests waiting for the disk; more are refused. Their bytes are bounded by the intake. */
const waitingMax = 65_536

interface Waiting {
  builder: RecordBuilder
  header: Omit<RecordHeader, 'rowsBefore'>
  resolve: (accepted: Accepted) => void
  reject: (error: unknown) => void
}

export async function openAcceptance(o: {
  journal: Journal
  /** Of the journal. */
  bytesMax: number
  dir: string
  log: Logger
  committedRows: () => bigint | undefined
  /** The function it returns is told in the end whether they were kept. @throws JournalFull: this key holds as much of a
   *  filling journal as it may */
  claim: (key: string, bytes: number) => (isKept: boolean) => void
  /** Right after each append, in the order of the journal. */
  onAccepted: (accepted: AcceptedRecord, header: Omit<RecordHeader, 'rowsBefore'>) => void
}): Promise<Acceptance> {
  const { journal, log } = o
  const file = join(o.dir, 'accepted.json')
  const note = await readNote(file)
  const counted = await countFrom(journal, note)
  const committedRowsHint = BigInt(note?.committedRows ?? counted.firstRows ?? 0n)
  let rows = counted.rows
  let end: JournalPosition = journal.end
  const waiting = createFairQueue<Waiting>()
  let isWriting = false
  let isClosed = false
  let notedRows = note === null ? -1n : rows
  let noteWritten: Promise<void> = Promise.resolve()

  const writeNote = () => {
    if (rows === notedRows) return
    notedRows = rows
    const content: Note = {
      segment: end.segment,
      offset: end.offset,
      rows: String(rows),
      committedRows: String(o.committedRows() ?? committedRowsHint),
    }
    noteWritten = noteWritten
      .then(() => replaceFile(file, JSON.stringify(content)))
      .catch(error =>
        log.debug({ err: error }, 'the total of accepted rows was not noted; the next start counts a little more'),
      )
  }
  const noting = setInterval(writeNote, noteEveryMs)
  noting.unref()

  const writeGroups = async () => {
    isWriting = true
    // Requests of the same run of the event loop share the first group, as later ones share theirs.
    await null
    while (waiting.length > 0) await Promise.all(appendGroup())
    isWriting = false
  }

  const appendGroup = (): Promise<void>[] => {
    const appends: Promise<void>[] = []
    let before = rows
    let bytes = 0
    for (const { builder, header, resolve, reject } of waiting.take(groupBytesMax, groupCountMax)) {
      const { rows: added, accountedBytes } = builder
      const payload = builder.finish({ ...header, rowsBefore: before })
      const frameBytes = frameHeaderBytes + payload.length
      // Refused here, where the total still knows nothing of it; the journal would do the same a moment later.
      if (journal.bytes + bytes + frameBytes > o.bytesMax) {
        reject(new JournalFull(`${journal.bytes} of ${o.bytesMax} bytes wait for the database`, journalFullRetryS))
        continue
      }
      bytes += frameBytes
      before += BigInt(added)
      appends.push(
        journal.append(payload).then(({ segment, from, to }) => {
          rows += BigInt(added)
          end = { segment, offset: to }
          const accepted = { segment, from, to, rows: added, accountedBytes, receivedUs: header.receivedUs }
          o.onAccepted({ ...accepted, payload }, header)
          resolve(accepted)
        }, reject),
      )
    }
    return appends
  }

  return {
    get rows() {
      return rows
    },
    committedRowsHint,
    accept(builder, header) {
      let settle: (isKept: boolean) => void
      try {
        if (isClosed) throw new JournalClosed()
        if (waiting.length >= waitingMax)
          throw new JournalFull(`${waiting.length} requests wait for the disk already`, 1)
        settle = o.claim(header.key, builder.bytes)
      } catch (error) {
        builder.free()
        return Promise.reject(error)
      }
      return new Promise((resolve, reject) => {
        waiting.push(header.key, builder.bytes + recordHeadBytes, {
          builder,
          header,
          resolve(accepted) {
            builder.free()
            settle(true)
            resolve(accepted)
          },
          reject(error) {
            builder.free()
            settle(false)
            reject(error)
          },
        })
        if (!isWriting) void writeGroups()
      })
    },
    async close() {
      isClosed = true
      clearInterval(noting)
      // What waits goes with the group after the one that is being written.
      while (isWriting) await new Promise(resolve => setImmediate(resolve))
      writeNote()
      await noteWritten
    },
  }
}

async function readNote(file: string): Promise<Note | null> {
  try {
    const note: unknown = JSON.parse(await readFile(file, 'utf8'))
    return isNote(note) ? note : null
  } catch {
    return null
  }
}

function isNote(note: unknown): note is Note {
  if (typeof note !== 'object' || note === null) return false
  const { segment, offset, rows, committedRows } = note as Record<string, unknown>
  return (
    typeof segment === 'string' &&
    typeof offset === 'number' &&
    [rows, committedRows].every(count => typeof count === 'string' && /^\d{1,19}$/.test(count))
  )
}

async function countFrom(
  journal: Journal,
  note: Note | null,
): Promise<{ rows: bigint; firstRows: bigint | undefined }> {
  let position: JournalPosition | null = note && { segment: note.segment, offset: note.offset }
  let rows = BigInt(note?.rows ?? 0)
  let firstRows: bigint | undefined
  for (;;) {
    const { batches, next } = await journal.read(position, { bytesMax: 8 * 1024 * 1024 }).catch(error => {
      // Beyond the end: the folder was replaced. What is there counts.
      if (error instanceof RangeError && position !== null) return { batches: [], next: null }
      throw error
    })
    if (next === null) return await countFrom(journal, null)
    for (const { payload } of batches) {
      const record = readRecord(payload)
      firstRows ??= record.rowsBefore
      const behind = record.rowsBefore + BigInt(record.rows)
      if (behind > rows) rows = behind
    }
    if (batches.length === 0) return { rows, firstRows }
    position = next
  }
}

async function replaceFile(file: string, content: string): Promise<void> {
  const temporary = `${file}.${randomUUID()}`
  await writeFile(temporary, content, { mode: 0o600 })
  await rename(temporary, file)
}
