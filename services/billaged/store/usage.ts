import type { Sql } from '#platform/postgres'
import { larger } from '../bigint.ts'
import type { Meter } from '../events/meter.ts'
import { type Cell, createCells } from '../usage/cells.ts'
import { type FoldRules, startFold } from '../usage/fold.ts'
import type { EventUsage, VmUsage } from '../usage/rows.ts'
import { queryMeter } from './meter-usage.ts'
import type { PartReader } from './parts.ts'
import { findSeries, type Series } from './series.ts'
import { openWindow, type SeriesWindow } from './window.ts'

/** Most VMs one answer folds. Beyond it the hour cache of the specification is needed, which is not there yet. */
export const vmsPerQueryMax = 2_000

/** What each VM of a customer, or the one named, used between neighbouring edges (ascending, Unix ns). */
export async function loadVmUsage(
  reader: PartReader,
  customerId: string,
  edges: readonly bigint[],
  rules: FoldRules,
  only: string | null = null,
): Promise<VmUsage[]> {
  const [fromNs, toNs] = [edges[0], edges.at(-1)]
  if (fromNs === undefined || toNs === undefined || fromNs === toNs) return []
  const usage: VmUsage[] = []
  for (const { seriesId, vmId } of await findSeries(reader.sql, customerId, fromNs, toNs, vmsPerQueryMax, only)) {
    const { cells, peaks } = await foldSpans(reader, { customerId, seriesId, vmId }, edges, rules)
    usage.push({ vmId, cells, peaks })
  }
  return usage
}

/** Folds a series from its samples: a cell per span between neighbouring edges. */
export async function foldSpans(
  reader: PartReader,
  series: Series & { customerId: string },
  edges: readonly bigint[],
  rules: FoldRules,
): Promise<{ cells: readonly Cell[]; peaks: bigint[]; reads: SeriesWindow['reads'] }> {
  const [fromNs, toNs] = [edges[0], edges.at(-1)]
  if (fromNs === undefined || toNs === undefined) throw new Error('BUG: spans have edges')
  const { cells, add } = createCells(edges)
  const peaks = cells.map(() => 0n)
  const window = await openWindow(reader, series, fromNs, toNs, rules)
  const fold = startFold({ ...window, rules }, add)
  let span = 0
  for await (const readings of window.readings) {
    for (const reading of readings) {
      fold.push(reading)
      if (reading.atNs < fromNs || reading.atNs >= toNs) continue
      while ((edges[span + 1] ?? toNs) <= reading.atNs) span++
      peaks[span] = larger(peaks[span] ?? 0n, reading.low.memoryBytes)
    }
  }
  fold.finish()
  return { cells, peaks, reads: window.reads }
}

/** A customer's event meters between neighbouring edges, by group. Of several contents under one identity the one with
 *  the lowest value counts, ties going to the smaller digest; voided events count nothing. */
export async function loadEventUsage(
  sql: Sql,
  meters: readonly Meter[],
  customerId: string,
  edges: readonly bigint[],
): Promise<EventUsage[]> {
  const usage: EventUsage[] = []
  for (const meter of meters) {
    const rows = await queryMeter(sql, meter, {
      edges,
      customerId,
      subjects: [],
      groupBy: Object.keys(meter.groupBy),
      filters: {},
      bySubject: false,
      byCustomer: false,
    })
    for (const { span, group, quantityE9 } of rows)
      usage.push({ span, meter: meter.slug, unit: meter.unit, group, quantityE9 })
  }
  return usage
}
