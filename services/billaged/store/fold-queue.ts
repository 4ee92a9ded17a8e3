import { arrayLiteral, type Queryable, type Sql, type Tx } from '#platform/postgres'
import { hourNs } from '../samples/sample.ts'
import { contextReadings } from '../usage/context.ts'
import type { FoldRules } from '../usage/fold.ts'
import { foldSpans } from './fold-spans.ts'
import { maxNs } from './invalidate.ts'
import type { PartReader, SampleReader } from './parts.ts'
import type { Series } from './series.ts'
import { cachedRuns, coversOf, type HourRun, type HourUsage, holesIn, type Reads, writeHours } from './usage-hours.ts'
import { instantsBeside } from './window.ts'

// Folds queued hours into usage_hour. Any replica takes the queue of any series; a row of it is gone in the transaction
// that holds the hour. The fold is done before that transaction, which then looks under the lock of the series whether
// any fact was added meanwhile: if so, nothing is written and the hour stays queued.

export interface DrainOptions {
  /** Only hours that are over by then. Hours since 1970. */
  beforeHour: number
  /** Only this customer's, and also hours whose neighbours may still come: for a close, which waits for nothing more. */
  customerId?: string
  nowMs: number
}

/** At most a day in one piece: what one late reading takes out of the cache. */
const hoursPerPiece = 24
/** A series that is still read is looked at again after this for the hours that wait for readings behind them. */
const lookAgainS = 300
/** A fact came in between: after this the piece is tried again. */
const changedAgainS = 2
/** Silent for so long, a series is taken for over: its last hours are kept although no reading follows them. */
const quietMs = 86_400_000

/** Says by which rules hours are folded from now on. Those of other rules are taken out and queued; replicas that still
 *  run with others keep nothing. */
export async function adoptRules(sql: Sql, rules: FoldRules): Promise<void> {
  await sql.begin(async tx => {
    const [before] = await tx<{ rules: string }[]>`
      insert into billaged.fold_rules as r (rules) values (${textOf(rules)})
      on conflict (one) do update set rules = r.rules returning rules`
    if (before?.rules === textOf(rules)) return
    await tx`update billaged.fold_rules set rules = ${textOf(rules)}`
    await tx`
      with gone as (delete from billaged.usage_hour where reads_from_ns <= reads_to_ns returning series_id, hour)
      insert into billaged.fold_queue (series_id, hour) select series_id, hour from gone on conflict do nothing`
  })
}

function textOf(rules: FoldRules): string {
  return Object.entries(rules)
    .map(([name, value]) => `${name}=${value}`)
    .toSorted()
    .join(' ')
}

