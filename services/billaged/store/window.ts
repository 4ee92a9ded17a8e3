import { compareBigints } from '../bigint.ts'
import { readingsOf } from '../samples/reading.ts'
import { hourOf } from '../samples/sample.ts'
import { contextReadings, isContext } from '../usage/context.ts'
import type { FoldRules } from '../usage/fold.ts'
import { type Hosts, noHosts } from '../usage/hosts.ts'
import { type Marks, noMarks } from '../usage/marks.ts'
import { maxNs } from './invalidate.ts'
import { loadHosts } from './leases.ts'
import { decodeRow, knownBy, type PartRow, type SampleReader } from './parts.ts'
import { type PartHead, type Piece, type PieceOptions, piecesOf } from './pieces.ts'
import { loadMarks, type Series } from './series.ts'

/** A span of a series with everything that folding it needs. */
export interface SeriesWindow {
  marks: Marks
  hosts: Hosts
  /** There are readings before the first one given. */
  isContinued: boolean
  /** In order of time. */
  pieces: AsyncIterable<Piece>
  /** What the span's usage rests on: facts outside change nothing in it. Null: everything before, or after. */
  reads: { fromNs: bigint | null; toNs: bigint | null }
}

/** Reads [fromNs, toNs) of a series with as many readings on both sides as change how the span folds. `edges`: where
 *  plain parts may be told by what they come to, unless they reach over one of them; null: every reading is wanted. */
export async function openWindow(
  reader: SampleReader,
  series: Series & { customerId: string },
  fromNs: bigint,
  toNs: bigint,
  rules: FoldRules,
  edges: readonly bigint[] | null,
): Promise<SeriesWindow> {
  const { seriesId } = series
  // None waits for another's answer; on one connection they are sent together.
  const [until, since, marks] = await Promise.all([
    contextAfter(reader, seriesId, toNs),
    contextBefore(reader, series, fromNs, rules),
    series.hasMarks === false ? noMarks : loadMarks(reader, series.customerId, series.vmId),
  ])
  // Behind the last reading listings alone draw a life out, however late they come.
  const hosts = await hostsOf(reader, series, since ?? fromNs, until ?? maxNs, rules)
  return {
    marks,
    hosts,
    isContinued: since !== null,
    // What two hosts dispute is never told as a run.
    pieces: readBetween(reader, seriesId, { since, until, edges: hosts.ofEach.length > 1 ? null : edges }),
    reads: { fromNs: since, toNs: until },
  }
}

function hostsOf(
  { sql, asOf }: SampleReader,
  { customerId, vmId, hasListings }: Series & { customerId: string },
  fromNs: bigint,
  toNs: bigint,
  { leaseNs }: FoldRules,
): Promise<Hosts> | Hosts {
  if (hasListings === false) return { ...noHosts, leaseNs }
  return loadHosts(sql, { customerId, vmId, fromNs, toNs, leaseNs, ...(asOf === undefined ? {} : { asOf }) })
}

/** The last instant to read: that of the last of `contextReadings` at or after an edge; null when there are fewer. */
async function contextAfter(reader: SampleReader, seriesId: bigint, edgeNs: bigint): Promise<bigint | null> {
  return (await instantsBeside(reader, seriesId, edgeNs, 'after', contextReadings))?.at(-1) ?? null
}

/** The first instant to read. In a stretch that two hosts dispute the fold remembers how high counters stood, so it has
 *  to begin before the stretch does. */
export async function contextBefore(
  reader: SampleReader,
  series: Series & { customerId: string },
  edgeNs: bigint,
  rules: FoldRules,
): Promise<bigint | null> {
  for (let wanted = contextReadings; ; wanted *= 2) {
    const instants = await instantsBeside(reader, series.seriesId, edgeNs, 'before', wanted)
    const first = instants?.at(-1)
    if (instants === null || first === undefined) return null
    const hosts = await hostsOf(reader, series, first, edgeNs, rules)
    if (isContext(instants.toReversed(), hosts)) return first
  }
}

/** The instants of the `wanted` readings next to an edge, nearest first; null when the series has fewer. A part may
 *  repeat instants of another or hold no reading, so instants are counted and not samples. */
export async function instantsBeside(
  reader: SampleReader,
  seriesId: bigint,
  edgeNs: bigint,
  side: 'before' | 'after',
  wanted: number,
): Promise<bigint[] | null> {
  for (let limit = 4; ; limit *= 4) {
    const rows = await nextParts(reader, seriesId, edgeNs, side, limit)
    const last = rows.at(-1)
    const isAll = rows.length < limit
    const times = new Set<bigint>()
    for (const row of rows)
      for (const { atNs } of readingsOf(decodeRow(reader, seriesId, row))) {
        const isBeside = side === 'before' ? atNs < edgeNs : atNs >= edgeNs
        // Parts overlap: beyond the bound of the last one there may be instants of parts that were not read.
        const isKnown = isAll || last === undefined || (side === 'before' ? atNs > last.boundNs : atNs < last.boundNs)
        if (isBeside && isKnown) times.add(atNs)
      }
    const nearest = [...times].sort(side === 'before' ? (a, b) => compareBigints(b, a) : compareBigints)
    if (nearest.length >= wanted) return nearest.slice(0, wanted)
    if (isAll) return null
  }
}

function nextParts(
  { sql, asOf }: SampleReader,
  seriesId: bigint,
  edgeNs: bigint,
  side: 'before' | 'after',
  limit: number,
) {
  return side === 'before'
    ? sql<(PartRow & { boundNs: bigint })[]>`
        select hour, body, max_ns as "boundNs" from billaged.sample_part
        where series_id = ${seriesId} and hour <= ${hourOf(edgeNs - 1n)} and min_ns < ${edgeNs} ${knownBy(sql, asOf)}
        order by hour desc, max_ns desc limit ${limit}`
    : sql<(PartRow & { boundNs: bigint })[]>`
        select hour, body, min_ns as "boundNs" from billaged.sample_part
        where series_id = ${seriesId} and hour >= ${hourOf(edgeNs)} and max_ns >= ${edgeNs} ${knownBy(sql, asOf)}
        order by hour, min_ns limit ${limit}`
}

async function* readBetween(reader: SampleReader, seriesId: bigint, o: PieceOptions): AsyncIterable<Piece> {
  const { since, until, edges } = o
  const { sql, asOf } = reader
  const body = edges === null ? sql`body` : sql`case when summary is null then body end as body`
  let parts: PartHead[] = []
  for (;;) {
    const last = parts.at(-1)
    const rows = await sql<PartHead[]>`
      select hour, digest, n, min_ns as "minNs", max_ns as "maxNs", summary, ${body} from billaged.sample_part
      where series_id = ${seriesId}
        ${since === null ? sql`` : sql`and hour >= ${hourOf(since)} and max_ns >= ${since}`}
        ${until === null ? sql`` : sql`and hour <= ${hourOf(until)} and min_ns <= ${until}`}
        ${last === undefined ? sql`` : sql`and (hour, digest) > (${last.hour}, ${last.digest})`}
        ${knownBy(sql, asOf)}
      order by hour, digest limit ${partsPerQuery}`
    parts.push(...rows)
    const isAll = rows.length < partsPerQuery
    const openHour = isAll ? null : parts.at(-1)?.hour
    const [whole, open] = [parts.filter(part => part.hour !== openHour), parts.filter(part => part.hour === openHour)]
    if (whole.length > 0) yield* await piecesOf(reader, seriesId, whole, o)
    if (isAll) return
    parts = open
  }
}

const partsPerQuery = 500
