// Taking expired entries out of the guide's table: whole partitions or chunks first, then single rows.
//
// Rows that will go with their whole day are left to it for almost as long as they may stay: deleting them one by one would
// be the work that whole days save.
//
// A partition goes when nobody keeps anything of its day any longer. It is counted and emptied in one transaction, with a
// lock that lets readers pass until the very end, and dropped afterwards, when it is empty and nobody misses it.

import type { Fragment } from 'postgres'
import { errorCode, type Sql, type Tx } from '#platform/postgres'
import type { OnErased } from '../store.ts'
import { defaultTenant } from '../tenant.ts'
import { horizonNs, type RetentionRule } from '../visibility.ts'
import { dateOfUs, relink } from './chain.ts'
import { dropChunks, setPolicy } from './chunks.ts'
import type { RowsEraser } from './erase.ts'
import { timestampText } from './narrow.ts'
import { deletionsOf, placeOf, type RowPlace } from './places.ts'
import { ofTenant, unmarked } from './search.ts'
import { type HourCount, reduceTotalsBy } from './totals.ts'
import { countWhole, lockTimeout, settleWhole } from './whole-days.ts'

const chunkRows = 5_000

export async function expireRows(
  o: RowsEraser,
  rules: readonly RetentionRule[],
  nowMs: number,
  onErased: OnErased,
  signal?: AbortSignal,
): Promise<void> {
  const { sql, table } = o
  const longestMs = longestOf(rules)
  if (table.kind === 'hypertable') await setPolicy(sql, table, longestMs)
  if (rules.every(rule => rule.keepMs === null)) return
  if (longestMs !== null) {
    const horizonUs = horizonNs(longestMs, nowMs) / 1_000n
    if (table.kind === 'partitioned') await expirePartitions(o, horizonUs, onErased, signal)
    if (table.kind === 'hypertable') await dropChunks(o, horizonUs, onErased, signal)
  }
  const isThorough = rounds++ % thoroughEvery === 0
  for (const tenant of await tenantsOf(sql, rules))
    for (const { condition, keepMs } of conditionsOf(sql, rules, tenant)) {
      const isLeftToItsDay = keepMs === longestMs && table.kind !== 'plain'
      const horizonUs = horizonNs(keepMs + (isLeftToItsDay ? wholeDayPatienceMs : 0), nowMs) / 1_000n
      const lowUs = isThorough ? null : await oldestHourUs(sql, tenant, condition, horizonUs)
      if (lowUs !== undefined) await expireSingle(o, tenant, condition, { lowUs, horizonUs }, onErased, signal)
    }
}

/** A day goes as a whole when its last row has expired: for its first one that is a day later. Expired rows are gone within
 *  24 h; the rest of that is for the rounds in between. */
const wholeDayPatienceMs = 23.5 * 3_600_000

/** Null: something is kept for ever. */
function longestOf(rules: readonly RetentionRule[]): number | null {
  const keeps = rules.map(rule => rule.keepMs)
  return keeps.length === 0 || keeps.includes(null) ? null : Math.max(...keeps.map(keepMs => keepMs ?? 0))
}

/** The totals say whether there is anything to look for. Entries of an older installation are in no total: now and then,
 *  and first of all, the table itself is asked, whatever that costs. */
const thoroughEvery = 72
let rounds = 0

/** Where to begin; undefined when no total speaks of an expired entry. */
async function oldestHourUs(
  sql: Sql,
  tenant: string,
  condition: Fragment,
  horizonUs: bigint,
): Promise<bigint | undefined> {
  const [row] = await sql<{ oldest: bigint | null }[]>`
    select (extract(epoch from min(l.hour)) * 1000000)::int8 as oldest from purser_logs.totals l
    where l.tenant = ${tenant} and l.rows > 0 and l.hour < ${timestampText(horizonUs)}::timestamptz and (${condition})`
  return row?.oldest ?? undefined
}

