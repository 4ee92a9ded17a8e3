import type { Queryable } from '#platform/postgres'
import { compareBigints, larger } from '../bigint.ts'
import type { Hosts, Run } from '../usage/hosts.ts'

const dayNs = 86_400_000_000_000n

/** When hosts listed a VM around [fromNs, toNs), for one of its customers. */
export async function loadHosts(
  sql: Queryable,
  o: { customerId: string; vmId: string; fromNs: bigint; toNs: bigint; leaseNs: bigint; asOf?: Date },
): Promise<Hosts> {
  const { vmId, leaseNs } = o
  const [first] = await sql<{ atNs: bigint | null }[]>`
    select min(lower(spans)) as "atNs" from billaged.vm_lease
    where vm_id = ${vmId} and day = (select min(day) from billaged.vm_lease where vm_id = ${vmId})`
  const asOfNs = o.asOf === undefined ? null : BigInt(o.asOf.getTime()) * 1_000_000n
  const firstAtNs = first?.atNs ?? null
  const firstListedNs = firstAtNs !== null && asOfNs !== null && firstAtNs > asOfNs ? null : firstAtNs
  if (firstListedNs === null) return { leaseNs, runs: [], ofEach: [], firstListedNs }
  // A lease granted before midnight runs into the next day under the day it was granted.
  const [firstDay, lastDay] = [Number(o.fromNs / dayNs) - 1, Number(o.toNs / dayNs) + 1]
  const rows = await sql<{ instanceId: string; fromNs: bigint; toNs: bigint }[]>`
    select instance_id as "instanceId", lower(span) as "fromNs", upper(span) as "toNs" from (
      select instance_id, unnest(range_agg(spans)) as span from billaged.vm_lease
      where vm_id = ${vmId} and day between ${firstDay} and ${lastDay} group by instance_id
    ) s order by instance_id, 2`
  // A listing is stored by when it came.
  const cutNs = least(await othersBegin(sql, o.customerId, vmId), asOfNs === null ? null : asOfNs + 1n)
  const ofEach = new Map<string, Run[]>()
  for (const { instanceId, fromNs, toNs } of rows) {
    if (cutNs !== null && fromNs >= cutNs) continue
    const runs = ofEach.get(instanceId) ?? []
    ofEach.set(instanceId, runs)
    const lastNs = larger(fromNs, toNs - leaseNs)
    runs.push({ fromNs, lastNs: cutNs !== null && lastNs > cutNs ? cutNs : lastNs })
  }
  return {
    leaseNs,
    runs: unionOfRuns([...ofEach.values()].flat(), leaseNs),
    ofEach: [...ofEach.values()],
    firstListedNs,
  }
}

function least(a: bigint | null, b: bigint | null): bigint | null {
  if (a === null || b === null) return a ?? b
  return a < b ? a : b
}

/** Heartbeats name no customer. A VM id that several share is, once another's was read after this one's last reading,
 *  taken for the other's from there: a life must not be drawn out by somebody else's VM. */
async function othersBegin(sql: Queryable, customerId: string, vmId: string): Promise<bigint | null> {
  const rows = await sql<{ customerId: string; firstNs: bigint; lastNs: bigint }[]>`
    select customer_id as "customerId", first_ns as "firstNs", coalesce(greatest(
      (select max(at_ns) from billaged.vm_mark m
       where m.vm_id = s.vm_id and m.customer_id = s.customer_id and m.kind = 'start'),
      (select max(max_ns) from billaged.sample_part p where p.series_id = s.series_id and p.hour = (
        select max(hour) from billaged.sample_part where series_id = s.series_id))
    ), last_ns) as "lastNs"
    from billaged.series s
    where vm_id = ${vmId} and exists (select 1 from billaged.series where vm_id = ${vmId} and customer_id <> ${customerId})`
  const mine = rows.find(row => row.customerId === customerId)
  if (mine === undefined) return null
  return rows
    .filter(row => row.lastNs > mine.lastNs)
    .map(row => larger(row.firstNs, mine.lastNs))
    .reduce((a: bigint | null, b) => least(a, b), null)
}

/** Runs that are no more than a lease apart are one. */
export function unionOfRuns(runs: readonly Run[], leaseNs: bigint): Run[] {
  const joined: Run[] = []
  for (const run of runs.toSorted((a, b) => compareBigints(a.fromNs, b.fromNs))) {
    const last = joined.at(-1)
    if (last !== undefined && run.fromNs <= last.lastNs + leaseNs) last.lastNs = larger(last.lastNs, run.lastNs)
    else joined.push({ ...run })
  }
  return joined
}
