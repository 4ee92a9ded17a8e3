// The journal record: one accepted request. See the layout below; readers take slices and parse nothing.
//
//   u8 type = 1 · u8 version = 1 · u64 rows of this replica before this record · u16 flags · u8 protocol ·
//   u64 received µs · u32 rows · u32 accounted bytes · 16 B dedupe hash · three texts with a u8 length
//   (tenant slug, key, idempotency key) · rows
//   row: i64 seconds · u32 nanoseconds · u8 level · u8 service length · u32 message length · u32 metadata length
//        (all ones: none) · service · message · metadata
//   flags: 1 = set aside, see RecordHeader
//
// Numbers are little endian. A version this program does not know is refused, never guessed at.

import { Buffer } from 'node:buffer'
import { type BufferPool, noPool } from './buffer-pool.ts'
import { levels } from './level.ts'

const recordType = 1
const recordVersion = 1
const fixedHeaderBytes = 45
const headerBytesMax = fixedHeaderBytes + 3 * 256
const rowHeaderBytes = 22
const noMetadata = 0xffff_ffff
const flagSetAside = 1

/** Stored by index in journal records, so this list only ever grows at its end. */
export const protocols = [
  'native',
  'lines',
  'self',
  'loki',
  'elasticsearch',
  'otlp',
  'datadog',
  'syslog',
  'replay',
] as const
export type Protocol = (typeof protocols)[number]

export interface RecordHeader {
  /** Rows accepted by this replica before this record: lets a reader tell how many rows a damaged stretch held. */
  rowsBefore: bigint
  protocol: Protocol
  receivedUs: bigint
  /** Slug; immutable, so the journal can be read without the directory. */
  tenant: string
  /** Id of the key in the directory, or the name of a key from the environment. */
  key: string
  idempotencyKey: string
  /** SHA-256 of what makes a resend recognisable, first 16 bytes; all zero when the request does not take part. */
  dedupeHash: Uint8Array
  /** Its rows are no entries: what a protocol without partial answers could not use goes to quarantine. */
  isSetAside?: boolean
}

export const noDedupe: Uint8Array = new Uint8Array(16)

/** Collects rows in place; the header goes in front of them at the end. One per request in work. */
export class RecordBuilder {
  #bytes: Buffer
  #at = headerBytesMax
  #rows = 0
  #accountedBytes = 0

  readonly #pool: BufferPool

  constructor(capacity = 4_096, pool: BufferPool = noPool) {
    this.#pool = pool
    this.#bytes = pool.take(headerBytesMax + capacity)
  }

  get rows(): number {
    return this.#rows
  }

  /** Of the rows so far, in the journal. */
  get bytes(): number {
    return this.#at - headerBytesMax
  }

  /** UTF-8 bytes of service, level, message and metadata: what usage counts. */
  get accountedBytes(): number {
    return this.#accountedBytes
  }

  /** Drops the rows collected so far: the last duplicate of a key wins. */
  reset(): void {
    this.#at = headerBytesMax
    this.#rows = 0
    this.#accountedBytes = 0
  }

  /** Adds a row of slices; `metadata` null is SQL NULL. Texts are written as UTF-8. */
  row(seconds: number, nanos: number, level: number, service: Piece, message: Piece, metadata: Piece | null): void {
    const most = rowHeaderBytes + mostBytes(service) + mostBytes(message) + (metadata ? mostBytes(metadata) : 0)
    this.#reserve(most)
    const bytes = this.#bytes
    const head = this.#at
    const serviceAt = head + rowHeaderBytes
    const messageAt = write(bytes, serviceAt, service)
    const metadataAt = write(bytes, messageAt, message)
    const end = metadata ? write(bytes, metadataAt, metadata) : metadataAt
    if (messageAt - serviceAt > 255) throw new Error('BUG: a service name of more than 255 bytes reached the journal')
    writeI64(bytes, head, seconds)
    bytes.writeUInt32LE(nanos, head + 8)
    bytes[head + 12] = level
    bytes[head + 13] = messageAt - serviceAt
    bytes.writeUInt32LE(metadataAt - messageAt, head + 14)
    bytes.writeUInt32LE(metadata ? end - metadataAt : noMetadata, head + 18)
    this.#at = end
    this.#rows++
    this.#accountedBytes += end - serviceAt + (levelBytes[level] as number)
  }

