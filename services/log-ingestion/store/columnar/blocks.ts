// The table of blocks: written by binary COPY, headers read as rows, sections in binary.

import { Buffer } from 'node:buffer'
import { copyBinary, copyOut, type Queryable, type Tx } from '#platform/postgres'
import type { FreshBlock } from './fresh.ts'

/** A block without its sections. Times are nanoseconds since its day began. */
export interface BlockHeader {
  id: bigint
  tenant: string
  /** Whole days since 1970. */
  day: number
  minNs: bigint
  maxNs: bigint
  minId: bigint
  maxId: bigint
  rows: number
  levelMask: number
  services: string[]
  sha256: Buffer
  generation: number
  hasBloom: boolean
}

const columns = [
  'tenant',
  'day',
  'min_ns',
  'max_ns',
  'min_id',
  'max_id',
  'rows',
  'level_mask',
  'services',
  'head',
  'messages',
  'metadata',
  'bloom',
  'raw_bytes',
  'sha256',
  'generation',
] as const
const signature = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1')
/** Days between 1970 and 2000, where PostgreSQL counts from. */
const postgresEpochDays = 10_957
const textOid = 25

export async function insertBlocks(tx: Tx, blocks: readonly FreshBlock[], generation: number): Promise<void> {
  if (blocks.length === 0) return
  await copyBinary(tx, { into: 'purser_logs.blocks', columns, chunks: encodeCopy(blocks, generation) })
}

function* encodeCopy(blocks: readonly FreshBlock[], generation: number): Generator<Uint8Array> {
  yield signature
  for (const block of blocks) {
    const count = Buffer.alloc(2)
    count.writeInt16BE(columns.length)
    yield Buffer.concat([
      count,
      field(Buffer.from(block.tenant)),
      field(int32(block.day - postgresEpochDays)),
      field(int64(block.minNs)),
      field(int64(block.maxNs)),
      field(int64(block.minId)),
      field(int64(block.maxId)),
      field(int32(block.rows)),
      field(int32(block.levelMask)),
      field(textArray(block.services)),
    ])
    for (const section of [block.head, block.messages, block.metadata]) {
      yield int32(section.length)
      yield section
    }
    const small = Buffer.alloc(2)
    small.writeInt16BE(generation)
    yield Buffer.concat([field(block.bloom), field(int64(BigInt(block.rawBytes))), field(block.sha256), field(small)])
  }
  yield Buffer.from([0xff, 0xff])
}

function field(bytes: Buffer | null): Buffer {
  return bytes === null ? int32(-1) : Buffer.concat([int32(bytes.length), bytes])
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

function int64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(value)
  return bytes
}

function textArray(texts: readonly string[]): Buffer {
  const head = Buffer.concat([int32(texts.length === 0 ? 0 : 1), int32(0), int32(textOid)])
  if (texts.length === 0) return head
  return Buffer.concat([head, int32(texts.length), int32(1), ...texts.map(text => field(Buffer.from(text)))])
}

interface HeaderRow {
  id: bigint
  tenant: string
  day: bigint
  minNs: bigint
  maxNs: bigint
  minId: bigint
  maxId: bigint
  rows: number
  levelMask: number
  services: string[]
  sha256: Buffer
  generation: number
  hasBloom: boolean
}

export function headerColumns(sql: Queryable) {
  return sql`b.id, b.tenant, (b.day - date '1970-01-01')::int8 as day, b.min_ns as "minNs", b.max_ns as "maxNs",
    b.min_id as "minId", b.max_id as "maxId", b.rows, b.level_mask as "levelMask", b.services, b.sha256, b.generation,
    b.bloom is not null as "hasBloom"`
}

export type { HeaderRow }

export function headerOf(row: HeaderRow): BlockHeader {
  return { ...row, day: Number(row.day) }
}

/** Inside the day, headers behind a place in the order of the newest (or oldest) row. */
export async function listHeaders(
  tx: Queryable,
  o: {
    tenant: string
    day: number
    order: 'asc' | 'desc'
    /** Nanoseconds since the day began; blocks that end before or begin at or after are not listed. */
    fromNs: bigint
    toNs: bigint
    after: { ns: bigint; id: bigint } | undefined
    limit: number
  },
): Promise<BlockHeader[]> {
  const { tenant, day, order, fromNs, toNs, after, limit } = o
  const isDesc = order === 'desc'
  const edge = isDesc ? tx`b.max_ns` : tx`b.min_ns`
  const behind = after
    ? isDesc
      ? tx`and (b.max_ns, b.id) < (${after.ns}::int8, ${after.id}::int8)`
      : tx`and (b.min_ns, b.id) > (${after.ns}::int8, ${after.id}::int8)`
    : tx``
  const direction = isDesc ? tx`desc` : tx`asc`
  const rows = await tx<HeaderRow[]>`
    select ${headerColumns(tx)} from purser_logs.blocks b
    where b.tenant = ${tenant} and b.day = ${dateOf(day)}::date and b.max_ns >= ${fromNs}::int8 and b.min_ns < ${toNs}::int8 ${behind}
    order by ${edge} ${direction}, b.id ${direction} limit ${limit}`
  return rows.map(headerOf)
}

/** The newest (or oldest) day in the range, both ends inclusive, that has blocks of the tenant. */
export async function nextDay(
  tx: Queryable,
  tenant: string,
  low: number,
  high: number,
  order: 'asc' | 'desc',
): Promise<number | undefined> {
  const [row] = await tx<{ day: bigint }[]>`
    select (day - date '1970-01-01')::int8 as day from purser_logs.blocks
    where tenant = ${tenant} and day >= ${dateOf(low)}::date and day <= ${dateOf(high)}::date
    order by day ${order === 'desc' ? tx`desc` : tx`asc`} limit 1`
  return row && Number(row.day)
}

export type SectionName = 'head' | 'messages' | 'metadata' | 'bloom'

/** In the order of the headers; undefined where the block is gone. */
export async function loadSections(
  tx: Tx,
  headers: readonly BlockHeader[],
  names: readonly SectionName[],
): Promise<(Partial<Record<SectionName, Buffer>> | undefined)[]> {
  if (headers.length === 0) return []
  // COPY takes no parameters: days and ids are numbers of ours, names are from the list above.
  const days = [...new Set(headers.map(({ day }) => `date '1970-01-01' + ${day}`))].join(', ')
  const ids = headers.map(({ id }) => String(id)).join(', ')
  const rows = await copyOut(
    tx,
    `select id, ${names.join(', ')} from purser_logs.blocks where day in (${days}) and id in (${ids})`,
  )
  const found = new Map<bigint, Partial<Record<SectionName, Buffer>>>()
  for (const [id, ...sections] of rows) {
    if (!id) continue
    const block: Partial<Record<SectionName, Buffer>> = {}
    names.forEach((name, i) => {
      const bytes = sections[i]
      if (bytes) block[name] = bytes
    })
    found.set(id.readBigInt64BE(), block)
  }
  return headers.map(({ id }) => found.get(id))
}

/** Years before 1 and after 9999 hold nothing. */
export function dateOf(day: number): string {
  const bounded = Math.min(Math.max(day, -719_162), 2_932_896)
  return new Date(bounded * 86_400_000).toISOString().slice(0, 10)
}
