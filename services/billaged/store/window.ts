import { compareBigints } from '../bigint.ts'
import { type Reading, readingsOf } from '../samples/reading.ts'
import { hourOf, type Sample, sampleSet } from '../samples/sample.ts'
import { contextReadings, isContext } from '../usage/context.ts'
import type { FoldRules } from '../usage/fold.ts'
import { type Hosts, noHosts } from '../usage/hosts.ts'
import { type Marks, noMarks } from '../usage/marks.ts'
import { maxNs } from './invalidate.ts'
import { loadHosts } from './leases.ts'
import { decodeRow, type PartRow, type SampleReader } from './parts.ts'
import { loadMarks, type Series } from './series.ts'

/** A span of a series with everything that folding it needs. */
export interface SeriesWindow {
  marks: Marks
  hosts: Hosts
  /** There are readings before the first one given. */
  isContinued: boolean
  /** In order of time, an hour or less at a time. */
  readings: AsyncIterable<Reading[]>
  /** What the span's usage rests on: facts outside change nothing in it. Null: everything before, or after. */
  reads: { fromNs: bigint | null; toNs: bigint | null }
}

/** Reads [fromNs, toNs) of a series with as many readings on both sides as change how the span folds. */
export async function openWindow(
  reader: SampleReader,
  series: Series & { customerId: string },
  fromNs: bigint,
  toNs: bigint,
  rules: FoldRules,
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
    readings: readBetween(reader, seriesId, since, until),
    reads: { fromNs: since, toNs: until },
  }
}

function hostsOf(
  { sql }: SampleReader,
  { customerId, vmId, hasListings }: Series & { customerId: string },
  fromNs: bigint,
  toNs: bigint,
  { leaseNs }: FoldRules,
): Promise<Hosts> | Hosts {
  if (hasListings === false) return { ...noHosts, leaseNs }
  return loadHosts(sql, { customerId, vmId, fromNs, toNs, leaseNs })
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

function nextParts({ sql }: SampleReader, seriesId: bigint, edgeNs: bigint, side: 'before' | 'after', limit: number) {
  return side === 'before'
    ? sql<(PartRow & { boundNs: bigint })[]>`
        select hour, body, max_ns as "boundNs" from billaged.sample_part
        where series_id = ${seriesId} and hour <= ${hourOf(edgeNs - 1n)} and min_ns < ${edgeNs}
        order by hour desc, max_ns desc limit ${limit}`
    : sql<(PartRow & { boundNs: bigint })[]>`
        select hour, body, min_ns as "boundNs" from billaged.sample_part
        where series_id = ${seriesId} and hour >= ${hourOf(edgeNs)} and max_ns >= ${edgeNs}
        order by hour, min_ns limit ${limit}`
}

async function* readBetween(
  reader: SampleReader,
  seriesId: bigint,
  since: bigint | null,
  until: bigint | null,
): AsyncIterable<Reading[]> {
  let hour: number | null = null
  let samples: Sample[] = []
  const take = () => {
    // A part at the edge may hold more than was asked for, beside parts that were not read.
    const within = samples.filter(({ atNs }) => (since === null || atNs >= since) && (until === null || atNs <= until))
    samples = []
    return readingsOf(sampleSet(within))
  }
  const { sql } = reader
  const parts = sql<PartRow[]>`
    select hour, body from billaged.sample_part
    where series_id = ${seriesId}
      ${since === null ? sql`` : sql`and hour >= ${hourOf(since)} and max_ns >= ${since}`}
      ${until === null ? sql`` : sql`and hour <= ${hourOf(until)} and min_ns <= ${until}`}
    order by hour`.cursor(200)
  for await (const rows of parts) {
    for (const row of rows) {
      if (row.hour !== hour && samples.length > 0) yield take()
      hour = row.hour
      for (const sample of decodeRow(reader, seriesId, row)) samples.push(sample)
    }
  }
  if (samples.length > 0) yield take()
}
