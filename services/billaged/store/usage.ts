import { arrayLiteral, type Queryable, type Sql } from '#platform/postgres'
import { larger } from '../bigint.ts'
import type { Meter } from '../events/meter.ts'
import { hourNs } from '../samples/sample.ts'
import { type Cell, createCells, emptyCell } from '../usage/cells.ts'
import { type FoldRules, startFold } from '../usage/fold.ts'
import { hourColumns } from '../usage/hour-columns.ts'
import { sumCells } from '../usage/quantity.ts'
import type { EventUsage, VmUsage } from '../usage/rows.ts'
import { createPeaks, foldSpans } from './fold-spans.ts'
import { queryMeter } from './meter-usage.ts'
import type { PartReader, SampleReader } from './parts.ts'
import { pushPiece } from './pieces.ts'
import { type FoundSeries, findSeries } from './series.ts'
import { openTails } from './tails.ts'
import { type Cached, cachedForReading, type HourRun, holesIn, readHours, sumHours } from './usage-hours.ts'

/** Most VMs one answer takes. */
export const vmsPerQueryMax = 20_000

/** What each VM of a customer, or the one named, used between neighbouring edges (ascending, Unix ns): hours that are
 *  folded are summed, the rest is folded from samples. Both are exact, so where the line is drawn changes nothing. */
export async function loadVmUsage(
  reader: PartReader,
  customerId: string,
  edges: readonly bigint[],
  rules: FoldRules,
  only: string | null = null,
): Promise<VmUsage[]> {
  const [fromNs, toNs] = [edges[0], edges.at(-1)]
  if (fromNs === undefined || toNs === undefined || fromNs === toNs) return []
  const running = only === null ? await reader.running?.load(reader, customerId, edges, rules) : undefined
  if (running !== undefined && running !== null) return running
  // One snapshot: an hour that is summed is not taken out of the cache before the others are folded.
  return reader.sql.begin('isolation level repeatable read read only', async sql => {
    const found = await findSeries(sql, customerId, fromNs, toNs, vmsPerQueryMax, only)
    const usage: VmUsage[] = []
    for (let i = 0; i < found.length; i += seriesPerSum)
      usage.push(...(await usageOf({ ...reader, sql }, customerId, found.slice(i, i + seriesPerSum), edges, rules)))
    return usage
  })
}

/** One sum over a month of so many series takes well under a second. */
const seriesPerSum = 500

export async function usageOf(
  reader: SampleReader,
  customerId: string,
  found: readonly FoundSeries[],
  edges: readonly bigint[],
  rules: FoldRules,
): Promise<VmUsage[]> {
  const { sql } = reader
  const [fromNs, toNs] = [edges[0], edges.at(-1)]
  if (fromNs === undefined || toNs === undefined) throw new Error('BUG: spans have edges')
  const innerHours = edges.slice(1, -1).map(edge => edge / hourNs)
  const whole = { from: Number((fromNs + hourNs - 1n) / hourNs), to: Number(toNs / hourNs) }
  const areEdgesWhole = innerHours.every((hour, i) => hour * hourNs === edges[i + 1])
  const ids = found.map(({ seriesId }) => seriesId)
  const cached =
    areEdgesWhole && whole.from < whole.to ? await cachedForReading(sql, ids, whole) : new Map<bigint, Cached>()
  const shares = found.map(series => shareOut(series, cached.get(series.seriesId)?.runs ?? [], whole, fromNs, toNs))
  const summed = shares.flatMap(share => share.summed)
  const sums = Map.groupBy(await sumHours(sql, summed, innerHours.map(Number), cached), ({ seriesId }) => seriesId)
  const usage: VmUsage[] = []
  const tails = await foldTails(reader, customerId, found, shares, edges, rules)
  for (const [i, series] of found.entries()) {
    const { seriesId, vmId, sealedHour } = series
    const cells: Cell[] = edges.slice(1).map(emptyCell)
    const peaks = cells.map(() => 0n)
    const add = (span: number, cell: Cell, peak: bigint) => {
      cells[span] = sumCells([cells[span] ?? emptyCell(), cell])
      peaks[span] = larger(peaks[span] ?? 0n, peak)
    }
    for (const { span, cell, peak } of sums.get(seriesId) ?? []) add(span, cell, peak)
    for (const range of shares[i]?.folded ?? []) {
      if (range.fromNs < BigInt(sealedHour) * hourNs) {
        for (const part of await shareSealed(sql, seriesId, range, edges)) add(part.span, part.cell, part.peak)
        continue
      }
      const first = edges.findLastIndex(edge => edge <= range.fromNs)
      const within = edgesWithin(edges, range)
      const folded = tails.get(range) ?? (await foldSpans(reader, { ...series, customerId }, within, rules))
      for (const [k, cell] of folded.cells.entries()) add(first + k, cell, folded.peaks[k] ?? 0n)
    }
    usage.push({ vmId, cells, peaks })
  }
  return usage
}

