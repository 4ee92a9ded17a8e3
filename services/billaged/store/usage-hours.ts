import { arrayLiteral, type Queryable, type Tx } from '#platform/postgres'
import { hourNs } from '../samples/sample.ts'
import type { Cell } from '../usage/cells.ts'
import { cellOfRow, hourColumns, rowOfCell } from '../usage/hour-columns.ts'
import { maxNs, minNs } from './invalidate.ts'
import type { SeriesWindow } from './window.ts'

export interface HourUsage {
  hour: number
  cell: Cell
  peak: bigint
}

/** Count and XOR of the digests of the parts an hour rests on: equal when they are the same parts. */
export interface Covers {
  count: number
  /** Hex. */
  xor: string
}

export type Reads = SeriesWindow['reads']

export async function coversOf(sql: Queryable, seriesId: bigint, reads: Reads): Promise<Covers> {
  const [row] = await sql<Covers[]>`
    select count(*)::int4 as count,
      coalesce(encode(int8send(bit_xor(('x' || substr(encode(digest, 'hex'), 1, 16))::bit(64)::int8))
        || int8send(bit_xor(('x' || substr(encode(digest, 'hex'), 17, 16))::bit(64)::int8)), 'hex'), '') as xor
    from billaged.sample_part
    where series_id = ${seriesId} and hour between ${hourAt(reads.fromNs ?? 0n)} and ${hourAt(reads.toNs ?? maxNs)}
      and max_ns >= ${reads.fromNs ?? minNs} and min_ns <= ${reads.toNs ?? maxNs}`
  if (row === undefined) throw new Error('BUG: a count has a row')
  return row
}

export async function writeHours(
  tx: Tx,
  seriesId: bigint,
  hours: readonly HourUsage[],
  o: { reads: Reads; covers: Covers },
): Promise<void> {
  const rows = hours.map(({ hour, cell, peak }) => ({
    series_id: `${seriesId}`,
    hour,
    reads_from_ns: `${o.reads.fromNs ?? minNs}`,
    reads_to_ns: `${o.reads.toNs ?? maxNs}`,
    covers_count: o.covers.count,
    covers_xor: `\\x${o.covers.xor}`,
    mem_peak: `${peak}`,
    ...rowOfCell(cell),
  }))
  await tx`
    with written as (
      insert into billaged.usage_hour
      select * from jsonb_populate_recordset(null::billaged.usage_hour, ${JSON.stringify(rows)}::text::jsonb)
      on conflict (series_id, hour) do nothing
    )
    delete from billaged.fold_queue
    where series_id = ${seriesId} and hour = any(${arrayLiteral(hours.map(({ hour }) => hour))}::text::int4[])`
}

/** A run of hours, [from, to). */
export interface HourRun {
  from: number
  to: number
}

/** Of each series, the runs of hours in [from, to) that are there. */
export async function cachedRuns(
  sql: Queryable,
  seriesIds: readonly bigint[],
  { from, to }: HourRun,
): Promise<Map<bigint, HourRun[]>> {
  const rows = await sql<({ seriesId: bigint } & HourRun)[]>`
    select series_id as "seriesId", min(hour) as "from", max(hour) + 1 as "to" from (
      select series_id, hour, hour - (row_number() over (partition by series_id order by hour))::int4 as island
      from billaged.usage_hour
      where series_id = any(${arrayLiteral(seriesIds)}::text::int8[]) and hour >= ${from} and hour < ${to}
    ) h group by series_id, island order by series_id, 2`
  const runs = new Map<bigint, HourRun[]>()
  for (const { seriesId, ...run } of rows) runs.set(seriesId, [...(runs.get(seriesId) ?? []), run])
  return runs
}

/** What of a run is not in any of some others, which are ascending. */
export function holesIn(cached: readonly HourRun[], { from, to }: HourRun): HourRun[] {
  const holes: HourRun[] = []
  let at = from
  for (const run of [...cached, { from: to, to }]) {
    if (run.from > at && at < to) holes.push({ from: at, to: Math.min(run.from, to) })
    at = Math.max(at, run.to)
  }
  return holes
}

