import type { Sql } from '#platform/postgres'
import type { FoldRules } from '../usage/fold.ts'
import type { PartReader } from './parts.ts'
import { findSeries } from './series.ts'
import { loadVmReport } from './vm-report.ts'

/** One identity, several contents: the one with the lowest value counts. */
export interface EventConflict {
  source: string
  id: string
  type: string
  variants: number
  atNs: bigint
  receivedAt: Date
  isVoid: boolean
}

/** Newest first. */
export async function listEventConflicts(
  sql: Sql,
  o: { customerId: string; fromNs: bigint; toNs: bigint; limit: number },
): Promise<EventConflict[]> {
  return sql<EventConflict[]>`
    with suspected as (
      select distinct source, id from billaged.usage_event
      where customer_id = ${o.customerId} and at_ns >= ${o.fromNs} and at_ns < ${o.toNs}
    )
    select e.source, e.id, min(e.type) as type, count(*)::int4 as variants, max(e.at_ns) as "atNs",
      max(e.received_at) as "receivedAt", bool_or(v.source is not null) as "isVoid"
    from suspected join billaged.usage_event e using (source, id)
      left join billaged.usage_void v using (source, id)
    group by e.source, e.id having count(*) > 1
    order by max(e.at_ns) desc, e.source, e.id limit ${o.limit}`
}

/** Instants of one VM with several different readings; each field is billed at its smallest. */
export interface SampleConflict {
  vmId: string
  instants: bigint[]
}

export async function loadSampleConflicts(
  reader: PartReader,
  o: { customerId: string; fromNs: bigint; toNs: bigint; nowNs: bigint; rules: FoldRules; vmsMax: number },
): Promise<SampleConflict[]> {
  const found: SampleConflict[] = []
  for (const { vmId } of await findSeries(reader.sql, o.customerId, o.fromNs, o.toNs, o.vmsMax)) {
    const report = await loadVmReport(reader, { ...o, vmId })
    const instants = report?.notes.filter(({ kind }) => kind === 'conflict').map(({ fromNs }) => fromNs) ?? []
    if (instants.length > 0) found.push({ vmId, instants })
  }
  return found
}
