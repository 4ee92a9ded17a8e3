// Every match of a query, one after the other, inside the bounds that all queries have: the gate, time, rows.

import type { Query } from '../query/query.ts'
import type { Place, SearchPage, StoredEntry } from '../store/store.ts'
import { type QueryContext, withReads } from './context.ts'

export interface FoldPlan {
  /** Whose turn at the gate it is. */
  key: string
  tenant: string
  query: Query
  fromNs: bigint
  toNs: bigint
  order: 'asc' | 'desc'
  timeoutMs: number
  /** Most matches looked at. */
  matchesMax?: number
}

export interface Folded {
  matches: number
  scannedRows: number
  /** All matches were looked at; else time, rows or the caller's room ran out. */
  isComplete: boolean
}

const rowsScannedMax = 50_000_000
const pageRows = 1_000
export const pageBytesMax = 4 * 1024 * 1024

/** Stops early when `add` returns false. */
export async function foldMatches(
  context: QueryContext,
  plan: FoldPlan,
  add: (entry: StoredEntry) => boolean,
): Promise<Folded> {
  const { clock, gate } = context
  const matchesMax = plan.matchesMax ?? Number.POSITIVE_INFINITY
  const folded: Folded = { matches: 0, scannedRows: 0, isComplete: false }
  await gate.run(plan.key, () =>
    withReads(context, async store => {
      const startedMs = clock.monotonicMs()
      const leftMs = () => plan.timeoutMs - (clock.monotonicMs() - startedMs)
      for (let after: Place | undefined; leftMs() > 0 && folded.scannedRows < rowsScannedMax; ) {
        const page: SearchPage = await store.search(
          {
            ...plan,
            after,
            limit: Math.min(pageRows, matchesMax - folded.matches),
            bytesMax: pageBytesMax,
            timeoutMs: leftMs(),
            rowsScannedMax: rowsScannedMax - folded.scannedRows,
          },
          () => clock.monotonicMs(),
        )
        folded.scannedRows += page.scannedRows
        for (const entry of page.entries) {
          folded.matches++
          if (!add(entry)) return
        }
        if (!page.resume) {
          folded.isComplete = true
          return
        }
        if (folded.matches >= matchesMax) return
        after = page.resume
      }
    }),
  )
  return folded
}
