// Where something lies in a journal: a segment and a byte offset in its file, ordered by both.

import { randomBytes } from 'node:crypto'

export interface JournalPosition {
  /** UUIDv7. Later segments have greater ids: the generator below never goes back, even when the clock does. */
  segment: string
  /** Bytes from the start of the segment's file. */
  offset: number
}

/** Negative, zero or positive, for sorting. */
export function comparePositions(a: JournalPosition, b: JournalPosition): number {
  if (a.segment !== b.segment) return a.segment < b.segment ? -1 : 1
  return a.offset - b.offset
}

export function isSegmentId(text: string): boolean {
  return /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(text)
}

/** A new id greater than `after`, whatever the clock says. Random otherwise, so that a data folder restored from a
 *  snapshot, or copied to another machine, never gives two different pieces of data the same position. */
export function nextSegmentId(nowMs: number, after: string | undefined): string {
  const ms = Math.max(nowMs, after === undefined ? 0 : segmentMs(after) + 1)
  const bytes = randomBytes(16)
  bytes.writeUIntBE(ms, 0, 6)
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f)
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f)
  return segmentIdFrom(bytes)
}

/** When it was begun; after a step of the clock a little later than that. */
export function segmentBegunMs(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
}

export function segmentIdFrom(bytes: Buffer): string {
  const hex = bytes.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

export function segmentIdBytes(id: string): Buffer {
  return Buffer.from(id.replaceAll('-', ''), 'hex')
}

function segmentMs(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
}
