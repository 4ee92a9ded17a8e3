// Journal rows in PostgreSQL's binary COPY format: slices go from the journal to the socket without becoming strings.

import { Buffer } from 'node:buffer'
import { levels } from '../../level.ts'
import type { RowWalk } from '../../record.ts'

export const logColumns = ['id', 'timestamp', 'service', 'level', 'message', 'metadata', 'created_at'] as const

const chunkBytes = 256 * 1024
const signature = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1')
const levelBytes = levels.map(level => Buffer.from(level))
const postgresEpochSeconds = 946_684_800
/** Everything of a row but its service, level, message, metadata and tenant. */
const fixedRowBytes = 2 + 8 * 4 + 3 * 8 + 1

/** Encodes rows as they are added; `chunks` are fresh buffers, since the driver keeps them until they are sent. */
export class BinaryRows {
  readonly #hasTenant: boolean
  readonly #chunks: Buffer[] = []
  #chunk = Buffer.allocUnsafe(chunkBytes)
  #at: number
  count = 0

  constructor(o: { hasTenant: boolean }) {
    this.#hasTenant = o.hasTenant
    this.#at = signature.copy(this.#chunk)
  }

  get columns(): readonly string[] {
    return this.#hasTenant ? [...logColumns, 'tenant'] : logColumns
  }

  add(walk: RowWalk, id: bigint, receivedUs: bigint, tenant: string | null): void {
    const tenantBytes = tenant === null ? null : Buffer.from(tenant)
    this.#reserve(fixedRowBytes + (walk.end - walk.serviceFrom) + 8 + (tenantBytes?.length ?? 0))
    const chunk = this.#chunk
    let at = this.#at
    at = chunk.writeInt16BE(this.#hasTenant ? 8 : 7, at)
    at = chunk.writeInt32BE(8, at)
    at = chunk.writeBigInt64BE(id, at)
    at = chunk.writeInt32BE(8, at)
    at = writeTimestamp(chunk, at, walk.seconds, walk.nanos)
    at = writeSlice(chunk, at, walk.payload, walk.serviceFrom, walk.messageFrom)
    const level = levelBytes[walk.level] as Buffer
    at = writeSlice(chunk, at, level, 0, level.length)
    at = writeSlice(chunk, at, walk.payload, walk.messageFrom, walk.metadataFrom)
    if (walk.hasMetadata) {
      at = chunk.writeInt32BE(walk.end - walk.metadataFrom + 1, at)
      chunk[at++] = 1 // version of jsonb's binary form: the text follows
      at += walk.payload.copy(chunk, at, walk.metadataFrom, walk.end)
    } else at = chunk.writeInt32BE(-1, at)
    at = chunk.writeInt32BE(8, at)
    at = chunk.writeBigInt64BE(receivedUs - BigInt(postgresEpochSeconds) * 1_000_000n, at)
    if (this.#hasTenant) {
      if (tenantBytes === null) at = chunk.writeInt32BE(-1, at)
      else at = writeSlice(chunk, at, tenantBytes, 0, tenantBytes.length)
    }
    this.#at = at
    this.count++
  }

  /** The whole stream; the rows object is done afterwards. */
  finish(): readonly Uint8Array[] {
    this.#reserve(2)
    this.#at = this.#chunk.writeInt16BE(-1, this.#at)
    this.#chunks.push(this.#chunk.subarray(0, this.#at))
    return this.#chunks
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#chunk.length) return
    this.#chunks.push(this.#chunk.subarray(0, this.#at))
    this.#chunk = Buffer.allocUnsafe(Math.max(chunkBytes, bytes))
    this.#at = 0
  }
}

function writeSlice(target: Buffer, at: number, source: Buffer, from: number, to: number): number {
  at = target.writeInt32BE(to - from, at)
  return at + source.copy(target, at, from, to)
}

/** Microseconds since 2000, floored: what timestamptz holds. */
function writeTimestamp(target: Buffer, at: number, seconds: number, nanos: number): number {
  const us = (seconds - postgresEpochSeconds) * 1_000_000 + Math.floor(nanos / 1_000)
  if (!Number.isSafeInteger(us))
    return target.writeBigInt64BE(
      BigInt(seconds - postgresEpochSeconds) * 1_000_000n + BigInt(Math.floor(nanos / 1_000)),
      at,
    )
  const high = Math.floor(us / 4_294_967_296)
  at = target.writeInt32BE(high, at)
  return target.writeUInt32BE(us - high * 4_294_967_296, at)
}
