// Which stretches of this replica's journal are stored: read once at start, merged now and then.

import { endianness } from 'node:os'
import { comparePositions, type JournalPosition } from '#platform/journal'
import type { Sql } from '#platform/postgres'

export interface StoredRange {
  from: number
  to: number
  rows: number
}

/** Ranges by segment, in order. Waits for transactions of an earlier life of this replica that the server may still be
 *  committing: what they store must not be stored again. */
export async function loadCommitted(sql: Sql, replica: string): Promise<Map<string, StoredRange[]>> {
  const rows = await sql.begin(async tx => {
    await tx`select pg_advisory_xact_lock(hashtextextended(${`purser.replica:${replica}`}, 0))`
    return await tx<{ segment: string; from: bigint; to: bigint; rows: bigint }[]>`
      select segment, from_off as from, to_off as to, rows from purser_logs.commits
      where replica = ${replica}::uuid order by segment, from_off`
  })
  const ranges = new Map<string, StoredRange[]>()
  for (const { segment, from, to, rows: count } of rows) {
    const list = ranges.get(segment) ?? []
    list.push({ from: Number(from), to: Number(to), rows: Number(count) })
    ranges.set(segment, list)
  }
  return ranges
}

/** The stored range that begins at or covers `offset`, or undefined. */
export function storedRange(ranges: readonly StoredRange[] | undefined, offset: number): StoredRange | undefined {
  return ranges?.findLast(range => range.from <= offset && offset < range.to)
}

/** Behind what is stored without a hole of the record at `from`…`to`, and perhaps of others behind it; `from` when nothing is.
 *  Between the two it is a part of the record: see record-parts.ts. */
export function storedUpTo(ranges: readonly StoredRange[] | undefined, from: number, to: number): number {
  let at = from
  while (at < to) {
    const range = storedRange(ranges, at)
    if (!range) break
    at = range.to
  }
  return at
}

/** Rows that are stored of what lies between two places. */
export function rowsBetween(
  stored: ReadonlyMap<string, readonly StoredRange[]>,
  after: JournalPosition,
  before: JournalPosition,
): number {
  let rows = 0
  for (const [segment, ranges] of stored)
    for (const { from, rows: count } of ranges) {
      const place = { segment, offset: from }
      if (comparePositions(place, after) >= 0 && comparePositions(place, before) < 0) rows += count
    }
  return rows
}

/** Replaces runs of neighbouring ranges by one range each. Only ranges that end at or before `before` are touched: an
 *  attempt that is still in doubt finds its own range by where it starts. */
export async function mergeCommitted(
  sql: Sql,
  replica: string,
  before: { segment: string; offset: number },
): Promise<void> {
  await sql.begin(async tx => {
    const rows = await tx<{ segment: string; from: bigint; to: bigint; rows: bigint }[]>`
      select segment, from_off as from, to_off as to, rows from purser_logs.commits
      where replica = ${replica}::uuid
        and (segment < ${before.segment}::uuid or (segment = ${before.segment}::uuid and to_off <= ${BigInt(before.offset)}))
      order by segment, from_off for update`
    const runs: { segment: string; from: bigint; to: bigint; rows: bigint; parts: number }[] = []
    for (const row of rows) {
      const last = runs.at(-1)
      if (last?.segment === row.segment && last.to === row.from) {
        last.to = row.to
        last.rows += row.rows
        last.parts++
      } else runs.push({ ...row, parts: 1 })
    }
    for (const run of runs.filter(({ parts }) => parts > 1)) {
      await tx`
        delete from purser_logs.commits
        where replica = ${replica}::uuid and segment = ${run.segment}::uuid and from_off > ${run.from} and to_off <= ${run.to}`
      await tx`
        update purser_logs.commits set to_off = ${run.to}, rows = ${run.rows}
        where replica = ${replica}::uuid and segment = ${run.segment}::uuid and from_off = ${run.from}`
    }
  })
}

/** Rows of this replica's journal that the database accounts for, whatever became of them; see rewound.ts. */
export async function loadAccountedRows(sql: Sql, replica: string): Promise<bigint> {
  const [row] = await sql<{ rows: bigint }[]>`
    select ((select coalesce(sum(stored + quarantined + duplicates + damaged), 0)
             from purser_logs.ledger where replica = ${replica}::uuid)
          - (select coalesce(sum(rows), 0) from purser_logs.rewound where replica = ${replica}::uuid))::int8 as rows`
  return row?.rows ?? 0n
}

/** The next `count` ids of the table's own sequence, ascending; other replicas may draw in between. */
export async function drawIds(sql: Sql, sequence: string, count: number): Promise<BigInt64Array> {
  if (count === 0) return new BigInt64Array(0)
  const [row] = await sql<{ first: bigint; all: bigint[] | null }[]>`
    select min(id) as first, case when max(id) - min(id) + 1 = count(*) then null else array_agg(id order by id) end as all
    from (select nextval(${sequence}::regclass) as id from generate_series(1, ${count})) as drawn`
  if (!row) throw new Error('BUG: no ids were drawn')
  return row.all ? BigInt64Array.from(row.all) : consecutive(row.first, count)
}

/** In halves: a bigint per row would be the dearest part of drawing ids. */
function consecutive(first: bigint, count: number): BigInt64Array {
  const ids = new BigInt64Array(count)
  const halves = new Uint32Array(ids.buffer)
  let [low, high] = [Number(first & 0xffff_ffffn), Number(first >> 32n)]
  for (let i = 0; i < count; i++) {
    halves[2 * i + lowHalf] = low
    halves[2 * i + 1 - lowHalf] = high
    low++
    if (low > 0xffff_ffff) [low, high] = [0, high + 1]
  }
  return ids
}

const lowHalf = endianness() === 'LE' ? 0 : 1

/** What became of the request at this place of any replica's journal. */
export async function findRange(
  sql: Sql,
  { segment, from, to, rows }: { segment: string; from: number; to: number; rows: number },
): Promise<{ isStored: boolean; rowsSettled: number; isPassedOver: boolean; quarantined: number; duplicates: number }> {
  const [row] = await sql<{ reached: bigint | null; isPassedOver: boolean; quarantined: bigint; duplicates: bigint }[]>`
    select (select max(to_off) from purser_logs.commits
            where segment = ${segment}::uuid and from_off < ${BigInt(to)} and to_off > ${BigInt(from)}) as reached,
           -- Commits go in the order of the journal: what lies before a stored range and is not stored was not readable.
           exists(select from purser_logs.commits
                  where segment = ${segment}::uuid and from_off >= ${BigInt(to)}) as "isPassedOver",
           coalesce(sum(quarantined), 0)::int8 as quarantined, coalesce(sum(duplicates), 0)::int8 as duplicates
    from purser_logs.outcomes
    where segment = ${segment}::uuid and from_off >= ${BigInt(from)} and from_off < ${BigInt(to)}`
  const reached = Number(row?.reached ?? from)
  const isStored = reached >= to
  return {
    isStored,
    // A part's end is a number of rows: record-parts.ts.
    rowsSettled: isStored ? rows : reached - from,
    isPassedOver: row?.isPassedOver ?? false,
    quarantined: Number(row?.quarantined ?? 0n),
    duplicates: Number(row?.duplicates ?? 0n),
  }
}
