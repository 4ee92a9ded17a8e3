// Whose rows wait in the journal: per key, tenant and hour of acceptance, for the ledger, quotas and the shares of a
// filling journal. Knows what was accepted in this life of the process; what an earlier one left is in the totals only.

import { comparePositions, type JournalPosition } from '#platform/journal'
import type { RecordHeader } from '../record.ts'
import type { PendingRecord } from '../store/sink.ts'
import type { AcceptedRecord } from './acceptance.ts'

export interface PendingHour {
  key: string
  tenant: string
  hourMs: number
  rows: number
  /** UTF-8 bytes of the entries, as usage counts them. */
  bytes: number
}

export interface Backlog {
  accepted(accepted: AcceptedRecord, header: Pick<RecordHeader, 'key' | 'tenant'>): void
  committed(records: readonly PendingRecord[]): void
  /** Most have no more than a few. */
  pending(): PendingHour[]
  /** Bytes of the journal that this key holds. */
  journalBytesOf(key: string): number
  /** Keys that hold some. */
  readonly keys: number
}

const hourMs = 3_600_000

/** `begin` is the end of the journal when this life began. */
export function createBacklog(begin: JournalPosition): Backlog {
  const hours = new Map<string, PendingHour>()
  const journalBytes = new Map<string, number>()

  const add = (
    header: Pick<RecordHeader, 'key' | 'tenant'> & { receivedUs: bigint },
    rows: number,
    bytes: number,
    inJournal: number,
  ) => {
    const { key, tenant, receivedUs } = header
    const hour = Math.floor(Number(receivedUs / 1_000n) / hourMs) * hourMs
    const id = `${key}\0${tenant}\0${hour}`
    const item = hours.get(id) ?? { key, tenant, hourMs: hour, rows: 0, bytes: 0 }
    item.rows += rows
    item.bytes += bytes
    if (item.rows <= 0) hours.delete(id)
    else hours.set(id, item)
    const held = (journalBytes.get(key) ?? 0) + inJournal
    if (held <= 0) journalBytes.delete(key)
    else journalBytes.set(key, held)
  }

  return {
    accepted({ rows, receivedUs, payload, accountedBytes }, header) {
      add({ ...header, receivedUs }, rows, accountedBytes, payload.length)
    },
    committed(records) {
      for (const { record, segment, from } of records)
        if (comparePositions({ segment, offset: from }, begin) >= 0)
          add(record, -record.rows, -record.accountedBytes, -record.payload.length)
    },
    pending: () => [...hours.values()],
    journalBytesOf: key => journalBytes.get(key) ?? 0,
    get keys() {
      return journalBytes.size
    },
  }
}
