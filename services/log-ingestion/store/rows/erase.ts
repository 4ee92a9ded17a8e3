// Taking entries out of the guide's table by filter.
//
// SQL narrows, the evaluator decides, and exactly the rows it decided on are locked and deleted. One transaction per chunk holds the rows, the totals, and what the job writes about it.
// A job that runs again starts from the beginning: what is gone is not found again.

import type { Sql, Tx } from '#platform/postgres'
import type { EvidenceKey } from '../../evidence-key.ts'
import type { ErasePlan, OnErased, Place, StoredEntry } from '../store.ts'
import { deletionMatcher } from '../visibility.ts'
import { dateOfUs, relink } from './chain.ts'
import type { LogsTable } from './logs-table.ts'
import { narrow, timestampText } from './narrow.ts'
import { deletionsOf, placeOf, type RowPlace } from './places.ts'
import { ceilUs, columns, type EntryRow, entryOf, ofTenant, unmarked } from './search.ts'
import { reduceTotals } from './totals.ts'

/** Candidates looked at in one transaction: short enough that nobody waits long for the rows it locks. */
const chunkRows = 2_000
/** A stretch of time without candidates costs one statement; the next is four times as long. */
const firstWindowUs = 3_600_000_000n

/** What taking rows away for good needs. */
export interface RowsEraser {
  sql: Sql
  table: LogsTable
  /** Signs what is left of links. */
  evidence: EvidenceKey
  /** Unix ms. */
  nowMs: () => number
}

/** Chunk by chunk, each in one transaction together with what `onErased` writes; run again, it goes on. */
export async function eraseRows(
  o: RowsEraser,
  plan: ErasePlan,
  onErased: OnErased,
  signal?: AbortSignal,
): Promise<void> {
  const matches = deletionMatcher(plan)
  let fromUs = ceilUs(plan.fromNs)
  const toUs = ceilUs(plan.toNs)
  let lengthUs = firstWindowUs
  while (fromUs < toUs) {
    const untilUs = lesser(fromUs + lengthUs, toUs)
    let after: Place | undefined
    let isEmpty = true
    do {
      signal?.throwIfAborted()
      const chunk = await o.sql.begin(tx => eraseChunk(tx, o, plan, { fromUs, untilUs, after }, matches, onErased))
      after = chunk.after
      if (chunk.looked > 0) isEmpty = false
    } while (after)
    lengthUs = isEmpty ? lengthUs * 4n : firstWindowUs
    fromUs = untilUs
  }
}

type FoundRow = EntryRow & RowPlace

async function eraseChunk(
  tx: Tx,
  o: RowsEraser,
  plan: ErasePlan,
  window: { fromUs: bigint; untilUs: bigint; after: Place | undefined },
  matches: (entry: StoredEntry) => boolean,
  onErased: OnErased,
): Promise<{ after: Place | undefined; looked: number }> {
  const narrowing = narrow(tx, plan.query)
  const { after } = window
  const behind = after
    ? tx`and (l.timestamp, l.id) > (${timestampText(after.timestampNs / 1_000n)}::timestamptz, ${after.id}::int8)`
    : tx``
  const found = await tx<FoundRow[]>`
    select ${columns(tx)}, e.part::text as part, e.place::text as ctid from ${unmarked(tx)} cross join lateral (
      select l.*, ${placeOf(tx, o.table)} from public.logs l
      where l.timestamp >= ${timestampText(window.fromUs)}::timestamptz and l.timestamp < ${timestampText(window.untilUs)}::timestamptz
        and ${ofTenant(tx, plan.tenant)} ${behind} ${narrowing ? tx`and (${narrowing.condition})` : tx``}
      order by l.timestamp, l.id limit ${chunkRows}
    ) e order by e.timestamp, e.id`
  const doomed = found.map(row => ({ row, entry: entryOf(row) })).filter(({ entry }) => matches(entry))
  if (doomed.length > 0) {
    const gone = await deletePlaces(tx, o.table, doomed)
    if (gone.length > 0) {
      const entries = gone.map(({ entry }) => entry)
      await reduceTotals(tx, plan.tenant, entries)
      await relink(tx, o.evidence, {
        tenant: plan.tenant,
        days: entries.map(entry => dateOfUs(entry.timestampNs / 1_000n)),
        ids: entries.map(entry => entry.id),
        reason: 'deletion',
        nowMs: o.nowMs(),
      })
      await onErased(tx, { rows: entries.length, bytes: bytesOf(entries), blocks: [], entries })
    }
  }
  const last = found.at(-1)
  const next = last && found.length === chunkRows ? { timestampNs: last.timestampUs * 1_000n, id: last.id } : undefined
  return { after: next, looked: found.length }
}

/** Those of the rows that were there still and were deleted: another runner may have been quicker. */
async function deletePlaces<T extends { row: FoundRow }>(tx: Tx, table: LogsTable, doomed: readonly T[]): Promise<T[]> {
  const items = new Map(doomed.map(item => [item.row, item]))
  const gone: T[] = []
  for (const { statement, rows } of await deletionsOf(tx, table, [...items.keys()])) {
    const deleted = await tx<{ id: bigint; timestampUs: bigint }[]>`
      ${statement} returning l.id, (extract(epoch from l.timestamp) * 1000000)::int8 as "timestampUs"`
    const places = new Set(deleted.map(({ id, timestampUs }) => `${id} ${timestampUs}`))
    for (const row of rows) {
      const item = items.get(row)
      if (item && places.has(`${row.id} ${row.timestampUs}`)) gone.push(item)
    }
  }
  return gone
}

function bytesOf(entries: readonly StoredEntry[]): number {
  let bytes = 0
  for (const { service, level, message, metadata } of entries)
    bytes +=
      Buffer.byteLength(service) +
      Buffer.byteLength(level) +
      Buffer.byteLength(message) +
      Buffer.byteLength(metadata ?? '')
  return bytes
}

function lesser(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}
