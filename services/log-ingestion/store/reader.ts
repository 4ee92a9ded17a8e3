// What one sink can be asked, inside a transaction of the asker: both sinks then answer from one snapshot.

import type { Tx } from '#platform/postgres'
import type { BucketCounts, BucketPlan, SearchPage, SearchPlan, StoredEntry } from './store.ts'
import type { View } from './visibility.ts'

export type Windowed<Plan> = Plan & { view: View }
export type ReadPlan = Windowed<SearchPlan>

export interface Reader {
  hasData(tx: Tx): Promise<boolean>
  /** Entries of the page are matches, and visible. */
  search(tx: Tx, plan: ReadPlan, now: () => number): Promise<SearchPage>
  find(tx: Tx, tenant: string, id: bigint): Promise<StoredEntry | undefined>
  /** Undefined: this sink has no shorter way than looking at every entry. */
  count(tx: Tx, plan: Windowed<BucketPlan>, now: () => number): Promise<BucketCounts | undefined>
}

export function emptyPage(): SearchPage {
  return { entries: [], scannedRows: 0, scannedBlocks: 0, skippedBlocks: 0, isPartial: false, resume: undefined }
}

export function addCount({ counts }: BucketCounts, bucket: number, by: string, count: bigint): void {
  const values = counts.get(bucket) ?? new Map<string, bigint>()
  values.set(by, (values.get(by) ?? 0n) + count)
  counts.set(bucket, values)
}
