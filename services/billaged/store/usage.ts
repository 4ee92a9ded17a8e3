import type { Sql } from '#platform/postgres'
import { larger } from '../bigint.ts'
import { parseDecimal } from '../decimal.ts'
import type { Meter } from '../events/meter.ts'
import { type Cell, createCells } from '../usage/cells.ts'
import { type FoldRules, startFold } from '../usage/fold.ts'
import { findSeries, loadMarks, loadReadings, type PartReader } from './series.ts'

export interface VmUsage {
  vmId: string
  /** One per span between neighbouring edges. */
  cells: readonly Cell[]
  /** Largest memory read in each span. */
  peaks: readonly bigint[]
}

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
    const fold = startFold({ marks, rules, isContinued }, add)
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

export interface EventUsage {
  meter: string
  unit: string
  group: Readonly<Record<string, string>>
  quantityE9: bigint
}

/** A customer's event meters over [fromNs, toNs), by group. Of several contents under one identity the one with the
 *  lowest value counts, ties going to the smaller digest. */
export async function loadEventUsage(
  sql: Sql,
  meters: readonly Meter[],
  customerId: string,
  fromNs: bigint,
  toNs: bigint,
): Promise<EventUsage[]> {
  const usage: EventUsage[] = []
  for (const meter of meters) {
    const names = Object.keys(meter.groupBy)
    const group = names.length === 0 ? sql`'{}'::jsonb` : groupExpression(sql, meter)
    const rows = await sql<{ group: Record<string, string>; value: string }[]>`
      select ${group} as "group", sum(${valueExpression(sql, meter, 'e')})::text as value
      from billaged.usage_event e
      where customer_id = ${customerId} and type = ${meter.eventType} and at_ns >= ${fromNs} and at_ns < ${toNs}
        and validation_error is null
        and not exists (
          select 1 from billaged.usage_event o
          where o.source = e.source and o.id = e.id and o.digest <> e.digest and o.type = e.type
            and o.validation_error is null
            and (${valueExpression(sql, meter, 'o')}, o.digest) < (${valueExpression(sql, meter, 'e')}, e.digest)
        )
      group by 1 order by 1`
    for (const row of rows) {
      const quantityE9 = parseDecimal(row.value)
      if (quantityE9 === null) throw new Error(`BUG: meter ${meter.slug} sums to ${row.value}`)
      usage.push({ meter: meter.slug, unit: meter.unit, group: row.group, quantityE9 })
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
    path => sql`coalesce((${data} #>> ${path}::text[])::numeric, 0)`,
  )
  // A CASE, because the planner may compute a value before it looks at the row's other conditions.
  return sql`case when ${isValid} then ${rest.reduce((sum, value) => sql`${sum} + ${value}`, first)} end`
}

function groupExpression(sql: Sql, meter: Meter) {
  const [first = sql``, ...rest] = Object.entries(meter.groupBy).map(
    ([name, path]) => sql`${name}::text, coalesce(e.data #>> ${path}::text[], '')`,
  )
  return sql`jsonb_build_object(${rest.reduce((list, pair) => sql`${list}, ${pair}`, first)})`
}
