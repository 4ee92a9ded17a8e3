// Reading `logs`: pages in (timestamp, id) order, counts per bucket, single entries.
//
// Every statement carries the tenant. Rows of the default tenant have no mark, and the column of the others may not exist:
// `unmarked` is what the name `tenant` means then, one scope further out, so that no statement depends on anybody's
// knowledge of the column.

import { errorCode, type Queryable, type Tx } from '#platform/postgres'
import { compile } from '../../query/evaluate.ts'
import { addCount, emptyPage, type ReadPlan, type Windowed } from '../reader.ts'
import {
  type BucketCounts,
  type BucketPlan,
  idMax,
  idMin,
  type Place,
  type SearchPage,
  type StoredEntry,
} from '../store.ts'
import { defaultTenant } from '../tenant.ts'
import { narrow, timestampText } from './narrow.ts'

const fetchRows = 500
/** The first stretch of time looked at; each following one is four times as long. A search for the newest hundred must not
 *  sort a day, and one without matches must not take a thousand statements. */
const firstWindowUs = 60_000_000n

/** After `isPartial` the transaction may be one that can only end: the server cancelled a statement at our time limit. */
export async function searchRows(tx: Tx, plan: ReadPlan, now: () => number): Promise<SearchPage> {
  const startedMs = now()
  const matches = compile(plan.query)
  const { isVisible } = plan.view
  const page = emptyPage()
  let bytes = 0
  const outOfTime = () => now() - startedMs >= plan.timeoutMs
  for (const window of windows(rangeOf(plan))) {
    const leftMs = plan.timeoutMs - (now() - startedMs)
    if (leftMs <= 0) return stop(page, window.edge)
    await tx`select set_config('statement_timeout', ${String(Math.ceil(leftMs))}, true)`
    const isExact = isVisible === null && (narrow(tx, plan.query)?.isExact ?? false)
    const wanted = plan.limit + 1 - page.entries.length
    let reached = window.edge
    try {
      // A cursor of the server, not of the driver: that one does not survive a lost connection.
      await tx`declare found no scroll cursor for ${selectWindow(tx, plan, window, isExact ? wanted : null)}`
      for (let isLast = false; !isLast; ) {
        const rows = await tx<EntryRow[]>`fetch ${tx.unsafe(String(fetchRows))} from found`
        isLast = rows.length < fetchRows
        for (const row of rows) {
          page.scannedRows++
          const entry = entryOf(row)
          if (!isExact && !matches(entry)) continue
          if (isVisible && !isVisible(entry)) continue
          if (page.entries.length === plan.limit) return finish(page, false)
          bytes += entry.message.length + (entry.metadata?.length ?? 0) + 200
          if (bytes > plan.bytesMax && page.entries.length > 0) return finish(page, true)
          page.entries.push(entry)
        }
        const last = rows.at(-1)
        if (!last) break
        reached = { timestampNs: last.timestampUs * 1_000n, id: last.id }
        if (page.scannedRows >= plan.rowsScannedMax || outOfTime()) return stop(page, reached)
      }
      await tx`close found`
    } catch (error) {
      if (errorCode(error) !== '57014') throw error
      return stop(page, reached)
    }
  }
  return page
}

function finish(page: SearchPage, isPartial: boolean): SearchPage {
  const last = page.entries.at(-1)
  return { ...page, resume: last && { timestampNs: last.timestampNs, id: last.id }, isPartial }
}

function stop(page: SearchPage, at: Place): SearchPage {
  return { ...page, resume: at, isPartial: true }
}

/** The same range in microseconds, which is what the table can tell apart. */
interface Range {
  order: 'asc' | 'desc'
  /** Inclusive. */
  fromUs: bigint
  /** Exclusive. */
  toUs: bigint
  after: { us: bigint; id: bigint } | undefined
}

function rangeOf(plan: ReadPlan): Range {
  const { order, after } = plan
  const fromNs = greater(plan.fromNs, plan.view.fromNs ?? plan.fromNs)
  return { order, fromUs: ceilUs(fromNs), toUs: ceilUs(plan.toNs), after: after && placeUs(after, order) }
}

/** A place between two microseconds, of an entry of the other sink, stands before all ids of the one and behind the other's. */
function placeUs({ timestampNs, id }: Place, order: 'asc' | 'desc'): { us: bigint; id: bigint } {
  const us = ceilUs(timestampNs)
  if (us * 1_000n === timestampNs) return { us, id }
  return order === 'desc' ? { us, id: idMin } : { us: us - 1n, id: idMax }
}

export function ceilUs(ns: bigint): bigint {
  return ns / 1_000n + (ns % 1_000n > 0n ? 1n : 0n)
}

interface Window {
  lowUs: bigint
  highUs: bigint
  after: { us: bigint; id: bigint } | undefined
  /** The place just before the window's first row, in the order of the search. */
  edge: Place
}

function* windows({ order, fromUs, toUs, after }: Range): Generator<Window> {
  const isDesc = order === 'desc'
  if (after) {
    if (isDesc) toUs = lesser(toUs, after.us + 1n)
    else fromUs = greater(fromUs, after.us)
  }
  let lengthUs = firstWindowUs
  for (let isFirst = true; fromUs < toUs; isFirst = false, lengthUs *= 4n) {
    const start = isFirst && after ? { timestampNs: after.us * 1_000n, id: after.id } : undefined
    if (isDesc) {
      const lowUs = greater(toUs - lengthUs, fromUs)
      yield { lowUs, highUs: toUs, after, edge: start ?? { timestampNs: toUs * 1_000n, id: idMin } }
      toUs = lowUs
    } else {
      const highUs = lesser(fromUs + lengthUs, toUs)
      yield { lowUs: fromUs, highUs, after, edge: start ?? { timestampNs: (fromUs - 1n) * 1_000n, id: idMax } }
      fromUs = highUs
    }
  }
}

