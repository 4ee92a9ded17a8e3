import { arrayLiteral, type Sql } from '#platform/postgres'
import { larger } from '../bigint.ts'
import { parseDecimal } from '../decimal.ts'
import type { Meter } from '../events/meter.ts'
import { createCells } from '../usage/cells.ts'
import { type FoldRules, startFold } from '../usage/fold.ts'
import { withoutHost } from '../usage/host-down.ts'
import type { EventUsage, VmUsage } from '../usage/rows.ts'
import { loadLeases } from './leases.ts'
import { findSeries, loadMarks, loadReadings, type PartReader } from './series.ts'

/** Most VMs one answer folds. Beyond it the hour cache of the specification is needed, which is not there yet. */
export const vmsPerQueryMax = 2_000

/** What each VM of a customer used between neighbouring edges (ascending, Unix ns). */
export async function loadVmUsage(
  reader: PartReader,
  customerId: string,
  edges: readonly bigint[],
  rules: FoldRules,
): Promise<VmUsage[]> {
  const [fromNs, toNs] = [edges[0], edges.at(-1)]
  if (fromNs === undefined || toNs === undefined || fromNs === toNs) return []
  const usage: VmUsage[] = []
  for (const { seriesId, vmId } of await findSeries(reader.sql, customerId, fromNs, toNs, vmsPerQueryMax)) {
    const { cells, add } = createCells(edges)
    const peaks = cells.map(() => 0n)
    const marks = await loadMarks(reader, customerId, vmId)
    const { isContinued, hours } = await loadReadings(reader, seriesId, fromNs, toNs)
    const leases = await loadLeases(reader.sql, vmId, fromNs, toNs)
    const fold = startFold({ marks, rules, isContinued }, stretch => {
      add(stretch)
      for (const down of withoutHost(stretch, leases)) add(down)
    })
    for await (const readings of hours) {
      for (const reading of readings) {
        fold.push(reading)
        const span = edges.findLastIndex(edge => edge <= reading.atNs)
        if (span >= 0 && span < peaks.length) peaks[span] = larger(peaks[span] ?? 0n, reading.low.memoryBytes)
      }
    }
    fold.finish()
    usage.push({ vmId, cells, peaks })
  }
  return usage
}

/** A customer's event meters between neighbouring edges, by group. Of several contents under one identity the one with
 *  the lowest value counts, ties going to the smaller digest. */
export async function loadEventUsage(
  sql: Sql,
  meters: readonly Meter[],
  customerId: string,
  edges: readonly bigint[],
): Promise<EventUsage[]> {
  const [fromNs, toNs] = [edges[0], edges.at(-1)]
  if (fromNs === undefined || toNs === undefined || fromNs === toNs) return []
  const usage: EventUsage[] = []
  for (const meter of meters) {
    const group = Object.keys(meter.groupBy).length === 0 ? sql`'{}'::jsonb` : groupExpression(sql, meter)
    const rows = await sql<{ span: number; group: Record<string, string>; value: string }[]>`
      select width_bucket(at_ns, ${arrayLiteral(edges)}::text::int8[]) - 1 as span, ${group} as "group",
        sum(${valueExpression(sql, meter, 'e')})::text as value
      from billaged.usage_event e
      where customer_id = ${customerId} and type = ${meter.eventType} and at_ns >= ${fromNs} and at_ns < ${toNs}
        and validation_error is null
        and not exists (
          select 1 from billaged.usage_event o
          where o.source = e.source and o.id = e.id and o.digest <> e.digest and o.type = e.type
            and o.validation_error is null
            and (${valueExpression(sql, meter, 'o')}, o.digest) < (${valueExpression(sql, meter, 'e')}, e.digest)
        )
      group by 1, 2 order by 1, 2`
    for (const { span, group: names, value } of rows) {
      const quantityE9 = parseDecimal(value)
      if (quantityE9 === null) throw new Error(`BUG: meter ${meter.slug} sums to ${value}`)
      usage.push({ span, meter: meter.slug, unit: meter.unit, group: names, quantityE9 })
    }
  }
  return usage
}

/** The meter's value of an event, exact. Only asked of rows without a validation error: their values are numbers. */
function valueExpression(sql: Sql, meter: Meter, row: 'e' | 'o') {
  if (meter.aggregation === 'COUNT') return sql`1::numeric`
  const data = row === 'e' ? sql`e.data` : sql`o.data`
  const isValid = row === 'e' ? sql`e.validation_error is null` : sql`o.validation_error is null`
  const [first = sql`0`, ...rest] = meter.valuePaths.map(
    path => sql`coalesce((${data} #>> ${arrayLiteral(path)}::text::text[])::numeric, 0)`,
  )
  // A CASE, because the planner may compute a value before it looks at the row's other conditions.
  return sql`case when ${isValid} then ${rest.reduce((sum, value) => sql`${sum} + ${value}`, first)} end`
}

function groupExpression(sql: Sql, meter: Meter) {
  const [first = sql``, ...rest] = Object.entries(meter.groupBy).map(
    ([name, path]) => sql`${name}::text, coalesce(e.data #>> ${arrayLiteral(path)}::text::text[], '')`,
  )
  return sql`jsonb_build_object(${rest.reduce((list, pair) => sql`${list}, ${pair}`, first)})`
}
