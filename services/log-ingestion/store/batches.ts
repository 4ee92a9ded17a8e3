// From the order of acceptance to ids: which ids the rows of a replica got. Written in the commit that stores the rows.

import { arrayLiteral, type Sql, type Tx } from '#platform/postgres'
import { RowWalk } from '../record.ts'
import type { Batch } from './commit.ts'
import { boundaryBehind } from './sink.ts'

/** Behind the row with this running total, of a replica. Later segments have greater ids. */
export interface RowPlace {
  segment: string
  /** Rows of the replica before it, ever. */
  rows: bigint
}

export function compareRowPlaces(a: RowPlace, b: RowPlace): number {
  if (a.segment !== b.segment) return a.segment < b.segment ? -1 : 1
  return a.rows < b.rows ? -1 : a.rows > b.rows ? 1 : 0
}

/** Rows that were accepted one after the other and got ids one after the other. */
export interface StoredBatch {
  replica: string
  segment: string
  firstRow: bigint
  rows: bigint
  toOffset: number
  firstId: bigint
  minUs: bigint
  maxUs: bigint
}

export async function insertPlaces(tx: Tx, batch: Batch): Promise<void> {
  const pieces = piecesOf(batch)
  if (pieces.length === 0) return
  await tx`
    insert into purser_logs.batches (replica, segment, first_row, rows, to_off, first_id, min_us, max_us)
    select distinct on (segment, first_row) ${batch.replica}::uuid, u.* from unnest(
      ${pieces.map(piece => piece.segment)}::uuid[], ${arrayLiteral(pieces.map(piece => piece.firstRow))}::int8[],
      ${arrayLiteral(pieces.map(piece => piece.rows))}::int8[], ${arrayLiteral(pieces.map(piece => BigInt(piece.toOffset)))}::int8[],
      ${arrayLiteral(pieces.map(piece => piece.firstId))}::int8[], ${arrayLiteral(pieces.map(piece => piece.minUs))}::int8[],
      ${arrayLiteral(pieces.map(piece => piece.maxUs))}::int8[])
      as u(segment, first_row, rows, to_off, first_id, min_us, max_us)
    on conflict (replica, segment, first_row) do update
    set rows = excluded.rows, to_off = excluded.to_off, first_id = excluded.first_id, min_us = excluded.min_us, max_us = excluded.max_us`
}

/** Mostly one: other replicas drawing ids in between, a damaged stretch and a new segment each begin another. */
function piecesOf({ replica, records, ids }: Batch): StoredBatch[] {
  const pieces: StoredBatch[] = []
  const add = (segment: string, toOffset: number, rows: number, firstRow: bigint, firstId: bigint, times: Times) => {
    const last = pieces.at(-1)
    const [minUs, maxUs] = [BigInt(times.min) * 1_000_000n, BigInt(times.max) * 1_000_000n + 999_999n]
    if (last?.segment === segment && last.firstRow + last.rows === firstRow && last.firstId + last.rows === firstId) {
      last.rows += BigInt(rows)
      last.toOffset = toOffset
      if (minUs < last.minUs) last.minUs = minUs
      if (maxUs > last.maxUs) last.maxUs = maxUs
    } else pieces.push({ replica, segment, firstRow, rows: BigInt(rows), toOffset, firstId, minUs, maxUs })
  }
  let index = 0
  for (const pending of records) {
    const { record, segment } = pending
    const to = boundaryBehind(pending).offset
    const firstId = ids[index] as bigint
    const lastId = ids[index + record.rows - 1] as bigint
    const isRun = record.rows > 0 && lastId - firstId === BigInt(record.rows - 1)
    const times = { min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY }
    const walk = new RowWalk(record)
    for (let row = 0; walk.next(); row++, index++) {
      if (isRun) {
        if (walk.seconds < times.min) times.min = walk.seconds
        if (walk.seconds > times.max) times.max = walk.seconds
      } else {
        const one = { min: walk.seconds, max: walk.seconds }
        add(segment, to, 1, record.rowsBefore + BigInt(row), ids[index] as bigint, one)
      }
    }
    if (isRun) add(segment, to, record.rows, record.rowsBefore, firstId, times)
  }
  return pieces
}

