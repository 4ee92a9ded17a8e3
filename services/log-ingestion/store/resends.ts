// Of an unmarked request that two replicas may both have in their journals, one is stored: the first to commit. Only those
// are asked about here of which somebody could not tell the other (pipeline/shared-resends.ts).

import { arrayLiteral, type Sql, type Tx } from '#platform/postgres'
import type { PendingRecord } from './sink.ts'

export interface DoubtfulResends {
  /** Another replica may have accepted it too. Once false for a record, it stays false. */
  isInDoubt: (pending: PendingRecord) => boolean
  /** Farther apart they are two requests, however equal. */
  windowMs: number
}

/** Of those that are told about nobody, longer than any replica is away that comes back. */
export const resendsKeptMs = 7 * 86_400_000
/** A replica waits for another one that long before it takes a request itself; then clocks may differ a little. */
const slackMs = 15_000

/** Adds to `duplicates` those that were stored from the journal of another replica. What a replica accepted twice itself is
 *  two requests: it knew of the first. */
export async function claimResends(
  tx: Tx,
  { replica, windowMs }: { replica: string; windowMs: number },
  doubtful: readonly PendingRecord[],
  duplicates: Set<PendingRecord>,
): Promise<void> {
  const withinUs = BigInt((windowMs + slackMs) * 1_000)
  const firsts = new Map<string, PendingRecord>()
  for (const pending of doubtful) if (!firsts.has(hashOf(pending))) firsts.set(hashOf(pending), pending)
  // In one order everywhere: two replicas that claim the same ones must not wait for each other.
  const wanted = [...firsts.entries()].sort(([a], [b]) => (a < b ? -1 : 1))
  const places = wanted.map(([, pending]) => placeOf(pending))
  const times = wanted.map(([, { record }]) => record.receivedUs)
  await tx`
    insert into purser_logs.resends as r (hash, replica, place, received_us)
    select decode(hash, 'hex'), ${replica}::uuid, place, received from unnest(
      ${wanted.map(([hash]) => hash)}::text[], ${places}::text[], ${arrayLiteral(times)}::int8[]) as u(hash, place, received)
    on conflict (hash) do update
    set replica = excluded.replica, place = excluded.place, received_us = excluded.received_us, created_at = now()
    where r.replica = excluded.replica or abs(r.received_us - excluded.received_us) > ${withinUs}`
  const rows = await tx<{ hash: string; replica: string; received: bigint }[]>`
    select encode(hash, 'hex') as hash, replica::text as replica, received_us as received from purser_logs.resends
    where hash = any(select decode(h, 'hex') from unnest(${wanted.map(([hash]) => hash)}::text[]) as h)`
  const owners = new Map(rows.map(row => [row.hash, row]))
  for (const pending of doubtful) {
    const owner = owners.get(hashOf(pending))
    if (!owner) throw new Error('BUG: a request that was just claimed is not there')
    const apartUs = owner.received - pending.record.receivedUs
    if (owner.replica !== replica && (apartUs < 0n ? -apartUs : apartUs) <= withinUs) duplicates.add(pending)
  }
}

export async function sweepResends(sql: Sql, nowMs: number): Promise<void> {
  await sql`
    delete from purser_logs.resends where created_at < to_timestamp(${(nowMs - resendsKeptMs) / 1_000}::float8)`
}

function hashOf({ record: { dedupeHash } }: PendingRecord): string {
  return Buffer.from(dedupeHash.buffer, dedupeHash.byteOffset, dedupeHash.length).toString('hex')
}

/** Of the whole request, whichever part of it this is. */
function placeOf({ segment, from, whole }: PendingRecord): string {
  return `${segment}:${(whole ?? { from }).from}`
}
