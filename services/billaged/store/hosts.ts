import type { Sql } from '#platform/postgres'

export interface Host {
  /** Until when its last heartbeat, at any replica, vouches for its VMs. */
  leaseEndMs: number
  /** Those it listed last. */
  vmIds: string[]
}

/** Null when no heartbeat of it is known from today or yesterday. */
export async function loadHost(sql: Sql, instanceId: string, nowMs: number): Promise<Host | null> {
  const yesterday = Math.floor(nowMs / 86_400_000) - 1
  const rows = await sql<{ vmId: string; endNs: bigint }[]>`
    select vm_id as "vmId", max(upper(spans)) as "endNs" from billaged.vm_lease
    where instance_id = ${instanceId} and day >= ${yesterday} group by vm_id order by vm_id`
  if (rows.length === 0) return null
  const endNs = rows.reduce((last, row) => (row.endNs > last ? row.endNs : last), 0n)
  return {
    leaseEndMs: Number(endNs / 1_000_000n),
    vmIds: rows.filter(row => row.endNs === endNs).map(row => row.vmId),
  }
}
