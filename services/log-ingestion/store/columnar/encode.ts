// A block: up to 16 384 rows of one tenant and UTC day, in (timestamp, id) order, as three sections.
//
//   head      fixed (rows, time scale, least id) · times · ids · acceptance times · levels · service names · services
//   messages  lengths · texts
//   metadata  shapes · shape of each row · one column per shape and value
//
// Times are deltas in the coarsest of ns, µs, ms that loses nothing; ids and acceptance times are signed deltas.

import { createHash } from 'node:crypto'
import { ByteWriter } from './bytes.ts'
import type { RowTable } from './row-table.ts'
import { packSection } from './section.ts'
import { ShapeMatcher } from './shapes.ts'
import { encodeFromMessage, encodeValues, Slices } from './value-column.ts'

export const blockRowsMax = 16_384

export interface EncodedBlock {
  rows: number
  /** Nanoseconds since the day began. */
  minNs: bigint
  maxNs: bigint
  minId: bigint
  maxId: bigint
  /** Bit n: some row has level number n. */
  levelMask: number
  services: string[]
  head: Buffer
  messages: Buffer
  metadata: Buffer
  bloom: Buffer | null
  /** UTF-8 bytes of messages and metadata before packing. */
  rawBytes: number
  sha256: Buffer
}

export interface EncodeOptions {
  /** Of zstd. */
  level: number
  /** Looks for values that repeat a part of their message: smaller, and slower to write. */
  isCold: boolean
}

/** Rows order[from, to) of the table. */
export function encodeBlock(
  table: RowTable,
  order: Uint32Array,
  from: number,
  to: number,
  { level, isCold }: EncodeOptions,
): EncodedBlock {
  const rows = to - from
  const head = encodeHead(table, order, from, to)
  const lengths = new ByteWriter(rows * 2)
  let messageBytes = 0
  for (let i = from; i < to; i++) {
    const row = order[i] as number
    const length = (table.messageTo[row] as number) - (table.messageFrom[row] as number)
    lengths.varint(length)
    messageBytes += length
  }
  const texts = new ByteWriter(Math.max(64, messageBytes))
  for (let i = from; i < to; i++) {
    const row = order[i] as number
    texts.copy(table.bytes, table.messageFrom[row] as number, table.messageTo[row] as number)
  }
  const metadata = encodeMetadata(table, order, from, to, isCold)
  const sections = {
    head: packSection('head', head.columns, level),
    messages: packSection('messages', [lengths.finish(), texts.finish()], level),
    metadata: packSection('metadata', metadata.columns, level),
  }
  return {
    rows,
    minNs: BigInt(table.nsOfDay[order[from] as number] as number),
    maxNs: BigInt(table.nsOfDay[order[to - 1] as number] as number),
    minId: table.idBase + BigInt(head.minId),
    maxId: table.idBase + BigInt(head.maxId),
    levelMask: head.levelMask,
    services: head.services,
    ...sections,
    bloom: null,
    rawBytes: messageBytes + metadata.rawBytes,
    sha256: contentHash(sections),
  }
}

/** Of what a block says, whatever is built around it. */
export function contentHash({
  head,
  messages,
  metadata,
}: {
  head: Buffer
  messages: Buffer
  metadata: Buffer
}): Buffer {
  return createHash('sha256').update(head).update(messages).update(metadata).digest()
}

