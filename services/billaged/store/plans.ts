import type { Queryable, Sql } from '#platform/postgres'
import { examplePlan, type PlanVersion, versionJson, versionSchema } from '../rating/plan.ts'

export interface Plan {
  id: string
  name: string
  currency: string
  versions: (PlanVersion & { version: number })[]
}

/** Plans, subscriptions and meters that every installation starts with. Existing rows stay as they are. */
export async function seedPlans(sql: Sql): Promise<void> {
  const { version, ...plan } = examplePlan
  await sql.begin(async tx => {
    const made = await tx`
      insert into billaged.plan ${tx(plan, 'id', 'name', 'currency')} on conflict do nothing returning 1`
    if (made.count > 0) await insertVersion(tx, plan.id, versionSchema.parse(version))
  })
}

export async function insertPlan(
  sql: Queryable,
  plan: { id: string; name: string; currency: string },
): Promise<boolean> {
  const made =
    await sql`insert into billaged.plan ${sql(plan, 'id', 'name', 'currency')} on conflict do nothing returning 1`
  return made.count > 0
}

export type VersionOutcome = { version: number } | 'no_such_plan' | 'already_effective'

/** Versions only ever follow one another: a new one begins after all that exist. */
export async function insertVersion(sql: Queryable, planId: string, version: PlanVersion): Promise<VersionOutcome> {
  const [plan] = await sql`select 1 from billaged.plan where id = ${planId} for update`
  if (plan === undefined) return 'no_such_plan'
  const [last] = await sql<{ version: number; effectiveFrom: Date }[]>`
    select version, effective_from as "effectiveFrom" from billaged.plan_version
    where plan_id = ${planId} order by version desc limit 1`
  if (last !== undefined && version.effectiveFrom <= last.effectiveFrom.getTime()) return 'already_effective'
  const number = (last?.version ?? 0) + 1
  await sql`
    insert into billaged.plan_version (plan_id, version, effective_from, body)
    values (${planId}, ${number}, ${new Date(version.effectiveFrom)}, ${JSON.stringify(versionJson(version))}::text::jsonb)`
  return { version: number }
}

export async function loadPlan(sql: Sql, id: string): Promise<Plan | null> {
  const [plan] = await sql<{ id: string; name: string; currency: string }[]>`
    select id, name, currency from billaged.plan where id = ${id}`
  if (plan === undefined) return null
  const rows = await sql<{ version: number; body: unknown }[]>`
    select version, body from billaged.plan_version where plan_id = ${id} order by version`
  return { ...plan, versions: rows.map(row => ({ ...versionSchema.parse(row.body), version: row.version })) }
}

export async function listPlans(
  sql: Sql,
  after: string,
  limit: number,
): Promise<{ id: string; name: string; currency: string; versions: number }[]> {
  return sql`
    select id, name, currency, (select count(*)::int4 from billaged.plan_version v where v.plan_id = p.id) as versions
    from billaged.plan p where id > ${after} order by id limit ${limit}`
}

export interface Subscription {
  id: bigint
  customerId: string
  planId: string
  fromMs: number
  toMs: number | null
}

/** Of one customer, or of all, in the order of customers and time. `after`: the last one of the page before. */
export async function listSubscriptions(
  sql: Queryable,
  customerId: string | null,
  o: { limit: number; after: { customerId: string; fromMs: number } | null } = { limit: 1_000_000, after: null },
): Promise<Subscription[]> {
  const rows = await sql<{ id: bigint; customerId: string; planId: string; from: Date; to: Date | null }[]>`
    select subscription_id as id, customer_id as "customerId", plan_id as "planId", from_at as "from", to_at as "to"
    from billaged.subscription
    where (${customerId}::text is null or customer_id = ${customerId})
      ${o.after === null ? sql`` : sql`and (customer_id, from_at) > (${o.after.customerId}, ${new Date(o.after.fromMs)})`}
    order by customer_id, from_at limit ${o.limit}`
  return rows.map(({ from, to, ...row }) => ({ ...row, fromMs: from.getTime(), toMs: to?.getTime() ?? null }))
}

/** Ends a subscription at an instant between its beginning and its present end. `not_within`: the instant is none. */
export async function endSubscription(
  sql: Queryable,
  id: bigint,
  atMs: number,
): Promise<Subscription | 'not_within' | null> {
  const [row] = await sql<{ id: bigint; customerId: string; planId: string; from: Date; to: Date | null }[]>`
    select subscription_id as id, customer_id as "customerId", plan_id as "planId", from_at as "from", to_at as "to"
    from billaged.subscription where subscription_id = ${id} for update`
  if (row === undefined) return null
  const at = new Date(atMs)
  if (at <= row.from || (row.to !== null && at > row.to)) return 'not_within'
  await sql`update billaged.subscription set to_at = ${at} where subscription_id = ${id}`
  return { id: row.id, customerId: row.customerId, planId: row.planId, fromMs: row.from.getTime(), toMs: atMs }
}

/** Null when the plan does not exist. An overlap is a violation of subscription_no_overlap (23P01). */
export async function insertSubscription(
  sql: Queryable,
  o: { customerId: string; planId: string; fromMs: number; toMs: number | null },
): Promise<bigint | null> {
  await sql`insert into billaged.customer (id) values (${o.customerId}) on conflict do nothing`
  const [row] = await sql<{ id: bigint }[]>`
    insert into billaged.subscription (customer_id, customer_no, plan_id, from_at, to_at)
    select c.id, c.no, p.id, ${new Date(o.fromMs)}, ${o.toMs === null ? null : new Date(o.toMs)}
    from billaged.customer c, billaged.plan p where c.id = ${o.customerId} and p.id = ${o.planId}
    returning subscription_id as id`
  // Before there is anything to pay, a customer's currency is that of its first plan.
  await sql`
    update billaged.customer c set currency = p.currency from billaged.plan p
    where c.id = ${o.customerId} and p.id = ${o.planId} and c.currency <> p.currency
      and (select count(*) from billaged.subscription s where s.customer_id = c.id) = 1
      and not exists (select 1 from billaged.credit_grant g where g.customer_id = c.id)`
  return row?.id ?? null
}
