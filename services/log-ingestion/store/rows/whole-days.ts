// What partitions and chunks have in common when all of one goes: its rows are counted, and the count is settled, in the
// transaction that takes them away.

import type { Fragment } from 'postgres'
import type { Tx } from '#platform/postgres'
import type { OnErased } from '../store.ts'
import { defaultTenant } from '../tenant.ts'
import { dateOfUs, relink } from './chain.ts'
import type { RowsEraser } from './erase.ts'
import { unmarked } from './search.ts'
import { type HourCount, reduceTotalsBy } from './totals.ts'

/** Taking away waits for readers this long, then lets them be until the next round. */
export const lockTimeout = '2s'

export interface WholeCount extends HourCount {
  bytes: bigint
}

/** `rows` is a select of tenant, timestamp, service, level, message and metadata, each of `l`. */
export async function countWhole(tx: Tx, rows: Fragment): Promise<WholeCount[]> {
  return await tx<WholeCount[]>`
    select coalesce(e.tenant, ${defaultTenant}) as tenant, floor(extract(epoch from e.timestamp) / 3600)::int8 as hour,
           coalesce(e.service, '') as service, coalesce(e.level, '') as level, count(*) as rows,
           coalesce(sum(octet_length(e.service) + octet_length(e.level) + octet_length(e.message)
                        + coalesce(octet_length(e.metadata::text), 0)), 0)::int8 as bytes
    from ${unmarked(tx)} cross join lateral (${rows}) e group by 1, 2, 3, 4`
}

export async function settleWhole(
  tx: Tx,
  { evidence, nowMs }: Pick<RowsEraser, 'evidence' | 'nowMs'>,
  counts: readonly WholeCount[],
  onErased: OnErased,
): Promise<void> {
  await reduceTotalsBy(tx, counts)
  for (const tenant of new Set(counts.map(count => count.tenant))) {
    const ours = counts.filter(count => count.tenant === tenant)
    const sum = (of: (count: WholeCount) => bigint) => Number(ours.reduce((all, one) => all + of(one), 0n))
    const days = ours.map(count => dateOfUs(count.hour * 3_600_000_000n))
    await relink(tx, evidence, { tenant, days, reason: 'retention', nowMs: nowMs() })
    await onErased(tx, { rows: sum(one => one.rows), bytes: sum(one => one.bytes), blocks: [], tenant })
  }
}
