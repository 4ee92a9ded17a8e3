import type { Sql } from '#platform/postgres'
import { compareBigints } from '../bigint.ts'
import { CorruptPart, decodePart } from '../samples/part.ts'
import { type Reading, readingsOf } from '../samples/reading.ts'
import { hourOf, type Sample, sampleSet } from '../samples/sample.ts'
import { contextReadings, type Marks } from '../usage/fold.ts'

export interface Series {
  seriesId: bigint
  vmId: string
}

/** A customer's series that may have used something in [fromNs, toNs), in the order of their VMs. */
export async function findSeries(
  sql: Sql,
  customerId: string,
  fromNs: bigint,
  toNs: bigint,
  seriesMax: number,
  vmId: string | null = null,
): Promise<Series[]> {
  // `last_ns` may lag by a minute, and one reading outside on either side still spans the edge.
  const rows = await sql<Series[]>`
    select series_id as "seriesId", vm_id as "vmId" from billaged.series s
    where customer_id = ${customerId} and last_ns >= ${fromNs - 120_000_000_000n}
      and (${vmId}::text is null or vm_id = ${vmId})
      and (first_ns < ${toNs} or exists (
        select 1 from billaged.vm_mark m
        where m.vm_id = s.vm_id and m.customer_id = s.customer_id and m.kind = 'start' and m.at_ns < ${toNs}
      ))
    order by vm_id limit ${seriesMax + 1}`
  if (rows.length > seriesMax) throw new TooManySeries(customerId, seriesMax)
  return rows
}

/** Never an answer with a part of the VMs left out. */
export class TooManySeries extends Error {
  constructor(customerId: string, seriesMax: number) {
    super(`customer ${customerId} has more than ${seriesMax} VMs in this span; ask for a shorter one`)
    this.name = 'TooManySeries'
  }
}

/** What reading parts needs: the pool, and whom to tell of a part that does not decode. It is left out of the answer;
 *  the rest is read. */
export interface PartReader {
  sql: Sql
  onCorruptPart(error: CorruptPart, where: { seriesId: bigint; hour: number }): void
}

/** The readings of a series in [fromNs, toNs) with the context that folding them needs on both sides, in order of time,
 *  an hour at a time. `isContinued`: there are earlier ones. */
export async function loadReadings(
  reader: PartReader,
  seriesId: bigint,
  fromNs: bigint,
  toNs: bigint,
): Promise<{ isContinued: boolean; hours: AsyncIterable<Reading[]> }> {
  const before = await contextHour(reader, seriesId, fromNs, 'before')
  const after = await contextHour(reader, seriesId, toNs, 'after')
  const earlier = await reader.sql`
    select 1 from billaged.sample_part where series_id = ${seriesId} and hour < ${before} limit 1`
  return { isContinued: earlier.length > 0, hours: readHours(reader, seriesId, before, after) }
}

async function* readHours(
  reader: PartReader,
  seriesId: bigint,
  firstHour: number,
  lastHour: number,
): AsyncIterable<Reading[]> {
  let hour = firstHour
  let samples: Sample[] = []
  const parts = reader.sql<PartRow[]>`
    select hour, body from billaged.sample_part
    where series_id = ${seriesId} and hour between ${firstHour} and ${lastHour} order by hour`.cursor(200)
  for await (const rows of parts) {
    for (const row of rows) {
      if (row.hour !== hour && samples.length > 0) {
        yield readingsOf(sampleSet(samples))
        samples = []
      }
      hour = row.hour
      for (const sample of decode(reader, seriesId, row)) samples.push(sample)
    }
  }
  if (samples.length > 0) yield readingsOf(sampleSet(samples))
}

interface PartRow {
  hour: number
  body: Buffer
}

function decode(reader: PartReader, seriesId: bigint, row: PartRow): Sample[] {
  try {
    return decodePart(row.body)
  } catch (error) {
    if (!(error instanceof CorruptPart)) throw error
    reader.onCorruptPart(error, { seriesId, hour: row.hour })
    return []
  }
}

