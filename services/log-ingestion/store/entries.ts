// Reading `logs`: pages in (timestamp, id) order, counts per bucket, single entries.
//
// Every statement carries the tenant. Rows of the default tenant have no mark, and the column of the others may not exist:
// `unmarked` is what the name `tenant` means then, one scope further out, so that no statement depends on anybody's
// knowledge of the column.

import { errorCode, type Queryable, type Sql } from '#platform/postgres'
import { compile } from '../query/evaluate.ts'
import type { Query } from '../query/query.ts'
import { defaultTenant } from './commit.ts'
import { narrow, timestampText } from './narrow.ts'

export interface StoredEntry {
  id: bigint
  timestampUs: bigint
  service: string
  level: string
  message: string
  /** JSON text. */
  metadata: string | null
  createdUs: bigint
}

export interface Place {
  timestampUs: bigint
  id: bigint
}

export interface SearchPlan {
  tenant: string
  query: Query
  /** Inclusive. */
  fromUs: bigint
  /** Exclusive. */
  toUs: bigint
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
  /** Time, rows or bytes ran out before the page was full. */
  isPartial: boolean
  /** Where to go on; undefined when nothing can follow. */
  resume: Place | undefined
}

const fetchRows = 500
/** The first stretch of time looked at; each following one is four times as long. A search for the newest hundred must not
 *  sort a day, and one without matches must not take a thousand statements. */
const firstWindowUs = 60_000_000n

export async function searchEntries(sql: Sql, plan: SearchPlan, now: () => number): Promise<SearchPage> {
  const startedMs = now()
  const matches = compile(plan.query)
  const page: SearchPage = { entries: [], scannedRows: 0, isPartial: false, resume: undefined }
  let bytes = 0
  const outOfTime = () => now() - startedMs >= plan.timeoutMs
  await sql
    .begin('read only', async tx => {
      for (const window of windows(plan)) {
        const leftMs = plan.timeoutMs - (now() - startedMs)
        if (leftMs <= 0) return stop(page, window.edge)
        await tx`select set_config('statement_timeout', ${String(Math.ceil(leftMs))}, true)`
        const narrowing = narrow(tx, plan.query)
        const isExact = narrowing?.isExact ?? false
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
              if (page.entries.length === plan.limit) return finish(page, false)
              bytes += entry.message.length + (entry.metadata?.length ?? 0) + 200
              if (bytes > plan.bytesMax && page.entries.length > 0) return finish(page, true)
              page.entries.push(entry)
            }
            const last = rows.at(-1)
            if (!last) break
            reached = placeOf(last)
            if (page.scannedRows >= plan.rowsScannedMax || outOfTime()) return stop(page, reached)
          }
          await tx`close found`
        } catch (error) {
          if (errorCode(error) !== '57014') throw error
          // The server stopped at our time limit.
          return stop(page, reached)
        }
      }
    })
    .catch(error => {
      // After a cancelled statement the transaction can only end; the page is what it is.
      if (!page.isPartial) throw error
    })
  return page
}

function finish(page: SearchPage, isPartial: boolean): void {
  const last = page.entries.at(-1)
  page.resume = last && { timestampUs: last.timestampUs, id: last.id }
  page.isPartial = isPartial
}

function stop(page: SearchPage, at: Place): void {
  page.resume = at
  page.isPartial = true
}

interface Window {
  lowUs: bigint
  highUs: bigint
  /** The place just before the window's first row, in the order of the search. */
  edge: Place
}

/** Greater and less than every id, to stand just before or behind all rows of one time. */
export const idMax = 9_223_372_036_854_775_807n
export const idMin = -1n

