// The store as everything above sees it: every sink that holds data, merged, from one snapshot per read.

import type { Sql, Tx } from '#platform/postgres'
import type { EvidenceKey } from '../evidence-key.ts'
import { dropBatches } from './batches.ts'
import { compactOnce } from './columnar/compact.ts'
import { type Encoder, openEncoder } from './columnar/encoder.ts'
import { eraseBlocks, expireBlocks } from './columnar/erase.ts'
import { moveOnce } from './columnar/move.ts'
import { columnarReader } from './columnar/search.ts'
import { columnarStats } from './columnar/stats.ts'
import { verifyBlocks } from './columnar/verify.ts'
import { addCount, emptyPage, type Reader } from './reader.ts'
import { settleDropped } from './rows/chunks.ts'
import { eraseRows } from './rows/erase.ts'
import { expireRows } from './rows/expire.ts'
import type { LogsTable } from './rows/logs-table.ts'
import { openDailyPartitions } from './rows/partitions.ts'
import { rowsReader, rowsStats } from './rows/reader.ts'
import type { BucketCounts, BucketPlan, Place, SearchPage, SearchPlan, Store, StoredEntry } from './store.ts'
import type { Visibility } from './visibility.ts'

export interface StoreOptions {
  /** For reading. */
  sql: Sql
  /** For deletions and expiry. */
  writes: Sql
  table: LogsTable
  visibility: Visibility
  /** Signs what is written anew. */
  evidence: EvidenceKey
  /** Unix ms. */
  now: () => number
  /** Of its own, so that merging does not hold up commits; made when there is something to merge. */
  encoder?: Encoder
}

const pieceRowsDefault = 5_000
export const pieceBytesMax = 4 * 1024 * 1024
/** A piece of a scan ends after this long or this many candidates, and the next goes on: no snapshot grows old. */
const pieceTimeoutMs = 10_000
const pieceScannedMax = 1_000_000

export function openStore(o: StoreOptions): Store & { close(): Promise<void> } {
  const { sql, writes, table, visibility, evidence, now: nowMs } = o
  const encoder = o.encoder ?? openEncoder()
  const blockPartitions = openDailyPartitions(writes, { schema: 'purser_logs', table: 'blocks', boundOf: date => date })
  const rowsEraser = { sql: writes, table, evidence, nowMs }
  const readers: readonly Reader[] = [rowsReader, columnarReader]

  const snapshot = <T>(work: (tx: Tx, holding: readonly Reader[]) => Promise<T>) =>
    sql.begin('isolation level repeatable read read only', async tx => {
      const holding: Reader[] = []
      for (const reader of readers) if (await reader.hasData(tx)) holding.push(reader)
      return await work(tx, holding)
    })

  /** One transaction per sink: one that was cancelled at the time limit can only end. Entries move from `rows` to `columnar`
   *  and never back, so asking in this order misses none, and what is found twice has one place. */
  const search = async (plan: SearchPlan, now: () => number): Promise<SearchPage> => {
    const startedMs = now()
    const view = visibility.view(plan.tenant)
    const pages: SearchPage[] = []
    for (const [i, reader] of readers.entries()) {
      const timeoutMs = Math.max(1, (plan.timeoutMs - (now() - startedMs)) / (readers.length - i))
      let page = emptyPage()
      await sql
        .begin('isolation level repeatable read read only', async tx => {
          if (await reader.hasData(tx)) page = await reader.search(tx, { ...plan, view, timeoutMs }, now)
        })
        .catch(error => {
          if (!page.isPartial) throw error
        })
      pages.push(page)
    }
    return mergePages(pages, plan)
  }

  const count = async (plan: BucketPlan, now: () => number): Promise<BucketCounts> => {
    const startedMs = now()
    const view = visibility.view(plan.tenant)
    const leftMs = () => Math.max(1, plan.timeoutMs - (now() - startedMs))
    let sums: BucketCounts | undefined = { counts: new Map(), scannedRows: 0, isPartial: false }
    await snapshot(async (tx, holding) => {
      for (const reader of holding) {
        const part = await reader.count(tx, { ...plan, view, timeoutMs: leftMs() }, now)
        if (part === undefined || sums === undefined) {
          sums = undefined
          return
        }
        addAll(sums, part)
        if (part.isPartial) return
      }
    }).catch(error => {
      if (!sums?.isPartial) throw error
    })
    return sums ?? (await countByLooking(plan, now))
  }

  /** For queries that only the evaluator can decide: pages of matches, folded. */
  const countByLooking = async (plan: BucketPlan, now: () => number): Promise<BucketCounts> => {
    const result: BucketCounts = { counts: new Map(), scannedRows: 0, isPartial: false }
    const byOf = (entry: StoredEntry) =>
      plan.by === 'level' ? entry.level : plan.by === 'service' ? entry.service : ''
    const startedMs = now()
    let after: Place | undefined
    do {
      const page: SearchPage = await search(
        {
          ...plan,
          order: 'asc',
          after,
          limit: 10_000,
          bytesMax: pieceBytesMax,
          timeoutMs: Math.max(1, plan.timeoutMs - (now() - startedMs)),
          rowsScannedMax: plan.rowsScannedMax - result.scannedRows,
        },
        now,
      )
      for (const entry of page.entries)
        addCount(result, Number((entry.timestampNs - plan.originNs) / plan.intervalNs), byOf(entry), 1n)
      result.scannedRows += page.scannedRows
      after = page.resume
      if (now() - startedMs >= plan.timeoutMs || result.scannedRows >= plan.rowsScannedMax)
        result.isPartial = after !== undefined
    } while (after && !result.isPartial)
    return result
  }

  return {
    search,
    count,
    async find(tenant, id) {
      const { fromNs, isVisible } = visibility.view(tenant)
      const entry = await snapshot(async (tx, holding) => {
        for (const reader of holding) {
          const found = await reader.find(tx, tenant, id)
          if (found) return found
        }
        return undefined
      })
      if (!entry || (fromNs !== null && entry.timestampNs < fromNs)) return undefined
      return isVisible === null || isVisible(entry) ? entry : undefined
    },
    async *scan(plan, signal) {
      let { after } = plan
      do {
        signal?.throwIfAborted()
        const page: SearchPage = await search(
          {
            ...plan,
            after,
            limit: plan.pieceRows ?? pieceRowsDefault,
            bytesMax: pieceBytesMax,
            timeoutMs: pieceTimeoutMs,
            rowsScannedMax: pieceScannedMax,
          },
          () => performance.now(),
        )
        if (page.entries.length > 0) yield page.entries
        after = page.resume
      } while (after)
    },
    hide: deletion => visibility.hide(deletion),
    setRetention: rules => visibility.setRetention(rules),
    async erase(plan, onErased, signal) {
      await eraseRows(rowsEraser, plan, onErased, signal)
      await eraseBlocks({ sql: writes, encoder, evidence, nowMs }, plan, onErased, signal)
    },
    async expire(rules, atMs, onErased, signal) {
      await expireRows(rowsEraser, rules, atMs, onErased, signal)
      if (rules.every(rule => rule.keepMs === null)) return
      await expireBlocks({ sql: writes, encoder, evidence, nowMs }, rules, atMs, onErased, signal)
      const longestMs = Math.max(...rules.map(rule => rule.keepMs ?? Number.POSITIVE_INFINITY))
      if (Number.isFinite(longestMs)) await dropBatches(writes, BigInt(atMs - longestMs) * 1_000n)
      // When blocks have gone too: what is left of a day without a chunk went with the chunk.
      if (table.kind === 'hypertable') await settleDropped(rowsEraser, onErased)
    },
    verify: (range, signal) => verifyBlocks(sql, range, signal),
    stats: async () => [await rowsStats(sql), await columnarStats(sql)],
    compact: ({ coldAfterMs }) => compactOnce({ sql: writes, encoder, evidence, nowMs: nowMs(), coldAfterMs }),
    moveToBlocks: () => moveOnce(rowsEraser, days => blockPartitions.ensure(days)),
    close: () => encoder.close(),
  }
}