// Whole partitions

async function expirePartitions(
  o: RowsEraser,
  horizonUs: bigint,
  onErased: OnErased,
  signal?: AbortSignal,
): Promise<void> {
  const { sql } = o
  const expired = await sql<{ name: string; isDaily: boolean; isPending: boolean }[]>`
    select c.oid::regclass::text as name, c.relname like 'logs\\_p________' as "isDaily", i.inhdetachpending as "isPending"
    from pg_inherits i join pg_class c on c.oid = i.inhrelid,
      lateral pg_get_expr(c.relpartbound, c.oid) as bound,
      lateral (select substring(bound from 'TO \\(''([^'']*)''\\)')::timestamptz as high) as ends
    where i.inhparent = 'public.logs'::regclass and c.relkind = 'r' and high <= ${timestampText(horizonUs)}::timestamptz
    order by high`
  for (const { name, isDaily, isPending } of expired) {
    signal?.throwIfAborted()
    try {
      if (!isPending) await emptyPartition(o, name, onErased)
      // The one for old entries of a sender with a broken clock stays, empty.
      if (isDaily) await dropEmpty(sql, name, isPending)
    } catch (error) {
      // 55P03: a reader was in the way; 25006, 42501 and their like are for the caller.
      if (errorCode(error) !== '55P03') throw error
    }
  }
}

async function emptyPartition(o: RowsEraser, name: string, onErased: OnErased): Promise<void> {
  await o.sql.begin(async tx => {
    await tx`select set_config('lock_timeout', ${lockTimeout}, true), set_config('statement_timeout', '0', true)`
    const part = tx.unsafe(name)
    // Writers and other deleters wait; readers do not, until the rows are gone.
    await tx`lock table only ${part} in share row exclusive mode`
    const counts = await countWhole(
      tx,
      tx`select tenant as tenant, l.timestamp, l.service, l.level, l.message, l.metadata from only ${part} l`,
    )
    if (counts.length === 0) return
    await tx`truncate only ${part}`
    await settleWhole(tx, o, counts, onErased)
  })
}

/** Concurrently: dropping an attached partition would stop readers and writers of the whole table. */
async function dropEmpty(sql: Sql, name: string, isPending: boolean): Promise<void> {
  const [found] = await sql<
    { isEmpty: boolean }[]
  >`select not exists(select from only ${sql.unsafe(name)}) as "isEmpty"`
  if (!found?.isEmpty) return
  await sql.unsafe(`alter table public.logs detach partition ${name} ${isPending ? 'finalize' : 'concurrently'}`)
  // A row that came between the look and the detach is in the detached table; such a table stays for a person to see.
  await sql.begin(async tx => {
    await tx`select set_config('lock_timeout', ${lockTimeout}, true)`
    await tx`lock table ${tx.unsafe(name)} in access exclusive mode`
    const [now] = await tx<{ isEmpty: boolean }[]>`select not exists(select from ${tx.unsafe(name)}) as "isEmpty"`
    if (now?.isEmpty) await tx.unsafe(`drop table ${name}`)
  })
}

// Single rows

async function tenantsOf(sql: Sql, rules: readonly RetentionRule[]): Promise<string[]> {
  const rows = await sql<{ tenant: string }[]>`select distinct tenant from purser_logs.totals`
  const named = rules.flatMap(rule => rule.tenant ?? [])
  return [...new Set([defaultTenant, ...rows.map(row => row.tenant), ...named])]
}

