import type { Sql } from '#platform/postgres'
import { larger } from '../bigint.ts'
import type { Meter } from '../events/meter.ts'
import { createCells } from '../usage/cells.ts'
import { type FoldRules, startFold } from '../usage/fold.ts'
import { withoutHost } from '../usage/host-down.ts'
import type { EventUsage, VmUsage } from '../usage/rows.ts'
import { loadLeases } from './leases.ts'
import { queryMeter } from './meter-usage.ts'
import { findSeries, loadMarks, loadReadings, type PartReader } from './series.ts'

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
