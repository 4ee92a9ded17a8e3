// Budgets of tenants: stored ones, and the implicit ones that configuration makes.

import { arrayLiteral, type Queryable, type Sql, type Tx } from '#platform/postgres'
import type { Period } from '../window.ts'
import { lockAccounts } from './accounts.ts'
import { type BudgetColumns, type BudgetRule, budgetRule } from './catalog.ts'

export interface BudgetWrite {
  period: Period
  amount: bigint
  startsAt: number | null
  endsAt: number | null
}

/** What configuration gives a tenant when nobody stored a budget of that period. */
export type ImplicitBudgets = readonly BudgetWrite[]

export async function listBudgets(sql: Queryable, tenantId: number): Promise<BudgetRule[]> {
  const rows = await sql<BudgetColumns[]>`
    select id, tenant_id, period, anchor, tz, amount_nano, starts_at, ends_at, is_implicit, is_active, created_at
    from budgetguard.budgets where tenant_id = ${tenantId} and scope_type = 'tenant' and is_active order by id`
  return rows.map(budgetRule)
}

export async function findBudget(sql: Queryable, id: number): Promise<BudgetRule | undefined> {
  const [row] = await sql<BudgetColumns[]>`
    select id, tenant_id, period, anchor, tz, amount_nano, starts_at, ends_at, is_implicit, is_active, created_at
    from budgetguard.budgets where id = ${id} and scope_type = 'tenant' and is_active`
  return row ? budgetRule(row) : undefined
}

/** Stores one budget per period; the row of an implicit one becomes the stored one and keeps its spend. */
export async function storeBudget(tx: Tx, tenantId: number, write: BudgetWrite): Promise<BudgetRule> {
  const [row] = await tx<BudgetColumns[]>`
    insert into budgetguard.budgets (tenant_id, scope_type, period, amount_nano, starts_at, ends_at)
    values (${tenantId}, 'tenant', ${write.period}, ${write.amount}, ${date(write.startsAt)}, ${date(write.endsAt)})
    on conflict (tenant_id, period) where scope_type = 'tenant' do update set
      amount_nano = excluded.amount_nano, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
      is_implicit = false, is_active = true, version = budgets.version + 1, updated_at = now()
    returning id, tenant_id, period, anchor, tz, amount_nano, starts_at, ends_at, is_implicit, is_active, created_at`
  if (!row) throw new Error('BUG: a stored budget without a row')
  await applyLimit(tx, [row.id])
  return budgetRule(row)
}

/** Takes a stored budget away; where configuration has an implicit one for the period, that one is back. */
export async function removeBudget(tx: Tx, rule: BudgetRule, implicit: ImplicitBudgets): Promise<void> {
  const standard = implicit.find(write => write.period === rule.period)
  await tx`
    update budgetguard.budgets set
      is_active = ${standard !== undefined}, is_implicit = ${standard !== undefined},
      amount_nano = ${standard?.amount ?? rule.amount},
      starts_at = ${date(standard ? standard.startsAt : rule.startsAt)},
      ends_at = ${date(standard ? standard.endsAt : rule.endsAt)},
      version = version + 1, updated_at = now()
    where id = ${rule.id}`
  await applyLimit(tx, [rule.id])
}

export async function endBudgets(tx: Tx, tenantId: number): Promise<void> {
  await tx`
    update budgetguard.budgets set is_active = false, is_implicit = false, version = version + 1, updated_at = now()
    where tenant_id = ${tenantId}`
}

/** Gives every tenant the implicit budgets of configuration, and takes away those it no longer has. */
export async function syncImplicitBudgets(
  sql: Sql,
  tenants: readonly { tenantId: number; implicit: ImplicitBudgets }[],
): Promise<void> {
  if (tenants.length === 0) return
  await sql.begin(async tx => {
    const writes = tenants.flatMap(({ tenantId, implicit }) => implicit.map(write => ({ tenantId, ...write })))
    const changed = await tx<{ id: number }[]>`
      insert into budgetguard.budgets (tenant_id, scope_type, period, amount_nano, starts_at, ends_at, is_implicit)
      select w.tenant_id, 'tenant', w.period, w.amount, to_timestamp(w.starts_at / 1000.0), to_timestamp(w.ends_at / 1000.0), true
      from unnest(${arrayLiteral(writes.map(w => w.tenantId))}::int4[], ${arrayLiteral(writes.map(w => w.period))}::text[],
        ${arrayLiteral(writes.map(w => w.amount))}::int8[], ${arrayLiteral(writes.map(w => w.startsAt))}::int8[], ${arrayLiteral(writes.map(w => w.endsAt))}::int8[])
        w(tenant_id, period, amount, starts_at, ends_at)
      on conflict (tenant_id, period) where scope_type = 'tenant' do update set
        amount_nano = excluded.amount_nano, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
        is_implicit = true, is_active = true, version = budgets.version + 1, updated_at = now()
      where (budgets.is_implicit or not budgets.is_active)
        and (budgets.amount_nano, budgets.starts_at, budgets.ends_at, budgets.is_active)
          is distinct from (excluded.amount_nano, excluded.starts_at, excluded.ends_at, true)
      returning id`
    for (const { tenantId, implicit } of tenants) {
      const ended = await tx<{ id: number }[]>`
        update budgetguard.budgets set is_active = false, version = version + 1, updated_at = now()
        where tenant_id = ${tenantId} and scope_type = 'tenant' and is_implicit and is_active
          and period <> all(${arrayLiteral(implicit.map(write => write.period))}::text[]) returning id`
      changed.push(...ended)
    }
    await applyLimit(
      tx,
      changed.map(row => row.id),
    )
  })
}

/** The windows that are still open get the budget's new limit; lowering it below what is spent is allowed and marked. */
async function applyLimit(tx: Tx, budgetIds: readonly number[]): Promise<void> {
  if (budgetIds.length === 0) return
  const rows = await tx<{ id: bigint }[]>`
    select a.id from budgetguard.accounts a join budgetguard.budgets b on b.id = a.budget_id
    where b.id = any(${arrayLiteral([...budgetIds])}::int4[]) and a.window_end > now() and a.limit_nano <> b.amount_nano`
  await lockAccounts(
    tx,
    rows.map(row => row.id),
  )
  await tx`
    update budgetguard.accounts a set limit_nano = b.amount_nano, version = a.version + 1,
      is_over_limit = a.settled_nano + a.granted_nano > b.amount_nano
    from budgetguard.budgets b where b.id = a.budget_id and a.id = any(${arrayLiteral(rows.map(row => row.id))}::int8[])`
}

function date(ms: number | null): Date | null {
  return ms === null ? null : new Date(ms)
}
