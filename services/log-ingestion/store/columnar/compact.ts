// Fresh blocks into fewer, larger, harder packed ones with blooms, per tenant and day.
//
// What is worth a merge: many fresh blocks, enough rows for two full blocks, or fresh blocks that have grown cold. A small
// result takes along merged blocks up to a few times its own size, so that a quiet tenant's day is rewritten a handful of
// times and not once a minute.

import type { Sql } from '#platform/postgres'
import type { EvidenceKey } from '../../evidence-key.ts'
import { type BlockHeader, type HeaderRow, headerColumns, headerOf } from './blocks.ts'
import { blockRowsMax } from './encode.ts'
import type { Encoder } from './encoder.ts'
import { BlocksMoved, loadWhole, replaceBlocks } from './rewrite.ts'

/** One merge holds this much in memory. */
const rowsMax = 2 * blockRowsMax
export const bytesMax = 12 * 1024 * 1024
const blocksMin = 8
const blocksMax = 512
const growth = 4

export interface CompactOptions {
  sql: Sql
  encoder: Encoder
  evidence: EvidenceKey
  nowMs: number
  /** Fresh blocks older than this are merged however few they are. */
  coldAfterMs: number
}

/** One merge, of the tenant and day that need it most; false when none does. */
export async function compactOnce(o: CompactOptions): Promise<boolean> {
  const headers = await pick(o.sql, o.coldAfterMs)
  const [first] = headers
  if (!first) return false
  try {
    const merged = await o.encoder.merge(first.tenant, first.day, await loadWhole(o.sql, headers))
    await o.sql.begin(tx =>
      replaceBlocks(tx, o.evidence, { before: headers, after: merged, reason: 'compaction', nowMs: o.nowMs }),
    )
  } catch (error) {
    // A deletion or another replica was quicker; the next round looks again.
    if (!(error instanceof BlocksMoved)) throw error
  }
  return true
}

async function pick(sql: Sql, coldAfterMs: number): Promise<BlockHeader[]> {
  const [group] = await sql<{ tenant: string; day: string }[]>`
    select tenant, day::text as day from purser_logs.blocks where generation = 0
    group by tenant, day
    having count(*) >= ${blocksMin} or sum(rows) >= ${rowsMax}
      or min(written_at) <= now() - make_interval(secs => ${coldAfterMs / 1_000}::float8)
    order by count(*) desc limit 1`
  if (!group) return []
  const fresh = await sql<(HeaderRow & { rawBytes: bigint })[]>`
    select ${headerColumns(sql)}, raw_bytes as "rawBytes" from purser_logs.blocks b
    where tenant = ${group.tenant} and day = ${group.day}::date and generation = 0
    order by min_ns, id limit ${blocksMax}`
  const picked = upTo(fresh, 0, 0)
  const rows = picked.reduce((sum, header) => sum + header.rows, 0)
  if (rows >= blockRowsMax / 2) return picked
  const small = await sql<(HeaderRow & { rawBytes: bigint })[]>`
    select ${headerColumns(sql)}, raw_bytes as "rawBytes" from purser_logs.blocks b
    where tenant = ${group.tenant} and day = ${group.day}::date and generation = 1 and rows <= ${rows * growth}
    order by rows, id limit ${blocksMax}`
  return [...picked, ...upTo(small, rows, 0)]
}

function upTo(found: readonly (HeaderRow & { rawBytes: bigint })[], rows: number, bytes: number): BlockHeader[] {
  const picked: BlockHeader[] = []
  for (const header of found) {
    rows += header.rows
    bytes += Number(header.rawBytes)
    if (picked.length > 0 && (rows > rowsMax || bytes > bytesMax)) break
    picked.push(headerOf(header))
  }
  return picked
}
