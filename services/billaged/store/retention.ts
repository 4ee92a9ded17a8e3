import { arrayLiteral, type Queryable, type Sql } from '#platform/postgres'
import { hourNs, hourOf } from '../samples/sample.ts'
import type { FoldRules } from '../usage/fold.ts'
import { loadSampleSets } from './evidence.ts'
import { foldMissing, isShared } from './fold-queue.ts'
import { maxNs, minNs } from './invalidate.ts'
import type { PartReader } from './parts.ts'
import { findSeries } from './series.ts'
import { cachedRuns, holesIn } from './usage-hours.ts'
import { contextBefore } from './window.ts'

const vmsPerPage = 500

/** Seals what is before an hour, of all series of a customer: every hour is folded and written down for good, then the
 *  samples go, but for those that later hours need beside them. Returns how many parts went. */
export async function sealBefore(
  reader: PartReader,
  rules: FoldRules,
  customerId: string,
  until: number,
  signal: AbortSignal,
): Promise<number> {
  let parts = 0
  for (let after = ''; ; ) {
    const page = await unsealedVms(reader.sql, customerId, until, after)
    for (const vmId of page) {
      if (signal.aborted) return parts
      // Which customer a notice or heartbeat is about stays open for a VM id that several use: its samples are kept.
      if (await isShared(reader.sql, vmId)) continue
      const [found] = await findSeries(reader.sql, customerId, 0n, BigInt(until) * hourNs, 1, vmId)
      if (found !== undefined) parts += await sealSeries(reader, rules, { ...found, customerId }, until)
    }
    const last = page.at(-1)
    if (last === undefined || page.length < vmsPerPage) return parts
    after = last
  }
}

/** VMs with something to seal: of a customer whose VMs are short, nearly all ended long ago and are sealed to their end. */
async function unsealedVms(sql: Sql, customerId: string, until: number, after: string): Promise<string[]> {
  const rows = await sql<{ vmId: string }[]>`
    select vm_id as "vmId" from billaged.series
    where customer_id = ${customerId} and vm_id > ${after} and sealed_hour < ${until}
      and (sealed_hour = 0 or last_ns >= sealed_hour::int8 * ${hourNs})
    order by vm_id limit ${vmsPerPage}`
  return rows.map(({ vmId }) => vmId)
}

async function sealSeries(
  reader: PartReader,
  rules: FoldRules,
  series: Awaited<ReturnType<typeof findSeries>>[number] & { customerId: string },
  until: number,
): Promise<number> {
  const { seriesId } = series
  const from = Math.max(series.sealedHour, Number((series.firstNs - 1n) / hourNs))
  const run = { from, to: Math.max(from, Math.min(until, Number(series.lastNs / hourNs) + 1)) }
  if (!(await foldMissing(reader, rules, series, run))) return 0
  const sets = [...(await loadSampleSets(reader, seriesId, run))]
  const keptFrom = await contextBefore(reader, series, BigInt(until) * hourNs, rules)
  return reader.sql.begin(async tx => {
    await tx`select 1 from billaged.series where series_id = ${seriesId} for update`
    // A fact that came in since has taken its hours out again: another time.
    const holes = holesIn((await cachedRuns(tx, [seriesId], run)).get(seriesId) ?? [], run)
    const queued = await tx`select 1 from billaged.fold_queue where series_id = ${seriesId} and hour < ${until} limit 1`
    if (holes.length > 0 || queued.length > 0) return 0
    await tx`
      update billaged.usage_hour u
      set reads_from_ns = ${maxNs}, reads_to_ns = ${minNs}, samples = coalesce(s.samples, 0), set_digest = s.digest
      from generate_series(${run.from}::int4, ${run.to - 1}::int4) h left join unnest(
        ${arrayLiteral(sets.map(([hour]) => hour))}::text::int4[],
        ${arrayLiteral(sets.map(([, { samples }]) => samples))}::text::int4[],
        ${arrayLiteral(sets.map(([, { digest }]) => `\\x${digest}`))}::text::bytea[]
      ) s (hour, samples, digest) on s.hour = h
      where u.series_id = ${seriesId} and u.hour = h`
    await tx`update billaged.series set sealed_hour = ${until} where series_id = ${seriesId}`
    if (keptFrom === null) return 0
    const gone = await tx`
      delete from billaged.sample_part where series_id = ${seriesId} and hour < ${Math.min(hourOf(keptFrom), until)}`
    return gone.count
  })
}

/** Usage by the hour and events of a customer before an hour. Returns how many rows went. Events of `levelTypes` stay:
 *  a level is what all of them made of it. So do contents of an identity that has others which stay, since the least of
 *  them is billed. */
export async function expireUsage(
  sql: Sql,
  customerId: string,
  until: number,
  levelTypes: readonly string[],
): Promise<number> {
  const untilNs = BigInt(until) * hourNs
  const { hours, isNews } = await sql.begin(async tx => {
    // Said before it is done: an answer never passes for whole while its usage goes.
    const moved = await tx`
      update billaged.customer set usage_expired_hour = ${until} where id = ${customerId} and usage_expired_hour < ${until}`
    const gone = await tx`
      delete from billaged.usage_hour u using billaged.series s
      where s.customer_id = ${customerId} and u.series_id = s.series_id and u.hour < least(${until}, s.sealed_hour)`
    return { hours: gone.count, isNews: moved.count > 0 }
  })
  const listings = isNews ? await forgetListings(sql, customerId, until) : 0
  const events = await deleteEvents(
    sql,
    sql`e.customer_id = ${customerId} and e.at_ns < ${untilNs} and e.type <> all (${arrayLiteral(levelTypes)}::text::text[])
      and not exists (
        select 1 from billaged.usage_event o where o.source = e.source and o.id = e.id
          and (o.at_ns >= ${untilNs} or o.customer_id is distinct from e.customer_id))`,
  )
  return hours + events + listings
}

