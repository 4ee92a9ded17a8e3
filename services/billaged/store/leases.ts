import type { Sql } from '#platform/postgres'

export interface Leases {
  /** Whether any heartbeat ever listed the VM; without one nothing can be said about its host. */
  wasListed: boolean
  /** When a host vouched for it, within the span asked for; ascending, apart from one another. */
  spans: readonly { fromNs: bigint; toNs: bigint }[]
}

const dayNs = 86_400_000_000_000n

export async function loadLeases(sql: Sql, vmId: string, fromNs: bigint, toNs: bigint): Promise<Leases> {
  // A lease granted before midnight runs into the next day under the day it was granted.
  const [firstDay, lastDay] = [Number(fromNs / dayNs) - 1, Number(toNs / dayNs)]
  const spans = await sql<{ fromNs: bigint; toNs: bigint }[]>`
    select lower(span) as "fromNs", upper(span) as "toNs" from (
      select unnest(range_agg(spans)) as span from billaged.vm_lease
      where vm_id = ${vmId} and day between ${firstDay} and ${lastDay}
    ) s order by 1`
  const wasListed =
    spans.length > 0 || (await sql`select 1 from billaged.vm_lease where vm_id = ${vmId} limit 1`).length > 0
  return { wasListed, spans }
}