function lesser(a: bigint, b: bigint): bigint {
  return a > b ? b : a
}

function greater(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}

export interface EntryRow {
  id: bigint
  timestampUs: bigint
  service: string | null
  level: string | null
  message: string | null
  metadata: string | null
  createdUs: bigint | null
}

function selectWindow(tx: Queryable, plan: ReadPlan, window: Window, limit: number | null) {
  const narrowing = narrow(tx, plan.query)
  const { after } = window
  const direction = plan.order === 'desc' ? tx`desc` : tx`asc`
  const behind = after
    ? plan.order === 'desc'
      ? tx`and (l.timestamp, l.id) < (${timestampText(after.us)}::timestamptz, ${after.id}::int8)`
      : tx`and (l.timestamp, l.id) > (${timestampText(after.us)}::timestamptz, ${after.id}::int8)`
    : tx``
  return tx<EntryRow[]>`
    select ${columns(tx)} from ${unmarked(tx)} cross join lateral (
      select l.* from public.logs l
      where l.timestamp >= ${timestampText(window.lowUs)}::timestamptz and l.timestamp < ${timestampText(window.highUs)}::timestamptz
        and ${ofTenant(tx, plan.tenant)} ${behind} ${narrowing ? tx`and (${narrowing.condition})` : tx``}
    ) e
    order by e.timestamp ${direction}, e.id ${direction} ${limit === null ? tx`` : tx`limit ${limit}`}`
}

export function columns(tx: Queryable) {
  return tx`e.id, (extract(epoch from e.timestamp) * 1000000)::int8 as "timestampUs", e.service, e.level, e.message,
    e.metadata::text as metadata, (extract(epoch from e.created_at) * 1000000)::int8 as "createdUs"`
}

/** See the top of the file. */
export function unmarked(tx: Queryable) {
  return tx`(values (null::text)) as unmarked(tenant)`
}

export function ofTenant(tx: Queryable, tenant: string) {
  return tenant === defaultTenant ? tx`tenant is null` : tx`tenant = ${tenant}`
}

export function entryOf(row: EntryRow): StoredEntry {
  const { id, timestampUs, service, level, message, metadata, createdUs } = row
  return {
    id,
    timestampNs: timestampUs * 1_000n,
    service: service ?? '',
    level: level ?? '',
    message: message ?? '',
    metadata,
    createdUs: createdUs ?? timestampUs,
  }
}

export async function findRow(sql: Queryable, tenant: string, id: bigint): Promise<StoredEntry | undefined> {
  if (id > idMax) return undefined
  const [row] = await sql<EntryRow[]>`
    select ${columns(sql)} from ${unmarked(sql)} cross join lateral (
      select l.* from public.logs l where l.id = ${id} and ${ofTenant(sql, tenant)} limit 1
    ) e`
  return row && entryOf(row)
}

/** Whether any tenant has an entry here. */
export async function hasRows(sql: Queryable): Promise<boolean> {
  const [row] = await sql<{ found: boolean }[]>`select exists(select from public.logs) as found`
  return row?.found ?? false
}

/** Counts in SQL when SQL decides exactly; undefined when every candidate has to be looked at. */
export async function countRows(tx: Tx, plan: Windowed<BucketPlan>): Promise<BucketCounts | undefined> {
  const result: BucketCounts = { counts: new Map(), scannedRows: 0, isPartial: false }
  const narrowing = narrow(tx, plan.query)
  // A bucket of less than a microsecond would need digits that the table does not have.
  if (!narrowing?.isExact || plan.view.isVisible || plan.intervalNs % 1_000n !== 0n || plan.originNs % 1_000n !== 0n)
    return undefined
  const fromNs = greater(plan.fromNs, plan.view.fromNs ?? plan.fromNs)
  const [originUs, intervalUs] = [plan.originNs / 1_000n, plan.intervalNs / 1_000n]
  try {
    await tx`select set_config('statement_timeout', ${String(Math.ceil(plan.timeoutMs))}, true)`
    const by = plan.by === 'level' ? tx`l.level` : plan.by === 'service' ? tx`l.service` : tx`''`
    const rows = await tx<{ bucket: bigint; by: string | null; count: bigint }[]>`
      select e.bucket, e.by, count(*) as count from ${unmarked(tx)} cross join lateral (
        select ((extract(epoch from l.timestamp) * 1000000)::int8 - ${originUs}::int8) / ${intervalUs}::int8 as bucket, ${by} as by
        from public.logs l
        where l.timestamp >= ${timestampText(ceilUs(fromNs))}::timestamptz and l.timestamp < ${timestampText(ceilUs(plan.toNs))}::timestamptz
          and ${ofTenant(tx, plan.tenant)} and (${narrowing.condition})
      ) e group by 1, 2`
    for (const row of rows) {
      addCount(result, Number(row.bucket), row.by ?? '', row.count)
      result.scannedRows += Number(row.count)
    }
  } catch (error) {
    if (errorCode(error) !== '57014') throw error
    result.isPartial = true
  }
  return result
}
