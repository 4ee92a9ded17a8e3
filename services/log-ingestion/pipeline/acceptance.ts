// The moment of acceptance: rows become a journal record, the record is on disk, then the sender hears of it.
//
// Records carry the running total of rows before them. It has to survive restarts, and reading the whole journal for it
// at each start would take long, so a small file notes position and total about once a second; at start only what follows
// that position is read. The file is a shortcut and nothing else: without it everything there is gets counted.

import { randomUUID } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Journal, JournalPosition } from '#platform/journal'
import type { Logger } from '#platform/telemetry'
import { type RecordBuilder, type RecordHeader, readRecord } from '../record.ts'

export interface Accepted {
  segment: string
  from: number
  to: number
  rows: number
  receivedUs: bigint
  payload: Buffer
}

export interface Acceptance {
  /** Rows ever accepted by this replica. */
  readonly rows: bigint
  /** What was known of committed rows when the total was noted; the writer knows better once it runs. */
  readonly committedRowsHint: bigint
  /** Resolves when the rows are on disk. @throws what journal.append throws, and then nothing was accepted */
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

export async function openAcceptance(o: {
  journal: Journal
  dir: string
  log: Logger
  committedRows: () => bigint | undefined
  /** Right after each append, in the order of the journal. */
  onAccepted: (accepted: Accepted, header: Omit<RecordHeader, 'rowsBefore'>) => void
}): Promise<Acceptance> {
  const { journal, log } = o
  const file = join(o.dir, 'accepted.json')
  const note = await readNote(file)
  const counted = await countFrom(journal, note)
  const committedRowsHint = BigInt(note?.committedRows ?? counted.firstRows ?? 0n)
  let rows = counted.rows
  let end: JournalPosition = journal.end
  /** Of appends that are on their way to the disk. */
  let rowsInFlight = 0
  let notedRows = note === null ? -1n : rows
  let writing: Promise<void> = Promise.resolve()

  const writeNote = () => {
    if (rows === notedRows) return
    notedRows = rows
    const content: Note = {
      segment: end.segment,
      offset: end.offset,
      rows: String(rows),
      committedRows: String(o.committedRows() ?? committedRowsHint),
    }
    writing = writing
      .then(() => replaceFile(file, JSON.stringify(content)))
      .catch(error =>
        log.debug({ err: error }, 'the total of accepted rows was not noted; the next start counts a little more'),
      )
  }
  const noting = setInterval(writeNote, noteEveryMs)
  noting.unref()

  return {
    get rows() {
      return rows
    },
    committedRowsHint,
    async accept(builder, header) {
      const count = builder.rows
      const payload = builder.finish({ ...header, rowsBefore: rows + BigInt(rowsInFlight) })
      rowsInFlight += count
      try {
        const { segment, from, to } = await journal.append(payload)
        rows += BigInt(count)
        end = { segment, offset: to }
        const accepted = { segment, from, to, rows: count, receivedUs: header.receivedUs, payload }
        o.onAccepted(accepted, header)
        return accepted
      } finally {
        rowsInFlight -= count
      }
    },
    async close() {
      clearInterval(noting)
      writeNote()
      await writing
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