/** Hours of a customer that are queued within [from, to). */
export async function queuedHours(sql: Queryable, customerId: string, { from, to }: HourRun): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int4 as count from billaged.fold_queue join billaged.series using (series_id)
    where customer_id = ${customerId} and hour >= ${from} and hour < ${to}`
  return row?.count ?? 0
}

/** Folds the first piece of what is queued of one series. False: there is nothing to do. */
export async function drainOne(reader: PartReader, rules: FoldRules, o: DrainOptions): Promise<boolean> {
  return reader.sql.begin(async tx => {
    const [found] = await tx<(Series & { customerId: string; lastNs: bigint })[]>`
      select s.series_id as "seriesId", s.customer_id as "customerId", s.vm_id as "vmId", s.last_ns as "lastNs"
      from billaged.fold_queue q join billaged.series s using (series_id)
      where q.hour < ${o.beforeHour} ${
        o.customerId === undefined ? tx`and q.not_before <= now()` : tx`and s.customer_id = ${o.customerId}`
      }
      order by q.not_before limit 1 for update of q skip locked`
    if (found === undefined || !(await takeSeries(tx, found.seriesId))) return false
    const { seriesId, vmId } = found
    const queued = await tx<{ hour: number }[]>`
      select hour from billaged.fold_queue where series_id = ${seriesId} and hour < ${o.beforeHour} order by hour`
    const hours = queued.map(({ hour }) => hour)
    const isOver = o.customerId !== undefined || found.lastNs < BigInt(o.nowMs - quietMs) * 1_000_000n
    const until = isOver ? o.beforeHour : await settledHour(reader, seriesId)
    const missing = (await isShared(tx, vmId)) ? [] : await missingRuns(tx, seriesId, hours, until)
    const piece = firstPiece(missing)
    const folded = piece === null ? null : await foldPiece(reader, rules, found, piece)
    // Only now is the series held, by whose row intake waits; and only now is the queue touched, which intake writes.
    await tx`select 1 from billaged.series where series_id = ${seriesId} for update`
    const isPutOff = folded !== null && !(await keep(tx, rules, found, folded))
    const isMissing = (hour: number) => missing.some(run => run.from <= hour && hour < run.to)
    // Kept already by another replica, or never to be kept.
    const isNeverKept = await isShared(tx, vmId)
    await leaveQueue(
      tx,
      seriesId,
      hours.filter(hour => isNeverKept || (hour < until && !isMissing(hour))),
    )
    const isOf = (hour: number) => piece !== null && hour >= piece.from && hour < piece.to
    if (isPutOff) await putOff(tx, seriesId, hours.filter(isOf), changedAgainS)
    await putOff(
      tx,
      seriesId,
      hours.filter(hour => hour >= until),
      lookAgainS,
    )
    return true
  })
}

/** Folds what is missing of some hours of a series, queued or not, a piece at a time. False: facts come in too fast. */
export async function foldMissing(
  reader: PartReader,
  rules: FoldRules,
  series: Series & { customerId: string },
  run: HourRun,
): Promise<boolean> {
  for (let piece = await nextHole(reader.sql, series.seriesId, run); piece !== null; ) {
    const folded = await foldPiece(reader, rules, series, piece)
    const isKept = await reader.sql.begin(async tx => {
      await tx`select 1 from billaged.series where series_id = ${series.seriesId} for update`
      return keep(tx, rules, series, folded)
    })
    if (!isKept) return false
    piece = await nextHole(reader.sql, series.seriesId, run)
  }
  return true
}

async function nextHole(sql: Queryable, seriesId: bigint, run: HourRun): Promise<HourRun | null> {
  const cached = (await cachedRuns(sql, [seriesId], run)).get(seriesId) ?? []
  return firstPiece(holesIn(cached, run))
}

/** One replica at a time folds a series; the others take another one. */
async function takeSeries(tx: Tx, seriesId: bigint): Promise<boolean> {
  const [row] = await tx<{ isMine: boolean }[]>`
    select pg_try_advisory_xact_lock(hashtextextended('billaged.fold_queue ' || ${`${seriesId}`}::text, 0)) as "isMine"`
  return row?.isMine ?? false
}

async function putOff(tx: Tx, seriesId: bigint, hours: readonly number[], byS: number): Promise<void> {
  if (hours.length === 0) return
  await tx`
    update billaged.fold_queue set not_before = now() + ${byS} * interval '1 second'
    where series_id = ${seriesId} and hour = any(${arrayLiteral(hours)}::text::int4[])`
}

/** Hours before it have as many readings behind them as can change how they fold. */
async function settledHour(reader: SampleReader, seriesId: bigint): Promise<number> {
  const instants = await instantsBeside(reader, seriesId, 2n ** 62n, 'before', contextReadings)
  return Number((instants?.at(-1) ?? 0n) / hourNs)
}

/** Notices and heartbeats of a VM id that several customers use are told apart by all their readings: too much for a
 *  row to rest on. Such hours are folded whenever they are asked for. */
export async function isShared(tx: Queryable, vmId: string): Promise<boolean> {
  const rows = await tx`select 1 from billaged.series where vm_id = ${vmId} limit 2`
  return rows.length > 1
}

/** From the first queued hour to the last, what is not in the cache: also hours without readings, which have a life's
 *  time in them. */
async function missingRuns(tx: Tx, seriesId: bigint, hours: readonly number[], until: number): Promise<HourRun[]> {
  const from = hours[0]
  const last = hours.findLast(hour => hour < until)
  if (from === undefined || last === undefined) return []
  const run = { from, to: last + 1 }
  return holesIn((await cachedRuns(tx, [seriesId], run)).get(seriesId) ?? [], run)
}

function firstPiece([first]: readonly HourRun[]): HourRun | null {
  return first === undefined ? null : { from: first.from, to: Math.min(first.from + hoursPerPiece, first.to) }
}

async function leaveQueue(tx: Tx, seriesId: bigint, hours: readonly number[]): Promise<void> {
  if (hours.length === 0) return
  await tx`
    delete from billaged.fold_queue
    where series_id = ${seriesId} and hour = any(${arrayLiteral(hours)}::text::int4[])`
}

/** From one snapshot, so that what the fold saw is what the stamp is of. */
function foldPiece(
  reader: PartReader,
  rules: FoldRules,
  series: Series & { customerId: string },
  { from, to }: HourRun,
) {
  const edges = Array.from({ length: to - from + 1 }, (_, i) => BigInt(from + i) * hourNs)
  return reader.sql.begin('isolation level repeatable read read only', async sql => {
    const { cells, peaks, reads } = await foldSpans({ ...reader, sql }, series, edges, rules)
    const hours = cells.map((cell, i): HourUsage => ({ hour: from + i, cell, peak: peaks[i] ?? 0n }))
    return {
      hours,
      reads,
      covers: await coversOf(sql, series.seriesId, reads),
      stamp: await stampOf(sql, series, reads),
    }
  })
}

/** Under the lock of the series: false when anything that was read has grown since. */
async function keep(
  tx: Tx,
  rules: FoldRules,
  series: Series,
  folded: Awaited<ReturnType<typeof foldPiece>>,
): Promise<boolean> {
  const { reads, covers, stamp, hours } = folded
  const [inForce] = await tx<{ rules: string }[]>`select rules from billaged.fold_rules for share`
  if (inForce !== undefined && inForce.rules !== textOf(rules)) return false
  const now = await coversOf(tx, series.seriesId, reads)
  const isSame = now.count === covers.count && now.xor === covers.xor && stamp === (await stampOf(tx, series, reads))
  if (!isSame || (await isShared(tx, series.vmId))) return false
  await writeHours(tx, series.seriesId, hours, { reads, covers })
  return true
}

/** Changes when a mark or a listing is added that a fold of the VM would see. Both only ever grow. */
async function stampOf(sql: Queryable, { vmId }: Series, reads: Reads): Promise<string> {
  const dayNs = 24n * hourNs
  const [firstDay, lastDay] = [Number((reads.fromNs ?? 0n) / dayNs) - 2, Number((reads.toNs ?? maxNs) / dayNs) + 2]
  const [row] = await sql<{ stamp: string }[]>`
    select concat_ws(' ',
      (select count(*) from billaged.vm_mark where vm_id = ${vmId}),
      (select md5(coalesce(string_agg(instance_id || ' ' || day || spans::text, ',' order by instance_id, day), ''))
       from billaged.vm_lease where vm_id = ${vmId} and day between ${firstDay} and ${lastDay}),
      (select min(lower(spans)) from billaged.vm_lease
       where vm_id = ${vmId} and day = (select min(day) from billaged.vm_lease where vm_id = ${vmId}))
    ) as stamp`
  return row?.stamp ?? ''
}
