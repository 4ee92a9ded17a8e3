import type { Queryable } from '#platform/postgres'
import { compareBigints } from '../bigint.ts'
import { readingsOf } from '../samples/reading.ts'
import { hourOf } from '../samples/sample.ts'
import type { Marks } from '../usage/marks.ts'
import { decodeRow, knownBy, type PartRow, type SampleReader } from './parts.ts'

export type { PartReader } from './parts.ts'

export interface Series {
  seriesId: bigint
  vmId: string
  /** False: known to have none, in the snapshot it was found in. */
  hasMarks?: boolean
  hasListings?: boolean
}

/** With the instants between which all evidence of it lies; minutes or a lease may be too many, never too few. */
export interface FoundSeries extends Series {
  firstNs: bigint
  lastNs: bigint
  /** Hours before it are final. */
  sealedHour: number
  /** Another customer has a VM of that id. */
  isShared: boolean
}

/** VMs with evidence since an instant, by the minute. */
export async function seenSince(sql: Queryable, fromNs: bigint, limit: number) {
  return sql<{ customerId: string; vmId: string }[]>`
    select customer_id as "customerId", vm_id as "vmId" from billaged.series where last_ns >= ${fromNs}
    order by customer_id, vm_id limit ${limit}`
}

/** A customer's series that may have used something in [fromNs, toNs), in the order of their VMs. */
export async function findSeries(
  sql: Queryable,
  customerId: string,
  fromNs: bigint,
  toNs: bigint,
  seriesMax: number,
  vmId: string | null = null,
): Promise<FoundSeries[]> {
  const rows = await sql<FoundSeries[]>`
    select series_id as "seriesId", vm_id as "vmId", sealed_hour as "sealedHour", first_ns as "firstNs",
      exists (
        select 1 from billaged.series o where o.vm_id = s.vm_id and o.customer_id <> s.customer_id) as "isShared",
      exists (select 1 from billaged.vm_mark m where m.vm_id = s.vm_id) as "hasMarks",
      exists (select 1 from billaged.vm_lease l where l.vm_id = s.vm_id) as "hasListings",
      greatest(
        last_ns + ${besideNs}, (select max(at_ns) from billaged.vm_mark m where m.vm_id = s.vm_id),
        (select max(upper(spans)) from billaged.vm_lease l where l.vm_id = s.vm_id and l.day = (
          select max(day) from billaged.vm_lease where vm_id = s.vm_id))) as "lastNs"
    from billaged.series s
    where customer_id = ${customerId} and (${vmId}::text is null or vm_id = ${vmId}) and ${mayTouch(sql, fromNs, toNs)}
    order by vm_id limit ${seriesMax + 1}`
  if (rows.length > seriesMax) throw new TooManySeries(customerId, seriesMax)
  return rows
}

/** Of a series `s`: it may have used something in [fromNs, toNs). */
export function mayTouch(sql: Queryable, fromNs: bigint, toNs: bigint) {
  return sql`s.first_ns < ${toNs} and (
    s.last_ns >= ${fromNs - besideNs}
    -- Silent, but heard of: a host went on listing it, or it was stopped later.
    or exists (select 1 from billaged.vm_lease l where l.vm_id = s.vm_id and l.day >= ${Number(fromNs / dayNs) - 1})
    or exists (select 1 from billaged.vm_mark m where m.vm_id = s.vm_id and m.at_ns >= ${fromNs}))`
}

/** One reading outside a span still spans its edge. */
const besideNs = 120_000_000_000n
const dayNs = 86_400_000_000_000n

/** Never an answer with a part of the VMs left out. */
export class TooManySeries extends Error {
  constructor(customerId: string, seriesMax: number) {
    super(`customer ${customerId} has more than ${seriesMax} VMs in this span; ask for a shorter one`)
    this.name = 'TooManySeries'
  }
}

/** The marks of a customer's VM. A mark without tenant belongs to the customer whose series of that VM has the latest
 *  evidence at or before it. */
export async function loadMarks(reader: SampleReader, customerId: string, vmId: string): Promise<Marks> {
  const { sql, asOf } = reader
  const rows = await sql<MarkRow[]>`
    select customer_id as "customerId", kind, at_ns as "atNs", until_ns as "untilNs" from billaged.vm_mark
    where vm_id = ${vmId} and (customer_id is null or customer_id = ${customerId}) ${knownBy(sql, asOf)}`
  const others = rows.some(row => row.customerId === null) ? await sharers(sql, customerId, vmId) : []
  const mine: MarkRow[] = []
  for (const row of rows)
    if (row.customerId !== null || others.length === 0 || (await ownerOf(reader, vmId, row.atNs)) === customerId)
      mine.push(row)
  const times = (kind: string) =>
    mine
      .filter(row => row.kind === kind)
      .map(row => row.atNs)
      .sort(compareBigints)
  return {
    starts: times('start'),
    stops: times('stop'),
    gaps: mine.filter(row => row.kind === 'gap').map(row => ({ fromNs: row.atNs, untilNs: row.untilNs ?? row.atNs })),
  }
}

interface MarkRow {
  customerId: string | null
  kind: string
  atNs: bigint
  untilNs: bigint | null
}

function sharers(sql: Queryable, customerId: string, vmId: string) {
  return sql`select 1 from billaged.series where vm_id = ${vmId} and customer_id <> ${customerId} limit 1`
}

/** Of several customers with a VM of one name: whose was read or started last at or before an instant. */
async function ownerOf(reader: SampleReader, vmId: string, atNs: bigint): Promise<string | null> {
  const candidates = await reader.sql<{ customerId: string; seriesId: bigint; startNs: bigint | null }[]>`
    select s.customer_id as "customerId", s.series_id as "seriesId",
      (select max(at_ns) from billaged.vm_mark m
       where m.vm_id = s.vm_id and m.customer_id = s.customer_id and m.kind = 'start' and m.at_ns <= ${atNs}
         ${knownBy(reader.sql, reader.asOf)}) as "startNs"
    from billaged.series s where s.vm_id = ${vmId} order by s.customer_id`
  let owner: { customerId: string; atNs: bigint } | null = null
  for (const { customerId, seriesId, startNs } of candidates) {
    const readNs = await latestReading(reader, seriesId, atNs)
    const evidence = [startNs, readNs]
      .filter(ns => ns !== null)
      .sort(compareBigints)
      .at(-1)
    if (evidence !== undefined && (owner === null || evidence > owner.atNs)) owner = { customerId, atNs: evidence }
  }
  return owner?.customerId ?? null
}

async function latestReading(reader: SampleReader, seriesId: bigint, atNs: bigint): Promise<bigint | null> {
  const rows = await reader.sql<PartRow[]>`
    select hour, body from billaged.sample_part
    where series_id = ${seriesId} and hour = (
      select max(hour) from billaged.sample_part
      where series_id = ${seriesId} and hour <= ${hourOf(atNs)} and min_ns <= ${atNs} ${knownBy(reader.sql, reader.asOf)})
      ${knownBy(reader.sql, reader.asOf)}`
  const times = rows
    .flatMap(row => readingsOf(decodeRow(reader, seriesId, row)))
    .map(reading => reading.atNs)
    .filter(ns => ns <= atNs)
  return times.sort(compareBigints).at(-1) ?? null
}