/** Whole seconds: narrow enough to look for rows by. */
interface Times {
  min: number
  max: number
}

/** How far each replica's rows are stored. */
export async function loadHeads(sql: Sql): Promise<Map<string, RowPlace>> {
  // One step per replica, however many batches there are.
  const rows = await sql<{ replica: string; segment: string; rows: bigint }[]>`
    with recursive known as (
      (select replica from purser_logs.batches order by replica limit 1)
      union all
      select (select b.replica from purser_logs.batches b where b.replica > k.replica order by b.replica limit 1)
      from known k where k.replica is not null
    )
    select k.replica::text as replica, h.segment::text as segment, h.rows from known k cross join lateral (
      select b.segment, b.first_row + b.rows as rows from purser_logs.batches b
      where b.replica = k.replica order by b.segment desc, b.first_row desc limit 1
    ) h`
  return new Map(rows.map(({ replica, segment, rows: count }) => [replica, { segment, rows: count }]))
}

/** Of one replica, in order, those with a row behind `after`; from the first one without. */
export async function loadBatchesAfter(
  sql: Sql,
  replica: string,
  after: RowPlace | undefined,
  limit: number,
): Promise<StoredBatch[]> {
  const behind = after
    ? sql`and (segment, first_row + rows) > (${after.segment}::uuid, ${after.rows}) and segment >= ${after.segment}::uuid`
    : sql``
  const rows = await sql<(Omit<StoredBatch, 'toOffset'> & { toOffset: bigint })[]>`
    select replica::text as replica, segment::text as segment, first_row as "firstRow", rows, to_off as "toOffset",
           first_id as "firstId", min_us as "minUs", max_us as "maxUs"
    from purser_logs.batches where replica = ${replica}::uuid ${behind} order by batches.segment, first_row limit ${limit}`
  return rows.map(row => ({ ...row, toOffset: Number(row.toOffset) }))
}

/** Where the journal of the replica goes on behind the last rows stored at or before the place. */
export async function loadOffset(sql: Sql, replica: string, { segment, rows }: RowPlace): Promise<number | undefined> {
  const [row] = await sql<{ offset: bigint }[]>`
    select to_off as "offset" from purser_logs.batches
    where replica = ${replica}::uuid and segment = ${segment}::uuid and first_row <= ${rows} and first_row + rows <= ${rows}
    order by first_row desc limit 1`
  return row && Number(row.offset)
}

/** Old neighbours become one where both their rows and their ids are neighbours: mostly a row per segment is left. */
export async function mergeBatches(sql: Sql, replica: string, keepNewest: number): Promise<void> {
  await sql`
    with mine as (
      select *, row_number() over (order by segment desc, first_row desc) as age from purser_logs.batches
      where replica = ${replica}::uuid
    ), marked as (
      select *, case when lag(segment) over w = segment and lag(first_row + rows) over w = first_row
                      and lag(first_id + rows) over w = first_id then 0 else 1 end as starts
      from mine where age > ${keepNewest} window w as (order by segment, first_row)
    ), runs as (
      select *, sum(starts) over (order by segment, first_row) as run from marked
    ), merged as (
      select segment, min(first_row) as first_row, sum(rows)::int8 as rows, max(to_off) as to_off,
             min(first_id) as first_id, min(min_us) as min_us, max(max_us) as max_us
      from runs group by run, segment having count(*) > 1
    ), gone as (
      delete from purser_logs.batches b using merged m
      where b.replica = ${replica}::uuid and b.segment = m.segment
        and b.first_row > m.first_row and b.first_row < m.first_row + m.rows
    )
    update purser_logs.batches b set rows = m.rows, to_off = m.to_off, min_us = m.min_us, max_us = m.max_us
    from merged m where b.replica = ${replica}::uuid and b.segment = m.segment and b.first_row = m.first_row`
}

/** Of whose rows nothing is left. */
export async function dropBatches(sql: Sql, beforeUs: bigint): Promise<void> {
  await sql`delete from purser_logs.batches where max_us < ${beforeUs}`
}
