import { arrayLiteral, type Queryable } from '#platform/postgres'
import { compareBigints, larger } from '../bigint.ts'
import { readingsOf } from '../samples/reading.ts'
import { hourOf } from '../samples/sample.ts'
import { contextReadings } from '../usage/context.ts'
import { disputeNs, type Hosts, type Run } from '../usage/hosts.ts'
import type { Marks } from '../usage/marks.ts'
import { unionOfRuns } from './leases.ts'
import { decodeRow, type PartRow, type SampleReader } from './parts.ts'
import { type PartHead, type Piece, piecesOf } from './pieces.ts'

// The newest part of many series of one customer, from an edge on to the end, with all that folding it needs: a handful of
// queries for all of them. What is out of the ordinary is left to window.ts, a series at a time.

export interface TailOf {
  seriesId: bigint
  vmId: string
  /** From where on it is wanted. */
  fromNs: bigint
}

export interface Facts {
  marks: Marks
  hosts: Hosts
}

export interface Tail extends Facts {
  /** There are readings before the first one given. */
  isContinued: boolean
  pieces: Piece[]
}

const dayNs = 86_400_000_000_000n

/** In the order asked for; null for a series to be folded by itself. None may share its VM id with another customer. */
export async function openTails(
  reader: SampleReader,
  customerId: string,
  list: readonly TailOf[],
  o: { edges: readonly bigint[]; leaseNs: bigint },
): Promise<(Tail | null)[]> {
  const since = await contextsBefore(reader, list)
  const begins = list.map(({ fromNs }, i) => since[i] ?? fromNs)
  const [heads, facts] = await Promise.all([
    loadHeads(
      reader.sql,
      list.map(({ seriesId }, i) => ({ seriesId, sinceNs: since[i] ?? null })),
    ),
    loadFacts(reader.sql, customerId, list, begins, o.leaseNs),
  ])
  const tails: (Tail | null)[] = []
  for (const [i, { seriesId }] of list.entries()) {
    const [sinceNs, known, parts] = [since[i], facts[i], heads[i]]
    if (sinceNs === undefined || known === undefined || known === null || parts === undefined || parts === null) {
      tails.push(null)
      continue
    }
    const pieces = await piecesOf(reader, seriesId, parts, { since: sinceNs, until: null, edges: o.edges })
    tails.push({ ...known, isContinued: sinceNs !== null, pieces })
  }
  return tails
}

/** Marks and hosts of many VMs. Null: two hosts may dispute something since. */
export async function loadFacts(
  sql: Queryable,
  customerId: string,
  list: readonly { vmId: string }[],
  begins: readonly bigint[],
  leaseNs: bigint,
): Promise<(Facts | null)[]> {
  const ids = arrayLiteral(list.map(({ vmId }) => vmId))
  const firstDay = Number(begins.reduce((least, ns) => (ns < least ? ns : least), 2n ** 62n) / dayNs) - 1
  const [marks, firsts, spans] = await Promise.all([
    sql<{ vmId: string; kind: string; atNs: bigint; untilNs: bigint | null }[]>`
      select vm_id as "vmId", kind, at_ns as "atNs", until_ns as "untilNs"
      from unnest(${ids}::text::text[]) t (vm_id) join billaged.vm_mark using (vm_id)
      where customer_id is null or customer_id = ${customerId} order by at_ns`,
    sql<{ vmId: string; atNs: bigint }[]>`
      select t.vm_id as "vmId", f.at as "atNs" from unnest(${ids}::text::text[]) t (vm_id), lateral (
        select min(lower(spans)) as at from billaged.vm_lease
        where vm_id = t.vm_id and day = (select min(day) from billaged.vm_lease where vm_id = t.vm_id)
      ) f where f.at is not null`,
    sql<{ vmId: string; instanceId: string; fromNs: bigint; toNs: bigint }[]>`
      select vm_id as "vmId", instance_id as "instanceId", lower(span) as "fromNs", upper(span) as "toNs" from (
        select vm_id, instance_id, unnest(range_agg(spans)) as span
        from unnest(${ids}::text::text[]) t (vm_id) join billaged.vm_lease using (vm_id)
        where day >= ${firstDay} group by vm_id, instance_id
      ) s order by vm_id, instance_id, 3`,
  ])
  const marksOf = Map.groupBy(marks, ({ vmId }) => vmId)
  const firstOf = new Map(firsts.map(({ vmId, atNs }) => [vmId, atNs]))
  const spansOf = Map.groupBy(spans, ({ vmId }) => vmId)
  return list.map(({ vmId }, i): Facts | null => {
    const mine = marksOf.get(vmId) ?? []
    const times = (kind: string) => mine.filter(mark => mark.kind === kind).map(mark => mark.atNs)
    const gaps = mine.filter(mark => mark.kind === 'gap')
    const hosts = hostsOf(spansOf.get(vmId) ?? [], firstOf.get(vmId) ?? null, leaseNs, begins[i] ?? 0n)
    if (hosts.ofEach.length > 1) return null
    return {
      marks: {
        starts: times('start'),
        stops: times('stop'),
        gaps: gaps.map(({ atNs, untilNs }) => ({ fromNs: atNs, untilNs: untilNs ?? atNs })),
      },
      hosts,
    }
  })
}