  /**
   * Lets `change` look at the texts of each row in place and answer what to put instead of them, null for what stays.
   * Yields the bytes looked at so far. What a row counts is counted anew.
   */
  *rewrite(
    change: (bytes: Buffer, message: Stretch, metadata: Stretch | null) => Rewritten | null,
  ): Generator<number, void> {
    const bytes = this.#bytes
    const rows = this.#rows
    let next: RecordBuilder | null = null
    let accountedBytes = 0
    let at = headerBytesMax
    for (let row = 0; row < rows; row++) {
      const level = bytes[at + 12] as number
      const service = { bytes, from: at + rowHeaderBytes, to: at + rowHeaderBytes + (bytes[at + 13] as number) }
      const message = { bytes, from: service.to, to: service.to + bytes.readUInt32LE(at + 14) }
      const metadataBytes = bytes.readUInt32LE(at + 18)
      const metadata = metadataBytes === noMetadata ? null : { bytes, from: message.to, to: message.to + metadataBytes }
      const end = metadata?.to ?? message.to
      const changed = change(bytes, message, metadata)
      if (changed && next === null) {
        next = new RecordBuilder(bytes.length - headerBytesMax, this.#pool)
        bytes.copy(next.#bytes, headerBytesMax, headerBytesMax, at)
        next.#at = at
        next.#rows = row
        next.#accountedBytes = accountedBytes
      }
      if (next) {
        const seconds = bytes.readInt32LE(at + 4) * 4_294_967_296 + bytes.readUInt32LE(at)
        const nanos = bytes.readUInt32LE(at + 8)
        next.row(seconds, nanos, level, service, changed?.message ?? message, changed?.metadata ?? metadata)
      } else accountedBytes += end - service.from + (levelBytes[level] as number)
      at = end
      yield at - headerBytesMax
    }
    if (next === null) return
    // What was there before stays nowhere in memory that is written out.
    this.#pool.give(bytes)
    this.#bytes = next.#bytes
    this.#at = next.#at
    this.#accountedBytes = next.#accountedBytes
  }

  /** The payload of the journal record, until `free`. Nothing may be added any more. */
  finish(header: RecordHeader): Buffer {
    const texts = [header.tenant, header.key, header.idempotencyKey].map(text => Buffer.from(text))
    const start = headerBytesMax - fixedHeaderBytes - texts.reduce((sum, text) => sum + 1 + text.length, 0)
    const bytes = this.#bytes
    bytes[start] = recordType
    bytes[start + 1] = recordVersion
    bytes.writeBigUInt64LE(header.rowsBefore, start + 2)
    bytes.writeUInt16LE(header.isSetAside === true ? flagSetAside : 0, start + 10)
    bytes[start + 12] = protocols.indexOf(header.protocol)
    bytes.writeBigUInt64LE(header.receivedUs, start + 13)
    bytes.writeUInt32LE(this.#rows, start + 21)
    bytes.writeUInt32LE(this.#accountedBytes, start + 25)
    bytes.set(header.dedupeHash.subarray(0, 16), start + 29)
    let at = start + 45
    for (const text of texts) {
      if (text.length > 255) throw new Error('BUG: a header text of more than 255 bytes reached the journal')
      bytes[at++] = text.length
      at += text.copy(bytes, at)
    }
    return bytes.subarray(start, this.#at)
  }

  /** Nobody needs the rows or the payload any more. Only the first call counts. */
  free(): void {
    this.#pool.give(this.#bytes)
    this.#bytes = freed
  }

  #reserve(count: number): void {
    if (this.#at + count <= this.#bytes.length) return
    const grown = this.#pool.take(Math.max(this.#bytes.length * 2, this.#at + count))
    this.#bytes.copy(grown, 0, 0, this.#at)
    this.#pool.give(this.#bytes)
    this.#bytes = grown
  }
}

const freed = Buffer.alloc(0)

export interface Stretch {
  from: number
  to: number
}

/** Null: stays as it is. */
export interface Rewritten {
  message: string | null
  metadata: string | null
}

/** Bytes of the request where nothing had to change, text where something did. */
export type Piece = string | { bytes: Buffer; from: number; to: number }

function mostBytes(piece: Piece): number {
  return typeof piece === 'string' ? piece.length * 3 : piece.to - piece.from
}

function write(target: Buffer, at: number, piece: Piece): number {
  if (typeof piece === 'string') return at + target.write(piece, at)
  const { bytes, from, to } = piece
  // Short copies are quicker in a loop than through a call into native code.
  if (to - from < 24) for (let i = from; i < to; i++) target[at++] = bytes[i] as number
  else at += bytes.copy(target, at, from, to)
  return at
}

function writeI64(target: Buffer, at: number, value: number): void {
  const high = Math.floor(value / 4_294_967_296)
  target.writeUInt32LE(value - high * 4_294_967_296, at)
  target.writeInt32LE(high, at + 4)
}

const levelBytes = levels.map(level => level.length)

export class RecordError extends Error {}

/** A record as read back: the header as values, the rows through a walk over the payload. */
export interface LogRecord extends RecordHeader {
  rows: number
  accountedBytes: number
  payload: Buffer
  rowsAt: number
}

/** Without reading the rest: asked for each record that is accepted. */
export function rowsBeforeOf(payload: Buffer): bigint {
  return payload.readBigUInt64LE(2)
}

export function readRecord(payload: Buffer): LogRecord {
  if (payload.length < fixedHeaderBytes + 1) throw new RecordError(`a record of ${payload.length} bytes is too short`)
  if (payload[0] !== recordType || payload[1] !== recordVersion)
    throw new RecordError(
      `record type ${payload[0]} version ${payload[1]} was written by a newer program; upgrade this one`,
    )
  const protocol = protocols[payload[12] as number]
  if (protocol === undefined) throw new RecordError(`protocol ${payload[12]} was written by a newer program`)
  const texts: string[] = []
  let at = 45
  for (let i = 0; i < 3; i++) {
    const length = payload[at]
    if (length === undefined || at + 1 + length > payload.length)
      throw new RecordError('a header text runs past the end')
    texts.push(payload.toString('utf8', at + 1, at + 1 + length))
    at += 1 + length
  }
  const [tenant = '', key = '', idempotencyKey = ''] = texts
  return {
    rowsBefore: payload.readBigUInt64LE(2),
    isSetAside: (payload.readUInt16LE(10) & flagSetAside) !== 0,
    protocol,
    receivedUs: payload.readBigUInt64LE(13),
    rows: payload.readUInt32LE(21),
    accountedBytes: payload.readUInt32LE(25),
    dedupeHash: payload.subarray(29, 45),
    tenant,
    key,
    idempotencyKey,
    payload,
    rowsAt: at,
  }
}

/** The bytes before the rows, for some of them: record-parts.ts. */
export function recordHead(
  { payload, rowsAt }: LogRecord,
  o: { rowsBefore: bigint; rows: number; accountedBytes: number },
): Buffer {
  const head = Buffer.from(payload.subarray(0, rowsAt))
  head.writeBigUInt64LE(o.rowsBefore, 2)
  head.writeUInt32LE(o.rows, 21)
  head.writeUInt32LE(o.accountedBytes, 25)
  return head
}

/** Walks the rows of a record; the fields describe the row that `next()` moved to. */
export class RowWalk {
  readonly payload: Buffer
  seconds = 0
  nanos = 0
  level = 0
  serviceFrom = 0
  messageFrom = 0
  metadataFrom = 0
  /** End of the row; also of its metadata. */
  end: number
  hasMetadata = false
  readonly #record: LogRecord
  #left: number

  constructor(record: LogRecord) {
    this.#record = record
    this.payload = record.payload
    this.end = record.rowsAt
    this.#left = record.rows
  }

  next(): boolean {
    const { payload } = this
    const at = this.end
    if (this.#left === 0) {
      if (at !== payload.length) throw new RecordError(`${payload.length - at} bytes follow the last row`)
      return false
    }
    if (at + rowHeaderBytes > payload.length)
      throw new RecordError(`row ${this.#record.rows - this.#left} runs past the end`)
    this.#left--
    this.seconds = payload.readInt32LE(at + 4) * 4_294_967_296 + payload.readUInt32LE(at)
    this.nanos = payload.readUInt32LE(at + 8)
    this.level = payload[at + 12] as number
    this.serviceFrom = at + rowHeaderBytes
    this.messageFrom = this.serviceFrom + (payload[at + 13] as number)
    this.metadataFrom = this.messageFrom + payload.readUInt32LE(at + 14)
    const metadataBytes = payload.readUInt32LE(at + 18)
    this.hasMetadata = metadataBytes !== noMetadata
    this.end = this.metadataFrom + (this.hasMetadata ? metadataBytes : 0)
    if (this.end > payload.length || this.level >= levels.length)
      throw new RecordError(`row ${this.#record.rows - this.#left - 1} is not readable`)
    return true
  }

  get service(): string {
    return this.payload.toString('utf8', this.serviceFrom, this.messageFrom)
  }

  get message(): string {
    return this.payload.toString('utf8', this.messageFrom, this.metadataFrom)
  }

  get metadata(): string | null {
    return this.hasMetadata ? this.payload.toString('utf8', this.metadataFrom, this.end) : null
  }
}
