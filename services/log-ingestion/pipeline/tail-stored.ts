// Entries of one replica out of the store, in the order in which it accepted them: for tails whose place the journal does
// not hold any more, and for what other replicas stored.

import type { Sql } from '#platform/postgres'
import type { Query } from '../query/query.ts'
import { loadBatchesAfter, type RowPlace, type StoredBatch } from '../store/batches.ts'
import type { Store, StoredEntry } from '../store/store.ts'

export interface Stored {
  sql: Sql
  store: Store
}

/** A batch, or a part of one: its matches by id, and the place behind all of its rows. */
export interface StoredPiece {
  entries: { entry: StoredEntry; rows: bigint }[]
  behind: RowPlace & { offset: number }
}

const batchesAtOnce = 32
/** Ids looked through at once. Entries come in the order of their times and leave in that of their ids, so all matches
 *  among them are held: few at first, more when they turn out to be small. */
const idsFirst = 256
const idsMax = 16_384
const bytesGood = 1024 * 1024

export async function* readStored(
  { sql, store }: Stored,
  o: { replica: string; tenant: string; query: Query; after: RowPlace | undefined; signal: AbortSignal },
): AsyncGenerator<StoredPiece> {
  let ids = idsFirst
  let { after } = o
  for (;;) {
    const batches = await loadBatchesAfter(sql, o.replica, after, batchesAtOnce)
    if (batches.length === 0) return
    for (const batch of batches) {
      const end = batch.firstRow + batch.rows
      let row = after?.segment === batch.segment && after.rows > batch.firstRow ? after.rows : batch.firstRow
      while (row < end) {
        const until = row + BigInt(ids) < end ? row + BigInt(ids) : end
        const { entries, bytes } = await matchesOf(store, o, batch, row, until)
        yield { entries, behind: { segment: batch.segment, rows: until, offset: batch.toOffset } }
        row = until
        if (bytes < bytesGood) ids = Math.min(idsMax, ids * 2)
        else if (bytes > 4 * bytesGood) ids = Math.max(16, ids >> 2)
      }
      after = { segment: batch.segment, rows: end }
    }
  }
}

async function matchesOf(
  store: Store,
  { tenant, query, signal }: { tenant: string; query: Query; signal: AbortSignal },
  batch: StoredBatch,
  fromRow: bigint,
  toRow: bigint,
): Promise<{ entries: { entry: StoredEntry; rows: bigint }[]; bytes: number }> {
  const idOf = (row: bigint) => batch.firstId + row - batch.firstRow
  const terms: Query[] = [{ kind: 'id', op: '>=', id: idOf(fromRow) }, { kind: 'id', op: '<', id: idOf(toRow) }, query]
  const entries: { entry: StoredEntry; rows: bigint }[] = []
  let bytes = 0
  const plan = {
    tenant,
    query: { kind: 'and' as const, terms },
    fromNs: batch.minUs * 1_000n,
    toNs: (batch.maxUs + 1n) * 1_000n,
    order: 'asc' as const,
  }
  for await (const piece of store.scan(plan, signal))
    for (const entry of piece) {
      entries.push({ entry, rows: batch.firstRow + entry.id - batch.firstId + 1n })
      bytes += entry.message.length + (entry.metadata?.length ?? 0)
    }
  return { entries: entries.sort((a, b) => (a.rows < b.rows ? -1 : 1)), bytes }
}
