// The ledger against what is there. `stored` was counted by the commits, `present` is counted in the tables now.

import type { Sql, Tx } from '#platform/postgres'

export interface LedgerRow {
  replica: string
  key: string
  tenant: string
  hourMs: number
  accepted: bigint
  stored: bigint
  quarantined: bigint
  duplicates: bigint
  damaged: bigint
  deleted: bigint
  expired: bigint
  bytes: bigint
}

export interface LedgerPlan {
  /** Undefined: all. */
  tenant: string | undefined
  key: string | undefined
  /** Hours that begin in [fromMs, toMs). Undefined: from the first. */
  fromMs: number | undefined
  toMs: number
  rowsMax: number
  countsPresent: boolean
}

export type LedgerTotals = Omit<LedgerRow, 'replica' | 'key' | 'tenant' | 'hourMs'>

export interface Ledger {
  rows: LedgerRow[]
  totals: LedgerTotals
  /** Where the totals begin: an hour at or before `fromMs` when entries cannot be counted by their acceptance. */
  fromMs: number | undefined
  present: bigint | undefined
  reasons: number
}

const hourMs = 3_600_000
const presentTimeoutMs = 10 * 60_000

export async function reconcile(sql: Sql, plan: LedgerPlan): Promise<Ledger> {
  // One snapshot: a commit in between would look like a loss.
  return await sql.begin('isolation level repeatable read read only', async tx => {
    const { tenant, key, toMs } = plan
    const hasBlocks = plan.countsPresent && (await holdsBlocks(tx))
    const firstMs = plan.fromMs === undefined ? undefined : Math.floor(plan.fromMs / hourMs) * hourMs
    // Blocks do not say when their entries were accepted, nor does the ledger of what left the store: then all is counted,
    // against the whole ledger.
    const isWhole = hasBlocks || (plan.countsPresent && firstMs !== undefined && (await hasLeft(tx, firstMs)))
    const fromMs = isWhole ? undefined : firstMs
    const where = tx`
      (${tenant ?? null}::text is null or tenant = ${tenant ?? null})
      and (${key ?? null}::text is null or key_id = ${key ?? null})
      and (${fromMs ?? null}::float8 is null or hour >= to_timestamp(${fromMs ?? null}::float8 / 1000))
      and (${isWhole} or hour < to_timestamp(${toMs}::float8 / 1000))`
    const rows = await tx<(Omit<LedgerRow, 'hourMs'> & { hour: bigint })[]>`
      select replica, key_id as key, tenant, (extract(epoch from hour) * 1000)::int8 as hour,
             accepted, stored, quarantined, duplicates, damaged, deleted, expired, bytes
      from purser_logs.ledger where ${where} order by hour desc, tenant, key_id, replica limit ${plan.rowsMax}`
    const [totals] = await tx<(LedgerTotals & { first: bigint | null })[]>`
      select ${sums(tx)}, (extract(epoch from min(hour)) * 1000)::int8 as first from purser_logs.ledger where ${where}`
    const [reasons] = await tx<{ count: bigint }[]>`
      select count(distinct reason) from purser_logs.quarantine
      where (${tenant ?? null}::text is null or tenant = ${tenant ?? null})
        and (${fromMs ?? null}::float8 is null or received_at >= to_timestamp(${fromMs ?? null}::float8 / 1000))`
    if (!totals) throw new Error('BUG: sums of nothing')
    const { first, ...counts } = totals
    const since = fromMs ?? (first === null ? undefined : Number(first))
    const present = plan.countsPresent ? await countPresent(tx, { tenant, since, toMs, isWhole, hasBlocks }) : undefined
    return {
      rows: rows.map(({ hour, ...row }) => ({ ...row, hourMs: Number(hour) })),
      totals: counts,
      fromMs: since,
      present,
      reasons: Number(reasons?.count ?? 0n),
    }
  })
}

const sums = (tx: Tx) =>
  tx.unsafe(
    ['accepted', 'stored', 'quarantined', 'duplicates', 'damaged', 'deleted', 'expired', 'bytes']
      .map(name => `coalesce(sum(${name}), 0)::int8 as ${name}`)
      .join(', '),
  )

async function holdsBlocks(tx: Tx): Promise<boolean> {
  const [row] = await tx<{ holds: boolean }[]>`select exists(select from purser_logs.blocks) as holds`
  return row?.holds ?? false
}

/** Since then: what was accepted in these hours left in these hours or later. */
async function hasLeft(tx: Tx, sinceMs: number): Promise<boolean> {
  const [row] = await tx<{ left: boolean }[]>`
    select exists(select from purser_logs.ledger
                  where hour >= to_timestamp(${sinceMs}::float8 / 1000) and (deleted > 0 or expired > 0)) as "left"`
  return row?.left ?? false
}

async function countPresent(
  tx: Tx,
  {
    tenant,
    since,
    toMs,
    isWhole,
    hasBlocks,
  }: {
    tenant: string | undefined
    since: number | undefined
    toMs: number
    isWhole: boolean
    hasBlocks: boolean
  },
): Promise<bigint> {
  if (since === undefined) return 0n
  await tx`select set_config('statement_timeout', ${String(presentTimeoutMs)}, true)`
  const [column] = await tx`
    select from pg_attribute where attrelid = to_regclass('public.logs') and attname = 'tenant' and not attisdropped`
  const ofTenant =
    tenant === undefined ? tx`true` : column ? tx`coalesce(tenant, 'public') = ${tenant}` : tx`${tenant === 'public'}`
  // Rows from before our first commit are somebody else's: the ledger knows nothing of them.
  const [rows] = await tx<{ count: bigint }[]>`
    select count(*) from public.logs
    where created_at >= to_timestamp(${since}::float8 / 1000)
      and (${isWhole} or created_at < to_timestamp(${toMs}::float8 / 1000)) and ${ofTenant}`
  if (!hasBlocks) return rows?.count ?? 0n
  const [blocks] = await tx<{ rows: bigint }[]>`
    select coalesce(sum(rows), 0)::int8 as rows from purser_logs.blocks
    where ${tenant ?? null}::text is null or tenant = ${tenant ?? null}`
  return (rows?.count ?? 0n) + (blocks?.rows ?? 0n)
}

/** Bytes accepted since `sinceMs` and committed, by tenant, over all replicas. */
export async function loadBytesSince(sql: Sql, sinceMs: number): Promise<Map<string, number>> {
  const rows = await sql<{ tenant: string; bytes: bigint }[]>`
    select tenant, sum(bytes)::int8 as bytes from purser_logs.ledger
    where hour >= to_timestamp(${sinceMs / 1_000}::float8) group by tenant`
  return new Map(rows.map(({ tenant, bytes }) => [tenant, Number(bytes)]))
}