export interface SpanSum {
  seriesId: bigint
  /** How many of the inner edges lie at or before its hours. */
  span: number
  hours: number
  cell: Cell
  peak: bigint
}

/** Sums of the hours of each series that lie in any of its runs, by the span between inner edges (whole hours). */
export async function sumHours(
  sql: Queryable,
  runs: readonly ({ seriesId: bigint } & HourRun)[],
  innerEdges: readonly number[],
): Promise<SpanSum[]> {
  if (runs.length === 0) return []
  const column = (pick: (run: (typeof runs)[number]) => bigint | number) => arrayLiteral(runs.map(pick))
  const span = innerEdges.length === 0 ? sql`0` : sql`width_bucket(u.hour, ${arrayLiteral(innerEdges)}::text::int4[])`
  const rows = await sql<({ seriesId: bigint; span: number; hours: number; peak: bigint } & Record<string, unknown>)[]>`
    select u.series_id as "seriesId", ${span} as span, count(*)::int4 as hours, max(mem_peak) as peak,
      ${sql.unsafe(sums)}
    from unnest(
      ${column(run => run.seriesId)}::text::int8[], ${column(run => run.from)}::text::int4[],
      ${column(run => run.to)}::text::int4[]
    ) r (series_id, from_hour, to_hour), lateral (
      select * from billaged.usage_hour h
      where h.series_id = r.series_id and h.hour >= r.from_hour and h.hour < r.to_hour offset 0
    ) u
    group by 1, 2`
  return rows.map(row => ({
    seriesId: row.seriesId,
    span: row.span,
    hours: row.hours,
    cell: cellOfRow(row),
    peak: row.peak,
  }))
}

const sums = hourColumns.map(({ name }) => `sum(u.${name})::text as ${name}`).join(', ')

/** Of each series, up to when facts may change any of its hours. */
export async function lastReads(sql: Queryable, seriesIds: readonly bigint[]): Promise<Map<bigint, bigint>> {
  const rows = await sql<{ seriesId: bigint; readsTo: bigint }[]>`
    select series_id as "seriesId", h.reads_to as "readsTo"
    from unnest(${arrayLiteral(seriesIds)}::text::int8[]) t (series_id), lateral (
      select max(reads_to_ns) as reads_to from billaged.usage_hour u where u.series_id = t.series_id
    ) h where h.reads_to is not null`
  return new Map(rows.map(({ seriesId, readsTo }) => [seriesId, readsTo]))
}

/** Rows of some hours of a series, as they lie there. */
export async function readHours(sql: Queryable, seriesId: bigint, run: HourRun) {
  const rows = await sql<
    ({
      hour: number
      peak: bigint
      readsFrom: bigint
      readsTo: bigint
      count: number
      xor: string
      samples: number | null
      digest: string | null
    } & Record<string, unknown>)[]
  >`
    select hour, mem_peak as peak, reads_from_ns as "readsFrom", reads_to_ns as "readsTo", covers_count as count,
      encode(covers_xor, 'hex') as xor, samples, encode(set_digest, 'hex') as digest, ${sql.unsafe(hourColumns.map(({ name }) => name).join(', '))}
    from billaged.usage_hour where series_id = ${seriesId} and hour >= ${run.from} and hour < ${run.to} order by hour`
  return rows.map(row => ({
    hour: row.hour,
    peak: row.peak,
    cell: cellOfRow(row),
    reads: {
      fromNs: row.readsFrom === minNs ? null : row.readsFrom,
      toNs: row.readsTo === maxNs ? null : row.readsTo,
    },
    /** Its samples are gone: nothing can change it any more. */
    isSealed: row.readsFrom > row.readsTo,
    covers: { count: row.count, xor: row.xor },
    /** Of sealed hours only. */
    set: row.samples === null || row.digest === null ? null : { samples: row.samples, digest: row.digest },
  }))
}

/** Hours before it are final, and their samples are gone. */
export async function loadSealedHour(sql: Queryable, seriesId: bigint): Promise<number> {
  const [row] = await sql<{ hour: number }[]>`
    select sealed_hour as hour from billaged.series where series_id = ${seriesId}`
  return row?.hour ?? 0
}

function hourAt(ns: bigint): number {
  return Number(ns / hourNs)
}
