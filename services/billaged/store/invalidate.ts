import { arrayLiteral, type Tx } from '#platform/postgres'

/** A fact about a VM: of one customer, or, as hosts and some notices name none, of whoever has a VM of that id. */
export interface Touch {
  vmId: string
  customerId: string | null
  fromNs: bigint
  /** Null: everything from there on. */
  toNs: bigint | null
}

/** Holds the rows of all series that a batch of facts touches, before anything is written. In one order, so that two
 *  replicas wait for each other and never deadlock. */
export async function lockSeries(tx: Tx, touches: readonly Touch[]): Promise<void> {
  const vmIds = [...new Set(touches.map(({ vmId }) => vmId))]
  if (vmIds.length === 0) return
  // Joined: the server would look through an array as a parameter once for every series there is.
  await tx`
    select 1 from unnest(${arrayLiteral(vmIds)}::text::text[]) t (vm_id) join billaged.series s using (vm_id)
    order by s.series_id for no key update of s`
}

/** Takes the hours that rest on what was touched out of the cache and queues them. */
export async function forgetHours(tx: Tx, touches: readonly Touch[]): Promise<void> {
  if (touches.length === 0) return
  const column = (pick: (touch: Touch) => string | bigint | null) => arrayLiteral(touches.map(pick))
  // Hour by hour through the index (`offset 0` keeps the planner from reading all hours there are), and by place.
  await tx`
    with touched as (
      select s.series_id, min(t.from_ns) as from_ns, max(t.to_ns) as to_ns
      from unnest(
        ${column(t => t.vmId)}::text::text[], ${column(t => t.customerId)}::text::text[],
        ${column(t => t.fromNs)}::text::int8[], ${column(t => t.toNs ?? maxNs)}::text::int8[]
      ) t (vm_id, customer_id, from_ns, to_ns)
      join billaged.series s on s.vm_id = t.vm_id and (t.customer_id is null or s.customer_id = t.customer_id)
      group by s.series_id
    ), gone as (
      delete from billaged.usage_hour where ctid = any(array(
        select u.at from touched t, lateral (
          select ctid as at from billaged.usage_hour
          where series_id = t.series_id and reads_to_ns >= t.from_ns and reads_from_ns <= t.to_ns offset 0
        ) u))
      returning series_id, hour
    )
    insert into billaged.fold_queue (series_id, hour) select series_id, hour from gone on conflict do nothing`
}

export const maxNs = 2n ** 63n - 1n
export const minNs = -(2n ** 63n)