function* windows(plan: SearchPlan): Generator<Window> {
  const isDesc = plan.order === 'desc'
  let { fromUs, toUs } = plan
  if (plan.after) {
    if (isDesc) toUs = lesser(toUs, plan.after.timestampUs + 1n)
    else fromUs = greater(fromUs, plan.after.timestampUs)
  }
  let lengthUs = firstWindowUs
  for (let isFirst = true; fromUs < toUs; isFirst = false, lengthUs *= 4n) {
    if (isDesc) {
      const lowUs = greater(toUs - lengthUs, fromUs)
      yield { lowUs, highUs: toUs, edge: isFirst && plan.after ? plan.after : { timestampUs: toUs, id: idMin } }
      toUs = lowUs
    } else {
      const highUs = lesser(fromUs + lengthUs, toUs)
      yield {
        lowUs: fromUs,
        highUs,
        edge: isFirst && plan.after ? plan.after : { timestampUs: fromUs - 1n, id: idMax },
      }
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

interface EntryRow {
  id: bigint
  timestampUs: bigint
  service: string | null
  level: string | null
  message: string | null
  metadata: string | null
  createdUs: bigint | null
}

function selectWindow(tx: Queryable, plan: SearchPlan, window: Window, limit: number | null) {
  const narrowing = narrow(tx, plan.query)
  const { after } = plan
  const direction = plan.order === 'desc' ? tx`desc` : tx`asc`
  const behind = after
    ? plan.order === 'desc'
      ? tx`and (l.timestamp, l.id) < (${timestampText(after.timestampUs)}::timestamptz, ${after.id}::int8)`
      : tx`and (l.timestamp, l.id) > (${timestampText(after.timestampUs)}::timestamptz, ${after.id}::int8)`
    : tx``
  return tx<EntryRow[]>`
    select ${columns(tx)} from ${unmarked(tx)} cross join lateral (
      select l.* from public.logs l
      where l.timestamp >= ${timestampText(window.lowUs)}::timestamptz and l.timestamp < ${timestampText(window.highUs)}::timestamptz
        and ${ofTenant(tx, plan.tenant)} ${behind} ${narrowing ? tx`and (${narrowing.condition})` : tx``}
    ) e
    order by e.timestamp ${direction}, e.id ${direction} ${limit === null ? tx`` : tx`limit ${limit}`}`
}

function columns(tx: Queryable) {
  return tx`e.id, (extract(epoch from e.timestamp) * 1000000)::int8 as "timestampUs", e.service, e.level, e.message,
    e.metadata::text as metadata, (extract(epoch from e.created_at) * 1000000)::int8 as "createdUs"`
}

/** See the top of the file. */
function unmarked(tx: Queryable) {
  return tx`(values (null::text)) as unmarked(tenant)`
}

function ofTenant(tx: Queryable, tenant: string) {
  return tenant === defaultTenant ? tx`tenant is null` : tx`tenant = ${tenant}`
}

function entryOf(row: EntryRow): StoredEntry {
  const { id, timestampUs, service, level, message, metadata, createdUs } = row
  return {
    id,
    timestampUs,
    service: service ?? '',
    level: level ?? '',
    message: message ?? '',
    metadata,
    createdUs: createdUs ?? timestampUs,
  }
}

function placeOf(row: EntryRow): Place {
  return { timestampUs: row.timestampUs, id: row.id }
}

export async function findEntry(sql: Sql, tenant: string, id: bigint): Promise<StoredEntry | undefined> {
  if (id > idMax) return undefined
  const [row] = await sql<EntryRow[]>`
    select ${columns(sql)} from ${unmarked(sql)} cross join lateral (
      select l.* from public.logs l where l.id = ${id} and ${ofTenant(sql, tenant)} limit 1
    ) e`
  return row && entryOf(row)
}

export interface BucketPlan {
  tenant: string
  query: Query
  fromUs: bigint
  toUs: bigint
  /** Start of the first bucket, a multiple of the interval; not after fromUs. */
  originUs: bigint
  intervalUs: bigint
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

/** Counts in SQL when SQL decides exactly, else by looking at every candidate. */
export async function countBuckets(sql: Sql, plan: BucketPlan, now: () => number): Promise<BucketCounts> {
  const result: BucketCounts = { counts: new Map(), scannedRows: 0, isPartial: false }
  const add = (bucket: number, by: string, count: bigint) => {
    const values = result.counts.get(bucket) ?? new Map<string, bigint>()
    values.set(by, (values.get(by) ?? 0n) + count)
    result.counts.set(bucket, values)
  }
  const narrowing = narrow(sql, plan.query)
  if (!narrowing?.isExact) {
    const byOf = (entry: StoredEntry) =>
      plan.by === 'level' ? entry.level : plan.by === 'service' ? entry.service : ''
    const startedMs = now()
    let after: Place | undefined
    do {
      const page: SearchPage = await searchEntries(
        sql,
        {
          ...plan,
          order: 'asc',
          after,
          limit: 10_000,
          bytesMax: 8 * 1024 * 1024,
          timeoutMs: Math.max(1, plan.timeoutMs - (now() - startedMs)),
          rowsScannedMax: plan.rowsScannedMax - result.scannedRows,
        },
        now,
      )
      for (const entry of page.entries)
        add(Number((entry.timestampUs - plan.originUs) / plan.intervalUs), byOf(entry), 1n)
      result.scannedRows += page.scannedRows
      after = page.resume
      if (now() - startedMs >= plan.timeoutMs || result.scannedRows >= plan.rowsScannedMax)
        result.isPartial = after !== undefined
    } while (after && !result.isPartial)
    return result
  }
  try {
    await sql.begin('read only', async tx => {
      await tx`select set_config('statement_timeout', ${String(plan.timeoutMs)}, true)`
      const condition = narrow(tx, plan.query)?.condition ?? tx`true`
      const by = plan.by === 'level' ? tx`l.level` : plan.by === 'service' ? tx`l.service` : tx`''`
      const rows = await tx<{ bucket: bigint; by: string | null; count: bigint }[]>`
        select e.bucket, e.by, count(*) as count from ${unmarked(tx)} cross join lateral (
          select ((extract(epoch from l.timestamp) * 1000000)::int8 - ${plan.originUs}::int8) / ${plan.intervalUs}::int8 as bucket, ${by} as by
          from public.logs l
          where l.timestamp >= ${timestampText(plan.fromUs)}::timestamptz and l.timestamp < ${timestampText(plan.toUs)}::timestamptz
            and ${ofTenant(tx, plan.tenant)} and (${condition})
        ) e group by 1, 2`
      for (const row of rows) {
        add(Number(row.bucket), row.by ?? '', row.count)
        result.scannedRows += Number(row.count)
      }
    })
  } catch (error) {
    if (errorCode(error) !== '57014') throw error
    result.isPartial = true
  }
  return result
}