/** `ofEach` without hosts that were silent long before the beginning: they dispute nothing any more. */
function hostsOf(
  spans: readonly { instanceId: string; fromNs: bigint; toNs: bigint }[],
  firstListedNs: bigint | null,
  leaseNs: bigint,
  beginNs: bigint,
): Hosts {
  const byHost = new Map<string, Run[]>()
  for (const { instanceId, fromNs, toNs } of spans) {
    const runs = byHost.get(instanceId) ?? []
    byHost.set(instanceId, runs)
    runs.push({ fromNs, lastNs: larger(fromNs, toNs - leaseNs) })
  }
  const ofEach = [...byHost.values()]
  const isNear = (runs: readonly Run[]) => (runs.at(-1)?.lastNs ?? 0n) >= beginNs - 2n * disputeNs
  return { leaseNs, runs: unionOfRuns(ofEach.flat(), leaseNs), ofEach: ofEach.filter(isNear), firstListedNs }
}

/** The parts of many series that reach to `sinceNs` or beyond; null of one that has very many. */
export async function loadHeads(
  sql: Queryable,
  list: readonly { seriesId: bigint; sinceNs: bigint | null }[],
): Promise<(PartHead[] | null)[]> {
  const rows = await sql<(PartHead & { at: bigint })[]>`
    select t.at, p.* from unnest(
      ${arrayLiteral(list.map(({ seriesId }) => seriesId))}::text::int8[],
      ${arrayLiteral(list.map(({ sinceNs }) => (sinceNs === null ? -(2n ** 31n) : hourOf(sinceNs))))}::text::int4[],
      ${arrayLiteral(list.map(({ sinceNs }) => sinceNs ?? -(2n ** 63n)))}::text::int8[]
    ) with ordinality t (series_id, hour, since_ns, at), lateral (
      select hour, digest, n, min_ns as "minNs", max_ns as "maxNs", summary, case when summary is null then body end as body
      from billaged.sample_part s
      where s.series_id = t.series_id and s.hour >= t.hour and s.max_ns >= t.since_ns limit ${partsMax}
    ) p`
  const heads = list.map((): PartHead[] => [])
  for (const { at, ...head } of rows) heads[Number(at) - 1]?.push(head)
  return heads.map(parts => (parts.length < partsMax ? parts : null))
}

/** A series with more parts since its last kept hour is read by itself, in pieces. */
const partsMax = 2_000

/** Of each series an instant with enough readings from there to its edge, null when it has none or few before the edge, or
 *  undefined when that takes more than a look at the nearest parts. */
async function contextsBefore(reader: SampleReader, list: readonly TailOf[]): Promise<(bigint | null | undefined)[]> {
  const nearest = await partsBefore(reader.sql, list, 1)
  const since = list.map(({ fromNs }, i): bigint | null | undefined => {
    const [part] = nearest[i] ?? []
    if (part === undefined) return null
    // A part with a summary has more readings than are wanted.
    return part.isPlain && part.maxNs < fromNs ? part.minNs : undefined
  })
  const open = list.flatMap((of, i) => (since[i] === undefined ? [{ ...of, i }] : []))
  if (open.length === 0) return since
  const more = await partsBefore(reader.sql, open, partsLookedAt)
  for (const [k, { i, seriesId, fromNs }] of open.entries()) {
    const parts = more[k] ?? []
    const times = new Set<bigint>()
    const boundNs = parts.length < partsLookedAt ? null : (parts.at(-1)?.maxNs ?? null)
    for (const { hour, body } of parts)
      for (const { atNs } of readingsOf(decodeRow(reader, seriesId, { hour, body })))
        if (atNs < fromNs && (boundNs === null || atNs > boundNs)) times.add(atNs)
    const found = [...times].sort((a, b) => compareBigints(b, a))[contextReadings - 1]
    if (found !== undefined) since[i] = found
    else if (boundNs === null) since[i] = null
  }
  return since
}

/** Enough for the readings wanted when each came alone, and some came twice. */
const partsLookedAt = 40

async function partsBefore(sql: Queryable, list: readonly TailOf[], limit: number) {
  const rows = await sql<(PartRow & { at: bigint; minNs: bigint; maxNs: bigint; isPlain: boolean })[]>`
    select t.at, p.* from unnest(
      ${arrayLiteral(list.map(({ seriesId }) => seriesId))}::text::int8[],
      ${arrayLiteral(list.map(({ fromNs }) => hourOf(fromNs - 1n)))}::text::int4[],
      ${arrayLiteral(list.map(({ fromNs }) => fromNs))}::text::int8[]
    ) with ordinality t (series_id, hour, edge_ns, at), lateral (
      select hour, min_ns as "minNs", max_ns as "maxNs", summary is not null as "isPlain",
        ${limit === 1 ? sql`''::bytea` : sql`body`} as body
      from billaged.sample_part s
      where s.series_id = t.series_id and s.hour <= t.hour and s.min_ns < t.edge_ns
      order by hour desc, max_ns desc limit ${limit}
    ) p order by t.at, p.hour desc, p."maxNs" desc`
  const parts = list.map((): (typeof rows)[number][] => [])
  for (const row of rows) parts[Number(row.at) - 1]?.push(row)
  return parts
}
