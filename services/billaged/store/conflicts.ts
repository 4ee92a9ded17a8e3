import type { Sql } from '#platform/postgres'
import type { FoldRules } from '../usage/fold.ts'
import type { PartReader } from './parts.ts'
import { loadVmReport } from './vm-report.ts'

/** Null: of all customers. */
interface Span {
  customerId: string | null
  fromNs: bigint
  toNs: bigint
}

/** One identity, several contents: the one with the lowest value counts. */
export interface EventConflict {
  /** Whose one of the contents is; null when nobody's. */
  customerId: string | null
  source: string
  id: string
  type: string
  variants: number
  atNs: bigint
  receivedAt: Date
  isVoid: boolean
}

/** Newest first. `after`: the last one of the page before. */
export async function listEventConflicts(
  sql: Sql,
  o: Span & { after: Pick<EventConflict, 'atNs' | 'source' | 'id'> | null; limit: number },
): Promise<EventConflict[]> {
  return sql<EventConflict[]>`
    with suspected as (
      select distinct source, id from billaged.usage_event
      where (${o.customerId}::text is null or customer_id = ${o.customerId})
        and at_ns >= ${o.fromNs} and at_ns < ${o.toNs}
    )
    select min(e.customer_id) as "customerId", e.source, e.id, min(e.type) as type, count(*)::int4 as variants,
      max(e.at_ns) as "atNs", max(e.received_at) as "receivedAt", bool_or(v.source is not null) as "isVoid"
    from suspected join billaged.usage_event e using (source, id)
      left join billaged.usage_void v using (source, id)
    group by e.source, e.id
    having count(*) > 1
      ${o.after === null ? sql`` : sql`and (max(e.at_ns), e.source, e.id) < (${o.after.atNs}, ${o.after.source}, ${o.after.id})`}
    order by max(e.at_ns) desc, e.source desc, e.id desc limit ${o.limit}`
}

export interface VmName {
  customerId: string
  vmId: string
}

/** VMs that were read around a span, in the order of customers. */
export async function listVms(sql: Sql, o: Span & { after: VmName | null; limit: number }): Promise<VmName[]> {
  return sql<VmName[]>`
    select customer_id as "customerId", vm_id as "vmId" from billaged.series
    where (${o.customerId}::text is null or customer_id = ${o.customerId})
      and first_ns < ${o.toNs} and last_ns >= ${o.fromNs - 120_000_000_000n}
      ${o.after === null ? sql`` : sql`and (customer_id, vm_id) > (${o.after.customerId}, ${o.after.vmId})`}
    order by customer_id, vm_id limit ${o.limit}`
}

/** Instants of one VM with several different readings; each field is billed at its smallest. */
export async function loadSampleConflicts(
  reader: PartReader,
  o: VmName & { fromNs: bigint; toNs: bigint; nowNs: bigint; rules: FoldRules },
): Promise<bigint[]> {
  const report = await loadVmReport(reader, o)
  return report?.notes.filter(({ kind }) => kind === 'conflict').map(({ fromNs }) => fromNs) ?? []
}
