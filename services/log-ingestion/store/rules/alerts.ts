// Where alert rules stand, what happened to them, and notifications on their way.

import type { Queryable, Sql, Tx } from '#platform/postgres'
import type { AlertState, Announced, Standing } from '../../rules/alert-state.ts'

export interface StoredStanding {
  definitionHash: string
  standing: Standing
}

interface StandingRow {
  rule: bigint
  hash: string
  state: AlertState
  beforeStall: 'ok' | 'pending' | 'firing' | null
  since: bigint
  pendingSince: bigint | null
  announced: Announced
  evaluatedTo: bigint
  value: string | null
}

/** By rule. */
export async function loadStandings(sql: Queryable, rules?: readonly bigint[]): Promise<Map<bigint, StoredStanding>> {
  const only = rules ? sql`where rule = any(${rules.map(String)}::text[]::int8[])` : sql``
  const ms = (column: string) => sql`(extract(epoch from ${sql(column)}) * 1000)::int8`
  const rows = await sql<StandingRow[]>`
    select rule, definition_hash as hash, state, before_stall as "beforeStall", ${ms('since')} as since,
           ${ms('pending_since')} as "pendingSince", announced, ${ms('evaluated_to')} as "evaluatedTo", value
    from purser_logs.alert_states ${only}`
  return new Map(
    rows.map(row => [
      row.rule,
      {
        definitionHash: row.hash,
        standing: {
          state: row.state,
          beforeStall: row.beforeStall,
          sinceMs: Number(row.since),
          pendingSinceMs: row.pendingSince === null ? null : Number(row.pendingSince),
          evaluatedToMs: Number(row.evaluatedTo),
          announced: row.announced,
          value: row.value,
        },
      },
    ]),
  )
}

export interface AlertEvent {
  atMs: number
  state: AlertState
  value: string | null
}

export interface NewDelivery {
  id: string
  tenant: string
  body: string
  createdMs: number
}

/** Nothing when the rule is gone. */
export async function saveStanding(
  tx: Tx,
  rule: bigint,
  { definitionHash, standing }: StoredStanding,
  events: readonly AlertEvent[],
  deliveries: readonly NewDelivery[],
): Promise<void> {
  const [found] = await tx`select 1 from purser_logs.alert_rules where id = ${rule} for key share`
  if (!found) return
  const at = (ms: number | null) => tx`to_timestamp(${ms === null ? null : ms / 1_000}::float8)`
  await tx`
    insert into purser_logs.alert_states (rule, definition_hash, state, before_stall, since, pending_since, announced, evaluated_to, value)
    values (${rule}, ${definitionHash}, ${standing.state}, ${standing.beforeStall}, ${at(standing.sinceMs)},
            ${at(standing.pendingSinceMs)}, ${standing.announced}, ${at(standing.evaluatedToMs)}, ${standing.value})
    on conflict (rule) do update set definition_hash = excluded.definition_hash, state = excluded.state,
      before_stall = excluded.before_stall, since = excluded.since, pending_since = excluded.pending_since,
      announced = excluded.announced, evaluated_to = excluded.evaluated_to, value = excluded.value, updated_at = now()`
  for (const event of events)
    await tx`
      insert into purser_logs.alert_events (rule, at, state, value)
      values (${rule}, ${at(event.atMs)}, ${event.state}, ${event.value}) on conflict do nothing`
  for (const { id, tenant, body, createdMs } of deliveries)
    await tx`
      insert into purser_logs.deliveries (id, tenant, rule, body, created_at, next_at)
      values (${id}, ${tenant}, ${rule}, ${body}, ${at(createdMs)}, ${at(createdMs)})`
}

/** Newest first. */
export async function loadEvents(
  sql: Sql,
  rule: bigint,
  limit: number,
): Promise<{ at: Date; state: AlertState; value: string | null }[]> {
  return await sql`select at, state, value from purser_logs.alert_events where rule = ${rule} order by at desc limit ${limit}`
}

export interface WaitingDelivery {
  id: string
  tenant: string
  rule: bigint
  body: string
  attempts: number
  createdMs: number
  /** Of its rule. */
  definition: unknown
}

/** Of each rule the oldest one that waits, when its time has come: what a rule says arrives in order. */
export async function loadDueDeliveries(sql: Sql, nowMs: number, limit: number): Promise<WaitingDelivery[]> {
  const rows = await sql<
    (Omit<WaitingDelivery, 'createdMs' | 'definition'> & { created: bigint; definition: string })[]
  >`
    select d.id::text as id, d.tenant, d.rule, d.body, d.attempts, (extract(epoch from d.created_at) * 1000)::int8 as created,
           r.definition::text as definition
    from purser_logs.deliveries d join purser_logs.alert_rules r on r.id = d.rule
    where d.state = 'waiting' and d.next_at <= to_timestamp(${nowMs / 1_000}::float8)
      and not exists (select from purser_logs.deliveries e
                      where e.rule = d.rule and e.state = 'waiting' and (e.created_at, e.id) < (d.created_at, d.id))
    order by d.next_at limit ${limit}`
  return rows.map(({ created, definition, ...row }) => ({
    ...row,
    createdMs: Number(created),
    definition: JSON.parse(definition),
  }))
}

export async function saveDelivery(
  tx: Tx,
  id: string,
  o: {
    state: 'waiting' | 'delivered' | 'failed'
    status: number | null
    problem: string | null
    nextMs: number
    nowMs: number
  },
): Promise<void> {
  const isOver = o.state !== 'waiting'
  await tx`
    update purser_logs.deliveries set state = ${o.state}, status = ${o.status}, problem = ${o.problem}, attempts = attempts + 1,
      next_at = to_timestamp(${o.nextMs / 1_000}::float8),
      finished_at = case when ${isOver} then to_timestamp(${o.nowMs / 1_000}::float8) end
    where id = ${id}::uuid and state = 'waiting'`
}

export interface ShownDelivery {
  id: string
  state: 'waiting' | 'delivered' | 'failed'
  attempts: number
  status: number | null
  problem: string | null
  createdAt: Date
}

/** Newest first. */
export async function loadDeliveries(sql: Sql, rule: bigint, limit: number): Promise<ShownDelivery[]> {
  return await sql<ShownDelivery[]>`
    select id::text as id, state, attempts, status, problem, created_at as "createdAt"
    from purser_logs.deliveries where rule = ${rule} order by created_at desc limit ${limit}`
}

/** The timeline and what was delivered are kept for thirty days. */
export async function sweepAlerts(sql: Sql, nowMs: number): Promise<void> {
  const before = nowMs / 1_000 - 30 * 86_400
  await sql`delete from purser_logs.alert_events where at < to_timestamp(${before}::float8)`
  await sql`delete from purser_logs.deliveries where state <> 'waiting' and created_at < to_timestamp(${before}::float8)`
}