/** Pages of several sinks as one: nothing behind a place that some sink has not looked behind. */
export function mergePages(pages: readonly SearchPage[], plan: SearchPlan): SearchPage {
  const [only, ...others] = pages.filter(
    page => page.scannedRows > 0 || page.resume || page.scannedBlocks + page.skippedBlocks > 0,
  )
  if (!only) return emptyPage()
  if (others.length === 0) return only
  const direction = plan.order === 'desc' ? -1 : 1
  const compare = (a: Place, b: Place) => direction * comparePlaces(a, b)
  const merged = emptyPage()
  let bound: Place | undefined
  for (const page of pages) {
    merged.scannedRows += page.scannedRows
    merged.scannedBlocks += page.scannedBlocks
    merged.skippedBlocks += page.skippedBlocks
    merged.isPartial ||= page.isPartial
    if (page.resume && (bound === undefined || compare(page.resume, bound) < 0)) bound = page.resume
  }
  const all = pages
    .flatMap(page => page.entries)
    .sort(compare)
    .filter((entry, i, list) => i === 0 || compare(list[i - 1] ?? entry, entry) !== 0)
  const reached = bound
  merged.entries = reached ? all.filter(entry => compare(entry, reached) <= 0) : all
  merged.resume = bound
  if (merged.entries.length > plan.limit) {
    merged.entries.length = plan.limit
    const last = merged.entries.at(-1)
    merged.resume = last && { timestampNs: last.timestampNs, id: last.id }
    merged.isPartial = false
  }
  return merged
}

export function comparePlaces(a: Place, b: Place): number {
  if (a.timestampNs !== b.timestampNs) return a.timestampNs < b.timestampNs ? -1 : 1
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0
}

function addAll(sums: BucketCounts, part: BucketCounts): void {
  for (const [bucket, values] of part.counts) for (const [by, n] of values) addCount(sums, bucket, by, n)
  sums.scannedRows += part.scannedRows
  sums.isPartial ||= part.isPartial
}
