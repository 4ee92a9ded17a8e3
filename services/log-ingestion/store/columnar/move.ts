// Entries of the guide's table into blocks, day by day, oldest first. One transaction takes some rows out, puts the blocks
// in, and lets go only when what the blocks give back has the count and the digest of what was taken. A move that ends in
// the middle goes on where it is.

import { createHash } from 'node:crypto'
import type { Tx } from '#platform/postgres'
import { levelIndex, levels } from '../../level.ts'
import { relink } from '../rows/chain.ts'
import type { RowsEraser } from '../rows/erase.ts'
import { deletionsOf, placeOf } from '../rows/places.ts'
import { columns, type EntryRow, entryOf } from '../rows/search.ts'
import type { Moved, StoredEntry } from '../store.ts'
import { defaultTenant } from '../tenant.ts'
import { dateOf, insertBlocks } from './blocks.ts'
import { appendLinks } from './chain.ts'
import { Block } from './decode.ts'
import { blockRowsMax, type EncodedBlock } from './encode.ts'
import { cutIntoBlocks, type FreshBlock } from './fresh.ts'
import { RowTable } from './row-table.ts'
import { dayOfNs, entryAt } from './search.ts'

interface MovingRow extends EntryRow {
  tenant: string | null
  part: string | null
  ctid: string | null
}

const dayNs = 86_400_000_000_000n

/** Up to a block's rows of the oldest day; null when nothing is left that can move. */
export async function moveOnce(
  o: RowsEraser,
  ensure: (days: readonly number[]) => Promise<void>,
): Promise<Moved | null> {
  const { sql } = o
  const [oldest] = await sql<{ us: bigint | null }[]>`
    select (extract(epoch from min(timestamp)) * 1000000)::int8 as us from public.logs
    where level = any(${[...levels]}::text[])`
  if (oldest?.us === null || oldest?.us === undefined) return null
  const day = dayOfNs(oldest.us * 1_000n)
  await ensure([day])
  return await sql.begin(tx => moveRows(tx, o, day))
}

async function moveRows(tx: Tx, o: RowsEraser, day: number): Promise<Moved> {
  const rows = await tx<MovingRow[]>`
    select ${columns(tx)}, e.owner as tenant, e.part::text as part, e.place::text as ctid
    from (values (null::text)) as unmarked(tenant) cross join lateral (
      select l.*, ${placeOf(tx, o.table)}, tenant as owner from public.logs l
      where l.timestamp >= to_timestamp(${day * 86_400}::float8) and l.timestamp < to_timestamp(${(day + 1) * 86_400}::float8)
        and l.level = any(${[...levels]}::text[])
      order by l.timestamp, l.id limit ${blockRowsMax} ${o.table.kind === 'hypertable' ? tx`` : tx`for update`}
    ) e`
  const taken = rows.map(row => ({ tenant: row.tenant ?? defaultTenant, entry: entryOf(row) }))
  const blocks: FreshBlock[] = []
  for (const [tenant, items] of Map.groupBy(taken, item => item.tenant)) {
    const table = tableFrom(
      items.map(item => item.entry),
      day,
    )
    blocks.push(...cutIntoBlocks(table, { level: 1, isCold: false }).map(block => ({ ...block, tenant, day })))
  }
  const before = digestOf(taken)
  const after = digestOf(blocks.flatMap(block => entriesOf(block, day).map(entry => ({ tenant: block.tenant, entry }))))
  if (before !== after) throw new Error(`moving day ${day} would change entries: ${before} became ${after}`)
  for (const { statement, rows: found } of await deletionsOf(tx, o.table, rows)) {
    const gone = await tx`${statement}`
    if (gone.count !== found.length)
      throw new Error(`${gone.count} of ${found.length} rows were there still; somebody else took the others`)
  }
  for (const [tenant, items] of Map.groupBy(taken, item => item.tenant)) {
    const ids = items.map(item => item.entry.id)
    await relink(tx, o.evidence, { tenant, days: [dateOf(day)], ids, reason: 'move', nowMs: o.nowMs() })
  }
  await insertBlocks(tx, blocks, 0)
  await appendLinks(tx, blocks)
  return { day: new Date(day * 86_400_000).toISOString().slice(0, 10), rows: rows.length, digest: before }
}

function tableFrom(entries: readonly StoredEntry[], day: number): RowTable {
  const table = new RowTable(entries.length)
  table.idBase = entries.reduce((least, { id }) => (id < least ? id : least), entries[0]?.id ?? 0n)
  const chunks: Buffer[] = []
  let at = 0
  const add = (text: string): [number, number] => {
    const bytes = Buffer.from(text)
    chunks.push(bytes)
    at += bytes.length
    return [at - bytes.length, at]
  }
  const services = new Map<string, number>()
  for (const entry of entries) {
    const row = table.count++
    table.nsOfDay[row] = Number(entry.timestampNs - BigInt(day) * dayNs)
    table.id[row] = Number(entry.id - table.idBase)
    table.createdUs[row] = Number(entry.createdUs)
    const level = levels.find(name => name === entry.level)
    if (level === undefined) throw new Error(`BUG: a row of level ${entry.level} was taken`)
    table.level[row] = levelIndex(level)
    const service = services.get(entry.service) ?? services.size
    if (service === services.size) {
      services.set(entry.service, service)
      table.services.push(entry.service)
    }
    table.service[row] = service
    const [messageFrom, messageTo] = add(entry.message)
    table.messageFrom[row] = messageFrom
    table.messageTo[row] = messageTo
    if (entry.metadata === null) table.setNoMetadata(row)
    else {
      const [metadataFrom, metadataTo] = add(entry.metadata)
      table.metadataFrom[row] = metadataFrom
      table.metadataTo[row] = metadataTo
    }
  }
  table.bytes = Buffer.concat(chunks, at)
  return table
}

function entriesOf(encoded: EncodedBlock, day: number): StoredEntry[] {
  const block = new Block(encoded)
  return Array.from({ length: block.rows }, (_, row) => entryAt(block, BigInt(day) * dayNs, row))
}

/** The same whatever the order. */
function digestOf(items: readonly { tenant: string; entry: StoredEntry }[]): string {
  const texts = items.map(({ tenant, entry }) =>
    JSON.stringify([
      tenant,
      String(entry.id),
      String(entry.timestampNs),
      entry.service,
      entry.level,
      entry.message,
      entry.metadata,
      String(entry.createdUs),
    ]),
  )
  const hash = createHash('sha256')
  for (const text of texts.sort()) hash.update(text).update('\n')
  return hash.digest('hex')
}