function encodeHead(table: RowTable, order: Uint32Array, from: number, to: number) {
  const rows = to - from
  let scale = 1_000_000
  let minId = Number.POSITIVE_INFINITY
  let maxId = Number.NEGATIVE_INFINITY
  for (let i = from; i < to; i++) {
    const row = order[i] as number
    const ns = table.nsOfDay[row] as number
    while (ns % scale !== 0) scale /= 1_000
    const id = table.id[row] as number
    if (id < minId) minId = id
    if (id > maxId) maxId = id
  }
  const times = new ByteWriter(rows * 2)
  const ids = new ByteWriter(rows * 2)
  const created = new ByteWriter(rows * 2)
  const levels = new ByteWriter(rows)
  const serviceNumbers = new ByteWriter(rows)
  const numbers = new Map<number, number>()
  const services: string[] = []
  let levelMask = 0
  let lastTime = 0
  let lastId = minId - 1
  let lastCreated = 0
  for (let i = from; i < to; i++) {
    const row = order[i] as number
    const time = (table.nsOfDay[row] as number) / scale
    times.varint(time - lastTime)
    lastTime = time
    const id = table.id[row] as number
    ids.zigzag(id - lastId - 1)
    lastId = id
    const createdUs = table.createdUs[row] as number
    created.zigzag(createdUs - lastCreated)
    lastCreated = createdUs
    const level = table.level[row] as number
    levels.byte(level)
    levelMask |= 1 << level
    const service = table.service[row] as number
    let number = numbers.get(service)
    if (number === undefined) {
      number = services.length
      numbers.set(service, number)
      services.push(table.services[service] as string)
    }
    serviceNumbers.varint(number)
  }
  const names = new ByteWriter(256)
  names.varint(services.length)
  for (const service of services) names.text(service)
  const fixed = new ByteWriter(32)
  fixed.varint(rows)
  fixed.varint(scale)
  fixed.text(String(table.idBase + BigInt(minId)))
  const columns = [fixed, times, ids, created, levels, names, serviceNumbers].map(writer => writer.finish())
  return { columns, minId, maxId, levelMask, services }
}

function encodeMetadata(table: RowTable, order: Uint32Array, from: number, to: number, isCold: boolean) {
  const { bytes } = table
  const matcher = new ShapeMatcher()
  /** Per shape, per value; and the rows that have the shape, where messages are looked at. */
  const columns: Slices[][] = []
  const rowsOf: number[][] = []
  const shapeOfRow = new ByteWriter(to - from)
  let rawBytes = 0
  for (let i = from; i < to; i++) {
    const row = order[i] as number
    if (!table.hasMetadata(row)) {
      shapeOfRow.byte(0)
      continue
    }
    const start = table.metadataFrom[row] as number
    const end = table.metadataTo[row] as number
    rawBytes += end - start
    const shape = matcher.match(bytes, start, end)
    shapeOfRow.byte(shape + 1)
    let values = columns[shape]
    if (!values) {
      values = Array.from({ length: (matcher.shapes[shape]?.length ?? 1) - 1 }, () => new Slices())
      columns[shape] = values
      rowsOf[shape] = []
    }
    for (let v = 0; v < values.length; v++)
      (values[v] as Slices).push(matcher.froms[v] as number, matcher.tos[v] as number)
    if (isCold) rowsOf[shape]?.push(row)
  }
  const shapes = new ByteWriter(512)
  shapes.varint(matcher.shapes.length)
  for (const pieces of matcher.shapes) {
    shapes.varint(pieces.length)
    for (const piece of pieces) {
      shapes.varint(piece.length)
      shapes.copy(piece, 0, piece.length)
    }
  }
  const packed = [shapes.finish(), shapeOfRow.finish()]
  matcher.shapes.forEach((pieces, shape) => {
    for (let v = 0; v < pieces.length - 1; v++) {
      const values = columns[shape]?.[v] ?? new Slices()
      const plain = encodeValues(bytes, values)
      packed.push((isCold && repeated(table, rowsOf[shape] ?? [], values, plain)) || plain)
    }
  })
  return { columns: packed, rawBytes }
}

/** The column as places in the messages, where that is worth it: unique values of some length. */
function repeated(table: RowTable, rows: readonly number[], values: Slices, plain: Buffer): Buffer | null {
  if (plain.length < rows.length * 4) return null
  return encodeFromMessage(table.bytes, values, {
    bytes: table.bytes,
    from: n => table.messageFrom[rows[n] as number] as number,
    to: n => table.messageTo[rows[n] as number] as number,
  })
}
