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
  const days = hours.map(({ hour }) => Math.floor(hour / 24))
  await addDays(
    tx,
    tx`series_id = ${seriesId} and hour >= ${Math.min(...days) * 24} and hour < ${Math.max(...days) * 24 + 24}`,
  )
}

/** Days of which all hours are there, of the hours chosen. */
export async function addDays(sql: Queryable, which: ReturnType<Queryable>): Promise<void> {
  await sql`
    insert into billaged.usage_day (series_id, day, mem_peak, ${sql.unsafe(names)})
    select series_id, hour / 24, max(mem_peak), ${sql.unsafe(hourColumns.map(({ name }) => `sum(${name})`).join())}
    from billaged.usage_hour where ${which} group by series_id, hour / 24 having count(*) = 24
    on conflict do nothing`
}

const names = hourColumns.map(({ name }) => name).join()

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

export interface Cached {
  /** The runs of hours that are there. */
  runs: HourRun[]
  /** Runs of hours that are there as whole days. */
  days: HourRun[]
}

/** The same for reading, which looks at hours only where there are no days. */
export async function cachedForReading(
  sql: Queryable,
  seriesIds: readonly bigint[],
  { from, to }: HourRun,
): Promise<Map<bigint, Cached>> {
  const days = await sql<({ seriesId: bigint } & HourRun)[]>`
    select series_id as "seriesId", min(day) * 24 as "from", (max(day) + 1) * 24 as "to" from (
      select series_id, day, day - (row_number() over (partition by series_id order by day))::int4 as island
      from billaged.usage_day
      where series_id = any(${arrayLiteral(seriesIds)}::text::int8[]) and day >= ${Math.ceil(from / 24)} and day < ${Math.floor(to / 24)}
    ) d group by series_id, island order by series_id, 2`
  const daysOf = Map.groupBy(days, ({ seriesId }) => seriesId)
  const holes = seriesIds.flatMap(seriesId =>
    holesIn(daysOf.get(seriesId) ?? [], { from, to }).map(hole => ({ seriesId, ...hole })),
  )
  const hours = await sql<({ seriesId: bigint } & HourRun)[]>`
    select series_id as "seriesId", min(hour) as "from", max(hour) + 1 as "to" from (
      select r.series_id, h.hour, h.hour - (row_number() over (partition by r.series_id order by h.hour))::int4 as island
      from ${runsOf(sql, holes)}, lateral (
        select hour from billaged.usage_hour h
        where h.series_id = r.series_id and h.hour >= r.from_hour and h.hour < r.to_hour offset 0
      ) h
    ) h group by series_id, island order by series_id, 2`
  const hoursOf = Map.groupBy(hours, ({ seriesId }) => seriesId)
  return new Map(
    seriesIds.map(seriesId => {
      const ofDays = daysOf.get(seriesId) ?? []
      return [seriesId, { runs: joined([...ofDays, ...(hoursOf.get(seriesId) ?? [])]), days: ofDays }]
    }),
  )
}

function runsOf(sql: Queryable, runs: readonly ({ seriesId: bigint } & HourRun)[]) {
  const column = (pick: (run: (typeof runs)[number]) => bigint | number) => arrayLiteral(runs.map(pick))
  return sql`unnest(
    ${column(run => run.seriesId)}::text::int8[], ${column(run => run.from)}::text::int4[],
    ${column(run => run.to)}::text::int4[]
  ) r (series_id, from_hour, to_hour)`
}

function joined(runs: readonly HourRun[]): HourRun[] {
  const whole: HourRun[] = []
  for (const { from, to } of runs.toSorted((a, b) => a.from - b.from)) {
    const last = whole.at(-1)
    if (last?.to === from) last.to = to
    else whole.push({ from, to })
  }
  return whole
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

/** Sums of the hours of each series that lie in any of its runs, by the span between inner edges (whole hours). Days are
 *  read where they are said to be there. */
export async function sumHours(
  sql: Queryable,
  runs: readonly ({ seriesId: bigint } & HourRun)[],
  innerEdges: readonly number[],
  cached: ReadonlyMap<bigint, Cached> = new Map(),
): Promise<SpanSum[]> {
  if (runs.length === 0) return []
  const days: ({ seriesId: bigint } & HourRun)[] = []
  const hours: ({ seriesId: bigint } & HourRun)[] = []
  for (const run of runs) {
    const whole = wholeDays(cached.get(run.seriesId)?.days ?? [], run, innerEdges)
    days.push(...whole.map(part => ({ seriesId: run.seriesId, ...part })))
    hours.push(...holesIn(whole, run).map(part => ({ seriesId: run.seriesId, ...part })))
  }
  const span = (first: ReturnType<Queryable>) =>
    innerEdges.length === 0 ? sql`0` : sql`width_bucket(${first}, ${arrayLiteral(innerEdges)}::text::int4[])`
  const rows = await sql<({ seriesId: bigint; span: number; hours: number; peak: bigint } & Record<string, unknown>)[]>`
    select u.series_id as "seriesId", span, sum(hours)::int4 as hours, max(mem_peak) as peak, ${sql.unsafe(sums)}
    from (
      select ${span(sql`u.hour`)} as span, 1 as hours, series_id, mem_peak, ${sql.unsafe(names)}
      from ${runsOf(sql, hours)}, lateral (
        select h.hour, h.mem_peak, ${sql.unsafe(names)} from billaged.usage_hour h
        where h.series_id = r.series_id and h.hour >= r.from_hour and h.hour < r.to_hour offset 0
      ) u
      union all
      select ${span(sql`u.day * 24`)}, 24, series_id, mem_peak, ${sql.unsafe(names)}
      from ${runsOf(sql, days)}, lateral (
        select d.day, d.mem_peak, ${sql.unsafe(names)} from billaged.usage_day d
        where d.series_id = r.series_id and d.day >= r.from_hour / 24 and d.day < r.to_hour / 24 offset 0
      ) u
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

/** What of some days lies in a run, but for days that an edge lies in. */
function wholeDays(days: readonly HourRun[], run: HourRun, innerEdges: readonly number[]): HourRun[] {
  const cuts = innerEdges.map(edge => Math.floor(edge / 24) * 24)
  return days.flatMap(({ from, to }) => {
    const within = {
      from: Math.ceil(Math.max(from, run.from) / 24) * 24,
      to: Math.floor(Math.min(to, run.to) / 24) * 24,
    }
    const broken = cuts.filter((cut, i) => cut !== innerEdges[i]).map(cut => ({ from: cut, to: cut + 24 }))
    return within.from < within.to
      ? holesIn(
          broken.toSorted((a, b) => a.from - b.from),
          within,
        )
      : []
  })
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
