import type { Meter } from '../events/meter.ts'
import type { Hours } from '../rating/rate.ts'
import { hourNs } from '../samples/sample.ts'
import type { FoldRules } from '../usage/fold.ts'
import type { VmUsage } from '../usage/rows.ts'
import { foldSpans } from './fold-spans.ts'
import type { PartReader } from './parts.ts'
import { edgesOf, type PricedPeriod, planPeriod, rateUsage } from './pricing.ts'
import { findSeries } from './series.ts'
import { loadEventUsage } from './usage.ts'

/** Every reading is folded: what is kept by the hour is what is known now. */
const vmsMax = 500

/** What each VM of a customer used between neighbouring edges, from the facts that had come in by `asOf`. */
export async function loadVmUsageAsOf(
  reader: Pick<PartReader, 'sql' | 'onCorruptPart'>,
  asOf: Date,
  customerId: string,
  edges: readonly bigint[],
  rules: FoldRules,
  only: string | null = null,
): Promise<VmUsage[]> {
  const [fromNs, toNs] = [edges[0], edges.at(-1)]
  if (fromNs === undefined || toNs === undefined || fromNs === toNs) return []
  const { onCorruptPart } = reader
  return reader.sql.begin('isolation level repeatable read read only', async sql => {
    const usage: VmUsage[] = []
    for (const series of await findSeries(sql, customerId, fromNs, toNs, vmsMax, only)) {
      if (BigInt(series.sealedHour) * hourNs > fromNs) throw new FactsExpired(series.sealedHour)
      const known = { sql, onCorruptPart, asOf }
      const { cells, peaks } = await foldSpans(known, { ...series, customerId }, edges, rules, 'sample by sample')
      usage.push({ vmId: series.vmId, cells: [...cells], peaks })
    }
    return usage
  })
}

/** A period as it would have been rated then, under the plans of now. */
export async function pricePeriodAsOf(
  reader: PartReader,
  meters: readonly Meter[],
  rules: FoldRules,
  customerId: string,
  period: Hours,
  asOf: Date,
): Promise<PricedPeriod> {
  const planned = await planPeriod(reader, customerId, period, null)
  const edges = edgesOf(planned)
  const vms = await loadVmUsageAsOf(reader, asOf, customerId, edges, rules)
  return rateUsage(planned, vms, await loadEventUsage(reader.sql, meters, customerId, edges, asOf))
}

/** The samples of a time are gone; only what they came to is known. */
export class FactsExpired extends Error {
  readonly untilHour: number
  constructor(untilHour: number) {
    super('samples before this hour have expired')
    this.name = 'FactsExpired'
    this.untilHour = untilHour
  }
}
