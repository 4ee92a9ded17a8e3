import { arrayLiteral } from '#platform/postgres'
import { type Reading, readingsOf } from '../samples/reading.ts'
import { sampleSet } from '../samples/sample.ts'
import { decodeSummary, type PartSummary } from '../samples/summary.ts'
import type { Fold } from '../usage/fold.ts'
import { decodeRow, type SampleReader } from './parts.ts'

/** Readings in order of time, or all of a plain part by what they come to. */
export type Piece = Reading[] | StoredRun

export interface StoredRun {
  run: PartSummary
  part: PartHead
}

/** A part; its body, unless a summary may do. */
export interface PartHead {
  hour: number
  digest: Buffer
  n: number
  minNs: bigint
  maxNs: bigint
  summary: Buffer | null
  body: Buffer | null
}

export interface PieceOptions {
  /** What is read: nothing outside. */
  since: bigint | null
  until: bigint | null
  /** A run must not reach over one of them. Null: no runs at all. */
  edges: readonly bigint[] | null
}

/** Some parts of a series, in any order, as pieces in order of time. All parts of the hours they are of must be among
 *  them: parts of one time are read together. */
export async function piecesOf(
  reader: SampleReader,
  seriesId: bigint,
  parts: readonly PartHead[],
  o: PieceOptions,
): Promise<Piece[]> {
  const clusters = clustersOf(parts)
  const runs = clusters.map(cluster => runOf(cluster, o))
  await loadBodies(reader, seriesId, clusters.filter((_, i) => runs[i] === null).flat())
  return clusters.map((cluster, i): Piece => runs[i] ?? readingsWithin(reader, seriesId, cluster, o))
}

/** Pushes a piece; a run that the fold cannot take as one is pushed reading by reading. */
export async function pushPiece(reader: SampleReader, seriesId: bigint, fold: Fold, piece: Piece): Promise<void> {
  if (!Array.isArray(piece)) {
    if (fold.pushRun(piece.run)) return
    await loadBodies(reader, seriesId, [piece.part])
    for (const reading of readingsOf(sampleSet(decode(reader, seriesId, piece.part)))) fold.push(reading)
    return
  }
  for (const reading of piece) fold.push(reading)
}

/** Parts that overlap, together. */
function clustersOf(parts: readonly PartHead[]): PartHead[][] {
  const clusters: PartHead[][] = []
  let endNs: bigint | null = null
  for (const part of parts.toSorted((a, b) => (a.minNs < b.minNs ? -1 : a.minNs > b.minNs ? 1 : 0))) {
    const last = clusters.at(-1)
    if (last === undefined || endNs === null || part.minNs > endNs) clusters.push([part])
    else last.push(part)
    if (endNs === null || part.maxNs > endNs) endNs = part.maxNs
  }
  return clusters
}

function runOf(cluster: readonly PartHead[], { since, until, edges }: PieceOptions): StoredRun | null {
  const [part, another] = cluster
  if (edges === null || part === undefined || another !== undefined || part.summary === null) return null
  const { minNs, maxNs } = part
  if ((since !== null && minNs < since) || (until !== null && maxNs > until)) return null
  if (edges.some(edge => edge > minNs && edge <= maxNs)) return null
  const run = decodeSummary(part.summary, { count: part.n, minNs, maxNs })
  return run === null ? null : { run, part }
}

function readingsWithin(
  reader: SampleReader,
  seriesId: bigint,
  cluster: readonly PartHead[],
  { since, until }: PieceOptions,
): Reading[] {
  const samples = cluster.flatMap(part => decode(reader, seriesId, part))
  // A part at the edge may hold more than was asked for, beside parts that were not read.
  const within = samples.filter(({ atNs }) => (since === null || atNs >= since) && (until === null || atNs <= until))
  return readingsOf(sampleSet(within))
}

function decode(reader: SampleReader, seriesId: bigint, { hour, body }: PartHead) {
  return body === null ? [] : decodeRow(reader, seriesId, { hour, body })
}

async function loadBodies({ sql }: SampleReader, seriesId: bigint, parts: readonly PartHead[]): Promise<void> {
  const missing = parts.filter(part => part.body === null)
  for (let i = 0; i < missing.length; i += bodiesPerQuery) {
    const some = missing.slice(i, i + bodiesPerQuery)
    const rows = await sql<{ hour: number; digest: Buffer; body: Buffer }[]>`
      select p.hour, p.digest, p.body from unnest(
        ${arrayLiteral(some.map(({ hour }) => hour))}::text::int4[],
        ${arrayLiteral(some.map(({ digest }) => `\\x${digest.toString('hex')}`))}::text::bytea[]
      ) t (hour, digest) join billaged.sample_part p
        on p.series_id = ${seriesId} and p.hour = t.hour and p.digest = t.digest`
    const bodies = new Map(rows.map(row => [`${row.hour} ${row.digest.toString('hex')}`, row.body]))
    for (const part of some) part.body = bodies.get(`${part.hour} ${part.digest.toString('hex')}`) ?? null
  }
}

const bodiesPerQuery = 500