type Range = Share['folded'][number]

function edgesWithin(edges: readonly bigint[], range: Range): bigint[] {
  return [range.fromNs, ...edges.filter(edge => edge > range.fromNs && edge < range.toNs), range.toNs]
}

/** Ranges that end where a series does, or little before: read for many series together. Those left out are out of the
 *  ordinary. */
async function foldTails(
  reader: SampleReader,
  customerId: string,
  found: readonly FoundSeries[],
  shares: readonly Share[],
  edges: readonly bigint[],
  rules: FoldRules,
): Promise<Map<Range, { cells: readonly Cell[]; peaks: readonly bigint[] }>> {
  const list = found.flatMap((series, i) =>
    (shares[i]?.folded ?? [])
      .filter(({ fromNs, toNs }) => fromNs >= BigInt(series.sealedHour) * hourNs && toNs + hourNs > series.lastNs)
      .map(range => ({ seriesId: series.seriesId, vmId: series.vmId, isShared: series.isShared, range })),
  )
  const folded = new Map<Range, { cells: readonly Cell[]; peaks: readonly bigint[] }>()
  const plain = list.filter(({ isShared }) => !isShared)
  for (let at = 0; at < plain.length; at += tailsPerQuery) {
    const some = plain
      .slice(at, at + tailsPerQuery)
      .map(({ range, ...series }) => ({ ...series, range, fromNs: range.fromNs }))
    const tails = await openTails(reader, customerId, some, { edges, leaseNs: rules.leaseNs })
    for (const [i, { seriesId, range }] of some.entries()) {
      const tail = tails[i]
      if (tail === undefined || tail === null) continue
      const within = edgesWithin(edges, range)
      const { cells, add } = createCells(within)
      const peaks = createPeaks(within)
      const fold = startFold({ ...tail, rules }, add)
      for (const piece of tail.pieces) {
        await pushPiece(reader, seriesId, fold, piece)
        peaks.add(piece)
      }
      fold.finish()
      folded.set(range, { cells, peaks: peaks.peaks })
    }
  }
  return folded
}

const tailsPerQuery = 100

/** Of sealed hours nothing finer is left than the hour: a part of one gets its share by time. */
async function shareSealed(
  sql: Queryable,
  seriesId: bigint,
  range: { fromNs: bigint; toNs: bigint },
  edges: readonly bigint[],
) {
  const [from, to] = [Number(range.fromNs / hourNs), Number((range.toNs + hourNs - 1n) / hourNs)]
  const { cells, add } = createCells(edges)
  const peaks = cells.map(() => 0n)
  for (const { hour, cell, peak } of await readHours(sql, seriesId, { from, to })) {
    const [fromNs, toNs] = [BigInt(hour) * hourNs, BigInt(hour + 1) * hourNs]
    const span = edges.findLastIndex(edge => edge <= (fromNs > range.fromNs ? fromNs : range.fromNs))
    peaks[span] = larger(peaks[span] ?? 0n, peak)
    for (const { field, kind } of hourColumns) add({ field, kind, fromNs, toNs, amount: cell[field][kind] })
  }
  return cells.map((cell, span) => ({ span, cell, peak: peaks[span] ?? 0n }))
}

interface Share {
  summed: ({ seriesId: bigint } & HourRun)[]
  folded: { fromNs: bigint; toNs: bigint }[]
}