/** The hour to begin (or end) reading at so that `contextReadings` instants lie before (or after) the window, or the
 *  series' first (or last) when it has not that many. A part may repeat instants of another or hold no reading, so
 *  instants are counted and not parts. */
async function contextHour(
  reader: PartReader,
  seriesId: bigint,
  edgeNs: bigint,
  side: 'before' | 'after',
): Promise<number> {
  const times = new Set<bigint>()
  let hour = hourOf(edgeNs)
  // The edge's own hour first; fast senders need no more, for slow ones the steps double.
  for (let hours = 1, next = hour; times.size < contextReadings; hours *= 2) {
    const rows = await nextParts(reader.sql, seriesId, next, side, hours)
    if (rows.length === 0) return hour
    for (const row of rows) {
      for (const reading of readingsOf(decode(reader, seriesId, row)))
        if (side === 'before' ? reading.atNs < edgeNs : reading.atNs >= edgeNs) times.add(reading.atNs)
      hour = row.hour
    }
    next = side === 'before' ? hour - 1 : hour + 1
  }
  return hour
}

/** All parts of the next `hours` hours that have any, from `hour` away from the window. */
function nextParts(sql: Sql, seriesId: bigint, hour: number, side: 'before' | 'after', hours: number) {
  const chosen =
    side === 'before'
      ? sql`select distinct hour from billaged.sample_part
            where series_id = ${seriesId} and hour <= ${hour} order by hour desc limit ${hours}`
      : sql`select distinct hour from billaged.sample_part
            where series_id = ${seriesId} and hour >= ${hour} order by hour limit ${hours}`
  const order = side === 'before' ? sql`desc` : sql`asc`
  return sql<PartRow[]>`
    select hour, body from billaged.sample_part join (${chosen}) h using (hour)
    where series_id = ${seriesId} order by hour ${order}`
}

/** The marks of a customer's VM. A mark without tenant belongs to the customer whose series of that VM has the latest
 *  evidence at or before it. */
export async function loadMarks(reader: PartReader, customerId: string, vmId: string): Promise<Marks> {
  const { sql } = reader
  const rows = await sql<MarkRow[]>`
    select customer_id as "customerId", kind, at_ns as "atNs", until_ns as "untilNs" from billaged.vm_mark
    where vm_id = ${vmId} and (customer_id is null or customer_id = ${customerId})`
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

function sharers(sql: Sql, customerId: string, vmId: string) {
  return sql`select 1 from billaged.series where vm_id = ${vmId} and customer_id <> ${customerId} limit 1`
}

/** Of several customers with a VM of one name: whose was read or started last at or before an instant. */
async function ownerOf(reader: PartReader, vmId: string, atNs: bigint): Promise<string | null> {
  const candidates = await reader.sql<{ customerId: string; seriesId: bigint; startNs: bigint | null }[]>`
    select s.customer_id as "customerId", s.series_id as "seriesId",
      (select max(at_ns) from billaged.vm_mark m
       where m.vm_id = s.vm_id and m.customer_id = s.customer_id and m.kind = 'start' and m.at_ns <= ${atNs}) as "startNs"
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

async function latestReading(reader: PartReader, seriesId: bigint, atNs: bigint): Promise<bigint | null> {
  const rows = await reader.sql<PartRow[]>`
    select hour, body from billaged.sample_part
    where series_id = ${seriesId} and hour = (
      select max(hour) from billaged.sample_part
      where series_id = ${seriesId} and hour <= ${hourOf(atNs)} and min_ns <= ${atNs})`
  const times = rows
    .flatMap(row => readingsOf(decode(reader, seriesId, row)))
    .map(reading => reading.atNs)
    .filter(ns => ns <= atNs)
  return times.sort(compareBigints).at(-1) ?? null
}
