// Reading the ledger: pages of rows, and sums for charts.

import type { Queryable, Sql } from '#platform/postgres'
import type { CallStatus, UsageSource } from '../api.ts'

export interface LedgerFilter {
  tenantId?: number
  fromMs: number
  /** Exclusive. */
  toMs: number
  /** Contained in the name, case-insensitive. */
  model?: string
  route?: string
  status?: CallStatus
}

export interface StoredRow {
  id: bigint
  tsMs: number
  tenantId: number
  keyId: bigint | null
  requestId: string
  kind: 'call' | 'adjust' | 'late'
  status: CallStatus
  reason: string | null
  route: string
  provider: string | null
  model: string
  input: bigint
  cacheRead: bigint
  cacheWrite: bigint
  output: bigint
  held: bigint
  settled: bigint
  exact: string
  usageSource: UsageSource
  sessionId: string | null
  latencyMs: number | null
  count: number
}

export async function listRows(
  sql: Sql,
  filter: LedgerFilter,
  page: { offset: number; limit: number },
): Promise<{ rows: StoredRow[]; total: number }> {
  const where = whereOf(sql, filter)
  const [rows, [count]] = await Promise.all([
    sql<StoredRow[]>`
      select id, (extract(epoch from ts) * 1000)::float8 as "tsMs", tenant_id as "tenantId", key_id as "keyId",
        request_id as "requestId", kind, status, reason, route, provider, model, input_tokens as input,
        cache_read_tokens as "cacheRead", cache_write_tokens as "cacheWrite", output_tokens as output,
        hold_nano as held, settled_nano as settled, cost_exact::text as exact, usage_source as "usageSource",
        session_id as "sessionId", latency_ms as "latencyMs", count
      from budgetguard.ledger where ${where} order by ts desc, id desc limit ${page.limit} offset ${page.offset}`,
    sql<{ total: bigint }[]>`select count(*) as total from budgetguard.ledger where ${where}`,
  ])
  return { rows, total: Number(count?.total ?? 0n) }
}

export async function sumSettled(sql: Queryable, tenantId: number, fromMs: number, toMs: number): Promise<bigint> {
  const [row] = await sql<{ nano: bigint }[]>`
    select coalesce(sum(settled_nano), 0)::int8 as nano from budgetguard.ledger
    where tenant_id = ${tenantId} and ts >= ${new Date(fromMs)} and ts < ${new Date(toMs)}`
  return row?.nano ?? 0n
}

/** Per local day of the zone; days without rows are missing. */
export async function sumByDay(
  sql: Queryable,
  tenantId: number,
  o: { fromMs: number; toMs: number; zone: string },
): Promise<Map<string, bigint>> {
  const rows = await sql<{ day: string; nano: bigint }[]>`
    select to_char(ts at time zone ${o.zone}, 'YYYY-MM-DD') as day, sum(settled_nano)::int8 as nano
    from budgetguard.ledger where tenant_id = ${tenantId} and ts >= ${new Date(o.fromMs)} and ts < ${new Date(o.toMs)}
    group by 1`
  return new Map(rows.map(row => [row.day, row.nano]))
}

export async function sumByModel(
  sql: Queryable,
  tenantId: number,
  o: { fromMs: number; toMs: number },
): Promise<{ model: string; nano: bigint }[]> {
  return sql<{ model: string; nano: bigint }[]>`
    select model, sum(settled_nano)::int8 as nano from budgetguard.ledger
    where tenant_id = ${tenantId} and ts >= ${new Date(o.fromMs)} and ts < ${new Date(o.toMs)}
    group by model having sum(settled_nano) > 0 order by nano desc, model`
}

/**
 * Every account that is not the sum of its tenant's ledger rows in its window. Unfolded journals do not matter: a row
 * and its account move in one transaction.
 */
export async function findCrookedAccounts(
  sql: Queryable,
): Promise<{ id: bigint; tenantId: number; budgetId: number; settled: bigint; ledger: bigint }[]> {
  return sql<{ id: bigint; tenantId: number; budgetId: number; settled: bigint; ledger: bigint }[]>`
    select a.id, a.tenant_id as "tenantId", a.budget_id as "budgetId", a.settled_nano as settled, s.nano as ledger
    from budgetguard.accounts a
    join budgetguard.budgets b on b.id = a.budget_id and b.scope_type = 'tenant'
    cross join lateral (
      select coalesce(sum(l.settled_nano), 0)::int8 as nano from budgetguard.ledger l
      where l.tenant_id = a.tenant_id and l.ts >= a.window_start and l.ts < a.window_end
    ) s
    where a.settled_nano <> s.nano order by a.id`
}

export async function straightenAccount(sql: Queryable, id: bigint): Promise<void> {
  await sql`
    update budgetguard.accounts a set settled_nano = s.nano, version = a.version + 1,
      is_over_limit = s.nano + a.granted_nano > a.limit_nano
    from (
      select coalesce(sum(l.settled_nano), 0)::int8 as nano from budgetguard.ledger l, budgetguard.accounts b
      where b.id = ${id} and l.tenant_id = b.tenant_id and l.ts >= b.window_start and l.ts < b.window_end
    ) s where a.id = ${id}`
}

export async function countAccounts(sql: Queryable): Promise<number> {
  const [row] = await sql<{ n: number }[]>`select count(*)::int as n from budgetguard.accounts`
  return row?.n ?? 0
}

export async function countUnbalancedRows(sql: Queryable): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n from budgetguard.ledger where hold_nano + overrun_nano <> settled_nano + released_nano`
  return row?.n ?? 0
}

/** On the ledger and on every partition of it: rows cannot change, and none can be truncated. */
export async function hasAppendOnlyTriggers(sql: Queryable): Promise<boolean> {
  const [row] = await sql<{ missing: number }[]>`
    select count(*)::int as missing
    from (
      select 'budgetguard.ledger'::regclass as rel
      union all select inhrelid from pg_inherits where inhparent = 'budgetguard.ledger'::regclass
    ) tables
    cross join (values ('ledger_append_only'), ('ledger_no_truncate')) wanted(name)
    where not exists (
      select from pg_trigger t where t.tgrelid = tables.rel and t.tgname = wanted.name and t.tgenabled = 'O'
    )`
  return row?.missing === 0
}

function whereOf(sql: Sql, filter: LedgerFilter) {
  const contains = (text: string) => `%${text.replace(/[\\%_]/g, '\\$&')}%`
  return sql`ts >= ${new Date(filter.fromMs)} and ts < ${new Date(filter.toMs)}
    ${filter.tenantId === undefined ? sql`` : sql`and tenant_id = ${filter.tenantId}`}
    ${filter.model === undefined ? sql`` : sql`and model ilike ${contains(filter.model)}`}
    ${filter.route === undefined ? sql`` : sql`and route ilike ${contains(filter.route)}`}
    ${filter.status === undefined ? sql`` : sql`and status = ${filter.status}`}`
}