/** Which hours of a series are summed, and what is folded: everything between the first hour that is missing and the
 *  last, the parts of hours at the ends, and nothing where the series has no evidence. */
function shareOut(
  series: FoundSeries,
  cached: readonly HourRun[],
  whole: HourRun,
  fromNs: bigint,
  toNs: bigint,
): Share {
  const seen = {
    // What is used at one instant, a start and a reading of it, belongs to the hour that ends there.
    from: Math.max(whole.from, series.sealedHour, Number((series.firstNs - 1n) / hourNs)),
    to: Math.min(whole.to, Number(series.lastNs / hourNs) + 1),
  }
  const missing = missingIn(cached, seen)
  const summed = cached
    .flatMap(run =>
      missing === null
        ? [run]
        : [
            { ...run, to: Math.min(run.to, missing.from) },
            { ...run, from: Math.max(run.from, missing.to) },
          ],
    )
    .filter(run => run.from < run.to)
  const ns = (hour: number) => BigInt(hour) * hourNs
  const isWithinHour = whole.from > whole.to
  const ends = isWithinHour
    ? [{ fromNs, toNs }]
    : [
        { fromNs, toNs: ns(whole.from) },
        ...(missing === null ? [] : [{ fromNs: ns(missing.from), toNs: ns(missing.to) }]),
        { fromNs: ns(whole.to), toNs },
      ]
  const folded: { fromNs: bigint; toNs: bigint }[] = []
  for (const range of ends) {
    if (range.fromNs >= range.toNs || range.toNs < series.firstNs || range.fromNs > series.lastNs) continue
    const last = folded.at(-1)
    if (last?.toNs === range.fromNs && range.fromNs !== ns(series.sealedHour)) last.toNs = range.toNs
    else folded.push({ ...range })
  }
  return { summed: summed.map(run => ({ seriesId: series.seriesId, ...run })), folded }
}

/** From the first hour of a run that is not cached to the last; null when all are. */
function missingIn(cached: readonly HourRun[], seen: HourRun): HourRun | null {
  const holes = holesIn(cached, seen)
  const [first, last] = [holes[0], holes.at(-1)]
  return first === undefined || last === undefined ? null : { from: first.from, to: last.to }
}

/** A customer's event meters between neighbouring edges, by group. Of several contents under one identity the one with
 *  the lowest value counts, ties going to the smaller digest; voided events count nothing. */
export async function loadEventUsage(
  sql: Sql,
  meters: readonly Meter[],
  customerId: string,
  edges: readonly bigint[],
  asOf?: Date,
): Promise<EventUsage[]> {
  const toNs = edges.at(-1)
  if (toNs === undefined) return []
  const types = await eventTypesOf(sql, customerId, [...new Set(meters.map(({ eventType }) => eventType))], toNs)
  // Each meter is a query; together they take as long as the slowest.
  const ofEach = await Promise.all(
    meters
      .filter(({ eventType }) => types.has(eventType))
      .map(async meter => {
        const rows = await queryMeter(sql, meter, {
          edges,
          customerId,
          subjects: [],
          groupBy: Object.keys(meter.groupBy),
          filters: {},
          bySubject: false,
          byCustomer: false,
          ...(asOf === undefined ? {} : { asOf }),
        })
        return rows.map(({ span, group, quantityE9 }) => ({
          span,
          meter: meter.slug,
          unit: meter.unit,
          group,
          quantityE9,
        }))
      }),
  )
  return ofEach.flat()
}

/** Those of which a customer has any event before an instant: most customers have few, and a look costs less than a
 *  query for each meter. */
async function eventTypesOf(
  sql: Queryable,
  customerId: string,
  types: readonly string[],
  toNs: bigint,
): Promise<ReadonlySet<string>> {
  const rows = await sql<{ type: string }[]>`
    select t.type from unnest(${arrayLiteral(types)}::text::text[]) t (type)
    where exists (
      select 1 from billaged.usage_event e where e.customer_id = ${customerId} and e.type = t.type and e.at_ns < ${toNs}
    )`
  return new Set(rows.map(({ type }) => type))
}
