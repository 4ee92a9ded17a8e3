import { CorruptPart } from '../samples/part.ts'
import { hourNs } from '../samples/sample.ts'
import { encodeSummary } from '../samples/summary.ts'
import type { FoldRules } from '../usage/fold.ts'
import { hourColumns } from '../usage/hour-columns.ts'
import { foldSpans } from './fold-spans.ts'
import { decodeRow, type PartReader, type PartRow } from './parts.ts'
import type { Series } from './series.ts'
import { coversOf, readHours } from './usage-hours.ts'

const hoursPerPass = 48

/** Decodes every part there is; the reader hears of those that do not, and of those whose summary says something else. */
export async function verifyParts(reader: PartReader): Promise<number> {
  let parts = 0
  const rows = reader.sql<(PartRow & { seriesId: bigint; summary: Buffer | null })[]>`
    select series_id as "seriesId", hour, body, summary from billaged.sample_part order by series_id, hour`.cursor(200)
  for await (const some of rows) {
    for (const row of some) {
      const samples = decodeRow(reader, row.seriesId, row)
      if (row.summary !== null && samples.length > 0 && encodeSummary(samples)?.equals(row.summary) !== true)
        reader.onCorruptPart(new CorruptPart('its summary is not what its samples come to'), row)
    }
    parts += some.length
  }
  return parts
}

/** Folds every hour that is kept once more from its samples. What differs, in words. */
export async function verifyHours(
  reader: PartReader,
  rules: FoldRules,
): Promise<{ hours: number; problems: string[] }> {
  const problems: string[] = []
  let hours = 0
  for (let after = 0n; ; ) {
    const [series] = await reader.sql<(Series & { customerId: string; from: number; to: number })[]>`
      select s.series_id as "seriesId", s.vm_id as "vmId", s.customer_id as "customerId", h."from", h."to"
      from billaged.series s, lateral (
        select min(hour) as "from", max(hour) + 1 as "to" from billaged.usage_hour u where u.series_id = s.series_id
      ) h where s.series_id > ${after} and h."from" is not null order by s.series_id limit 1`
    if (series === undefined) return { hours, problems: [...problems, ...(await verifyDays(reader))] }
    after = series.seriesId
    for (let from = series.from; from < series.to; from += hoursPerPass) {
      const found = await verifyRun(reader, rules, series, { from, to: Math.min(from + hoursPerPass, series.to) })
      hours += found.hours
      problems.push(...found.problems)
    }
  }
}

/** Whether every day that is kept is what its hours say. */
async function verifyDays({ sql }: PartReader): Promise<string[]> {
  const differs = hourColumns.map(({ name }) => `d.${name} is distinct from sum(h.${name})`)
  const rows = await sql<{ day: number; customerId: string; vmId: string }[]>`
    select d.day, s.customer_id as "customerId", s.vm_id as "vmId"
    from billaged.usage_day d join billaged.series s using (series_id)
      left join billaged.usage_hour h on h.series_id = d.series_id and h.hour / 24 = d.day
        and h.hour >= d.day * 24 and h.hour < d.day * 24 + 24
    group by d.series_id, d.day, s.customer_id, s.vm_id
    having count(*) <> 24 or d.mem_peak <> max(h.mem_peak) or ${sql.unsafe(differs.join(' or '))} limit 100`
  return rows.map(
    ({ day, customerId, vmId }) =>
      `day ${new Date(day * 86_400_000).toISOString().slice(0, 10)} of ${customerId}/${vmId} is not the sum of its hours`,
  )
}

async function verifyRun(
  reader: PartReader,
  rules: FoldRules,
  series: Series & { customerId: string },
  run: { from: number; to: number },
): Promise<{ hours: number; problems: string[] }> {
  const problems: string[] = []
  return reader.sql.begin('isolation level repeatable read read only', async sql => {
    const rows = (await readHours(sql, series.seriesId, run)).filter(row => !row.isSealed)
    if (rows.length === 0) return { hours: 0, problems }
    const edges = Array.from({ length: run.to - run.from + 1 }, (_, i) => BigInt(run.from + i) * hourNs)
    const { cells, peaks } = await foldSpans({ ...reader, sql }, series, edges, rules, 'sample by sample')
    for (const row of rows) {
      const where = `hour ${new Date(row.hour * 3_600_000).toISOString()} of ${series.customerId}/${series.vmId}`
      const [cell, peak] = [cells[row.hour - run.from], peaks[row.hour - run.from]]
      for (const { name, field, kind } of hourColumns)
        if (cell?.[field][kind] !== row.cell[field][kind])
          problems.push(`${where}: ${name} is ${row.cell[field][kind]}, its samples say ${cell?.[field][kind]}`)
      if (peak !== row.peak) problems.push(`${where}: mem_peak is ${row.peak}, its samples say ${peak}`)
      const covers = await coversOf(sql, series.seriesId, row.reads)
      if (covers.count !== row.covers.count || covers.xor !== row.covers.xor)
        problems.push(`${where}: it was made of ${row.covers.count} parts, there are ${covers.count}`)
    }
    return { hours: rows.length, problems }
  })
}
