// The one interface to stored entries. Nothing above it knows which sink holds them; two sinks may hold data at once.
//
// Times of entries are nanoseconds since 1970: `columnar` keeps them, `rows` keeps microseconds and answers multiples of
// 1000. SQL, block headers and blooms only narrow; query/evaluate.ts decides, and visibility.ts takes away what is being
// deleted or has expired.

import type { Tx } from '#platform/postgres'
import type { Query } from '../query/query.ts'
import type { Deletion, RetentionRule } from './visibility.ts'

export interface StoredEntry {
  id: bigint
  timestampNs: bigint
  service: string
  level: string
  message: string
  /** JSON text. */
  metadata: string | null
  /** When it was accepted. */
  createdUs: bigint
}

/** A position in (timestamp, id) order. */
export interface Place {
  timestampNs: bigint
  id: bigint
}

/** Greater and less than every id, to stand just before or behind all entries of one time. */
export const idMax = 9_223_372_036_854_775_807n
export const idMin = -1n

export interface SearchPlan {
  tenant: string
  query: Query
  /** Inclusive. */
  fromNs: bigint
  /** Exclusive. */
  toNs: bigint
  order: 'asc' | 'desc'
  /** Only what comes behind this place in that order. */
  after: Place | undefined
  limit: number
  /** Most bytes of texts in one page. */
  bytesMax: number
  timeoutMs: number
  rowsScannedMax: number
}

export interface SearchPage {
  entries: StoredEntry[]
  scannedRows: number
  /** Blocks read, and blocks whose header or bloom said that nothing in them can match; 0 of `rows`. */
  scannedBlocks: number
  skippedBlocks: number
  /** Time, rows or bytes ran out before the page was full. */
  isPartial: boolean
  /** Where to go on; undefined when nothing can follow. */
  resume: Place | undefined
}

export interface BucketPlan {
  tenant: string
  query: Query
  fromNs: bigint
  toNs: bigint
  /** Start of the first bucket, a multiple of the interval; not after fromNs. */
  originNs: bigint
  intervalNs: bigint
  by: 'level' | 'service' | null
  timeoutMs: number
  rowsScannedMax: number
}

export interface BucketCounts {
  /** By bucket number, then by value of `by` (the empty text without one). */
  counts: Map<number, Map<string, bigint>>
  scannedRows: number
  isPartial: boolean
}

export interface ScanPlan {
  tenant: string
  query: Query
  fromNs: bigint
  toNs: bigint
  order: 'asc' | 'desc'
  after?: Place
  /** Most entries in one piece; 5000 unless given. */
  pieceRows?: number
}

export interface ErasePlan {
  tenant: string
  query: Query
  fromNs: bigint
  toNs: bigint
  /** Entries accepted at this time or later stay: they came after the job began. */
  acceptedBeforeUs: bigint
}

/** What one transaction of a deletion or an expiry took away. Totals are reduced in that transaction already. */
export interface ErasedChunk {
  rows: number
  /** UTF-8 bytes of their texts. */
  bytes: number
  /** Columnar blocks that went: their SHA-256, and that of the block with what is left (null: nothing was left). Hex. */
  blocks: { tenant: string; day: string; before: string; after: string | null }[]
  /** Of `rows`: the entries that went, for the digest of a tombstone. */
  entries?: readonly StoredEntry[]
  /** Of an expiry: whose they were. What a deletion takes is its tenant's. */
  tenant?: string
}

/** Runs inside the transaction of the chunk: job state, ledger, tombstone. */
export type OnErased = (tx: Tx, chunk: ErasedChunk) => Promise<void>

export interface VerifyRange {
  /** Undefined: all tenants. */
  tenant?: string
  /** UTC days, YYYY-MM-DD, both inclusive. */
  fromDay?: string
  toDay?: string
}

/** One tenant and day of evidence; `broken` names the first link that does not hold. */
export interface VerifiedDay {
  tenant: string
  day: string
  blocks: number
  links: number
  rows: bigint
  head: string | null
  broken: { at: string; problem: string } | null
}

export interface SinkStats {
  sink: 'rows' | 'columnar'
  /** Of `rows` an estimate of the server. */
  rows: bigint
  /** Disk, indexes included. */
  bytes: bigint
  /** UTF-8 of messages and metadata before packing; null where the server alone packs. */
  rawBytes: bigint | null
  partitions: number
  blocks: number
  /** UTC day, YYYY-MM-DD; null when empty. */
  oldestDay: string | null
}

/** One step of moving entries of the guide's table into blocks. */
export interface Moved {
  /** UTC day, YYYY-MM-DD. */
  day: string
  rows: number
  /** SHA-256 over the entries, equal before and after; hex. */
  digest: string
}

export interface Store {
  /** One page in order. `now` is monotonic ms. */
  search(plan: SearchPlan, now: () => number): Promise<SearchPage>
  find(tenant: string, id: bigint): Promise<StoredEntry | undefined>
  count(plan: BucketPlan, now: () => number): Promise<BucketCounts>
  /** All matches in order, in pieces of bounded size; as long as it takes. Each piece sees what is committed then. */
  scan(plan: ScanPlan, signal?: AbortSignal): AsyncIterable<StoredEntry[]>
  /** Hides the matches at once, on this replica; the function shows what is left of them again. */
  hide(deletion: Deletion): () => void
  /** Rules in force from now on: expired entries are not returned any more. */
  setRetention(rules: readonly RetentionRule[]): void
  /** Takes the matches away for good, chunk by chunk; run again, it goes on. */
  erase(plan: ErasePlan, onErased: OnErased, signal?: AbortSignal): Promise<void>
  /** Takes away what has expired: partitions, then blocks, then single entries. */
  expire(rules: readonly RetentionRule[], nowMs: number, onErased: OnErased, signal?: AbortSignal): Promise<void>
  verify(range: VerifyRange, signal?: AbortSignal): AsyncIterable<VerifiedDay>
  stats(): Promise<SinkStats[]>
  /** Merges fresh blocks once where it pays; false when there was nothing to do. */
  compact(o: { coldAfterMs: number }): Promise<boolean>
  /** Moves some entries of the oldest day into blocks; null when nothing is left that can. Rows whose level is not one of
   *  ours stay where they are: a block could not give them back. */
  moveToBlocks(): Promise<Moved | null>
}
