import { arrayLiteral, type Queryable } from '#platform/postgres'
import { hourNs, hourOf } from '../samples/sample.ts'
import type { FoldRules } from '../usage/fold.ts'
import { loadSampleSets } from './evidence.ts'
import { foldMissing, isShared } from './fold-queue.ts'
import { maxNs, minNs } from './invalidate.ts'
import type { PartReader } from './parts.ts'
import { findSeries } from './series.ts'
import { cachedRuns, holesIn } from './usage-hours.ts'
import { contextBefore } from './window.ts'

const seriesPerPassMax = 100_000

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
  for (const found of await findSeries(reader.sql, customerId, 0n, BigInt(until) * hourNs, seriesPerPassMax)) {
    if (signal.aborted) return parts
    // Which customer a notice or heartbeat is about stays open for a VM id that several use: its samples are kept.
    if (found.sealedHour >= until || (await isShared(reader.sql, found.vmId))) continue
    parts += await sealSeries(reader, rules, { ...found, customerId }, until)
  }
  return parts
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

/** Usage by the hour and events of a customer before an hour. Returns how many rows went. */
export async function expireUsage(sql: Queryable, customerId: string, until: number): Promise<number> {
  const hours = await sql`
    delete from billaged.usage_hour u using billaged.series s
    where s.customer_id = ${customerId} and u.series_id = s.series_id and u.hour < least(${until}, s.sealed_hour)`
  let rows = hours.count
  for (;;) {
    const events = await sql`
      delete from billaged.usage_event e using (
        select source, id, digest from billaged.usage_event
        where customer_id = ${customerId} and at_ns < ${BigInt(until) * hourNs} limit 5000
      ) old where e.source = old.source and e.id = old.id and e.digest = old.digest`
    rows += events.count
    if (events.count < 5000) return rows
  }
}