/** Forgets the VMs of a customer that were stopped before an hour and of which nothing else is left: name, notices,
 *  listings and last readings. One that fell silent without a stop notice stays, since its last counter is what a start
 *  notice to come is measured against. Returns how many went. */
export async function forgetEnded(sql: Sql, customerId: string, until: number, signal: AbortSignal): Promise<number> {
  for (let forgotten = 0; ; ) {
    const rows = await sql<{ seriesId: bigint }[]>`
      select series_id as "seriesId" from billaged.series s
      where customer_id = ${customerId} and ${isEnded(sql, until)} order by series_id limit ${vmsPerPage}`
    if (rows.length === 0 || signal.aborted) return forgotten
    const ids = arrayLiteral(rows.map(({ seriesId }) => seriesId))
    const gone = await sql.begin(async tx => {
      await tx`select 1 from billaged.series where series_id = any(${ids}::text::int8[]) order by series_id for update`
      // Once more, now that nothing can be added to them.
      const ended = await tx<{ seriesId: bigint; vmId: string }[]>`
        select series_id as "seriesId", vm_id as "vmId" from billaged.series s
        where series_id = any(${ids}::text::int8[]) and ${isEnded(tx, until)}`
      const series = tx`${arrayLiteral(ended.map(({ seriesId }) => seriesId))}::text::int8[]`
      const vms = tx`${arrayLiteral(ended.map(({ vmId }) => vmId))}::text::text[]`
      await tx`delete from billaged.fold_queue where series_id = any(${series})`
      await tx`delete from billaged.sample_part where series_id = any(${series})`
      await tx`
        delete from billaged.vm_mark where vm_id = any(${vms}) and (customer_id is null or customer_id = ${customerId})`
      await tx`delete from billaged.vm_lease where vm_id = any(${vms})`
      await tx`delete from billaged.series where series_id = any(${series})`
      return ended.length
    })
    forgotten += gone
    if (gone === 0) return forgotten
  }
}

/** Of a series `s`: all of it is sealed and its usage gone, nobody else has a VM of that id, and it was stopped. */
function isEnded(sql: Queryable, until: number) {
  const untilNs = BigInt(until) * hourNs
  const isOwn = sql`m.vm_id = s.vm_id and (m.customer_id is null or m.customer_id = s.customer_id)`
  return sql`
    s.last_ns < ${untilNs} and s.last_ns < s.sealed_hour::int8 * ${hourNs}
    and not exists (select 1 from billaged.usage_hour u where u.series_id = s.series_id)
    and not exists (
      select 1 from billaged.vm_mark m where m.vm_id = s.vm_id and greatest(m.at_ns, m.until_ns) >= ${untilNs})
    and not exists (select 1 from billaged.vm_lease l where l.vm_id = s.vm_id and l.day >= ${Math.floor(until / 24) - 1})
    and not exists (select 1 from billaged.series o where o.vm_id = s.vm_id and o.customer_id <> s.customer_id)
    and exists (
      select 1 from billaged.vm_mark m where ${isOwn} and m.kind = 'stop'
        and m.at_ns >= coalesce((
          select max(max_ns) from billaged.sample_part p where p.series_id = s.series_id and p.hour = (
            select max(hour) from billaged.sample_part where series_id = s.series_id)), 0)
        and m.at_ns > coalesce((select max(at_ns) from billaged.vm_mark m where ${isOwn} and m.kind = 'start'), 0))`
}

/** Listings of a customer's VMs that no hour to be folded looks at any more; the first ones stay, since from them on a host
 *  is known. Returns how many rows went. */
async function forgetListings(sql: Sql, customerId: string, until: number): Promise<number> {
  const dayNs = 24n * hourNs
  const gone = await sql`
    delete from billaged.vm_lease l using billaged.series s, lateral (
      -- Hours are folded with the readings kept beside them, and with what hosts said of those.
      select coalesce(min(min_ns), ${BigInt(until) * hourNs}) / ${dayNs} - 2 as day from billaged.sample_part p
      where p.series_id = s.series_id and p.hour = (
        select min(hour) from billaged.sample_part where series_id = s.series_id)
    ) kept
    where s.customer_id = ${customerId} and s.sealed_hour >= ${until} and l.vm_id = s.vm_id
      and l.day < least(${Math.floor(until / 24) - 2}, kept.day)
      and l.day > (select min(day) from billaged.vm_lease where vm_id = l.vm_id)
      and not exists (select 1 from billaged.series o where o.vm_id = s.vm_id and o.customer_id <> s.customer_id)`
  return gone.count
}

/** Events that are nobody's: no invoice waits for them. */
export async function expireUnclaimed(sql: Sql, beforeNs: bigint): Promise<number> {
  return deleteEvents(sql, sql`e.customer_id is null and e.at_ns < ${beforeNs}`)
}

async function deleteEvents(sql: Sql, which: ReturnType<Sql>): Promise<number> {
  for (let rows = 0; ; ) {
    const gone = await sql`
      delete from billaged.usage_event d using (
        select e.source, e.id, e.digest from billaged.usage_event e where ${which} limit 5000
      ) old where d.source = old.source and d.id = old.id and d.digest = old.digest`
    rows += gone.count
    if (gone.count < 5000) return rows
  }
}

/** Hours before it are gone for a customer. */
export async function expiredHourOf(sql: Queryable, customerId: string): Promise<number> {
  const [row] = await sql<{ hour: number }[]>`
    select usage_expired_hour as hour from billaged.customer where id = ${customerId}`
  return row?.hour ?? 0
}