/** For each rule in force the rows that no more specific one speaks of. */
function conditionsOf(
  sql: Sql,
  rules: readonly RetentionRule[],
  tenant: string,
): { condition: Fragment; keepMs: number }[] {
  const ours = rules.filter(rule => rule.tenant === tenant || rule.tenant === null).sort((x, y) => rank(y) - rank(x))
  const conditions: { condition: Fragment; keepMs: number }[] = []
  const before: Fragment[] = []
  const seen = new Set<string>()
  for (const { service, level, keepMs } of ours) {
    const id = JSON.stringify([service, level])
    // The setting, where the tenant has a word of its own.
    if (seen.has(id)) continue
    seen.add(id)
    const own = [
      ...(service === null ? [] : [sql`l.service = ${service}`]),
      ...(level === null ? [] : [sql`l.level = ${level}`]),
    ].reduce((all, one) => sql`${all} and ${one}`, sql`true`)
    if (keepMs !== null) {
      const others = before.reduce((all, one) => sql`${all} and not (${one})`, sql`true`)
      conditions.push({ condition: sql`${own} and ${others}`, keepMs })
    }
    before.push(own)
  }
  return conditions
}

function rank({ tenant, service, level }: RetentionRule): number {
  return (service === null ? 0 : 4) + (level === null ? 0 : 2) + (tenant === null ? 0 : 1)
}

interface ExpiredRange {
  /** Null: from the beginning. */
  lowUs: bigint | null
  horizonUs: bigint
}

const beforeAllUs = -(2n ** 62n)

async function expireSingle(
  o: RowsEraser,
  tenant: string,
  condition: Fragment,
  range: ExpiredRange,
  onErased: OnErased,
  signal?: AbortSignal,
): Promise<void> {
  for (let rows = chunkRows; rows === chunkRows; ) {
    signal?.throwIfAborted()
    rows = await o.sql.begin(tx => expireSome(tx, o, tenant, condition, range, onErased))
  }
}

async function expireSome(
  tx: Tx,
  o: RowsEraser,
  tenant: string,
  condition: Fragment,
  { lowUs, horizonUs }: ExpiredRange,
  onErased: OnErased,
): Promise<number> {
  const doomed = await tx<RowPlace[]>`
    select e.part::text as part, e.place::text as ctid, e.id, (extract(epoch from e.timestamp) * 1000000)::int8 as "timestampUs"
    from ${unmarked(tx)} cross join lateral (
      select ${placeOf(tx, o.table)}, l.id, l.timestamp from public.logs l
      where l.timestamp >= ${timestampText(lowUs ?? beforeAllUs)}::timestamptz
        and l.timestamp < ${timestampText(horizonUs)}::timestamptz and ${ofTenant(tx, tenant)} and (${condition}) limit ${chunkRows}
    ) e`
  const counts = new Map<string, HourCount>()
  let rows = 0
  let bytes = 0n
  for (const { statement } of await deletionsOf(tx, o.table, doomed)) {
    const gone = await tx<{ hour: bigint; service: string; level: string; rows: bigint; bytes: bigint }[]>`
      with gone as (
        ${statement}
        returning l.timestamp, l.service, l.level, octet_length(l.service) + octet_length(l.level) + octet_length(l.message)
                  + coalesce(octet_length(l.metadata::text), 0) as bytes
      ) select floor(extract(epoch from timestamp) / 3600)::int8 as hour, coalesce(service, '') as service,
               coalesce(level, '') as level, count(*) as rows, coalesce(sum(bytes), 0)::int8 as bytes
        from gone group by 1, 2, 3`
    for (const row of gone) {
      const id = `${row.hour}\0${row.level}\0${row.service}`
      const count = counts.get(id) ?? { tenant, hour: row.hour, service: row.service, level: row.level, rows: 0n }
      count.rows += row.rows
      counts.set(id, count)
      rows += Number(row.rows)
      bytes += row.bytes
    }
  }
  if (rows > 0) {
    await reduceTotalsBy(tx, [...counts.values()])
    await relink(tx, o.evidence, {
      tenant,
      days: doomed.map(row => dateOfUs(row.timestampUs)),
      ids: doomed.map(row => row.id),
      reason: 'retention',
      nowMs: o.nowMs(),
    })
    await onErased(tx, { rows, bytes: Number(bytes), blocks: [], tenant })
  }
  return doomed.length
}
