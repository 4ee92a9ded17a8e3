import { arrayLiteral, type Queryable, type Sql } from '#platform/postgres'

export interface BudgetRow {
  customerId: string
  currency: string
  budgetNano: bigint
  alertPercents: number[]
  stopRequestedAtFull: boolean
  setAt: Date
  anchorDay: number
  intervalMonths: number
}

/** Customers that have one, in the order of their ids. */
export async function listBudgets(
  sql: Sql,
  o: { only: string | null; after: string; limit: number },
): Promise<BudgetRow[]> {
  const rows = await sql<(Omit<BudgetRow, 'budgetNano'> & { budgetNano: string })[]>`
    select id as "customerId", currency, budget_nano::text as "budgetNano", alert_percents as "alertPercents",
      stop_requested_at_full as "stopRequestedAtFull", coalesce(budget_set_at, first_seen) as "setAt",
      anchor_day::int4 as "anchorDay", interval_months::int4 as "intervalMonths"
    from billaged.customer
    where budget_nano is not null and id > ${o.after} and (${o.only}::text is null or id = ${o.only})
    order by id limit ${o.limit}`
  return rows.map(row => ({ ...row, budgetNano: BigInt(row.budgetNano) }))
}

export interface BudgetPatch {
  budgetNano: string
  alertPercents: number[] | undefined
  stopRequestedAtFull: boolean | undefined
}

/** False when there is no such customer. */
export async function setBudget(sql: Sql, customerId: string, patch: BudgetPatch, now: Date): Promise<boolean> {
  const percents = patch.alertPercents === undefined ? null : arrayLiteral(patch.alertPercents)
  const rows = await sql`
    update billaged.customer set budget_nano = ${patch.budgetNano}::text::numeric, budget_set_at = ${now},
      alert_percents = coalesce(${percents}::text::int4[], alert_percents),
      stop_requested_at_full = coalesce(${patch.stopRequestedAtFull ?? null}::boolean, stop_requested_at_full)
    where id = ${customerId} returning 1`
  return rows.count > 0
}

export async function removeBudget(sql: Sql, customerId: string): Promise<boolean> {
  const rows = await sql`
    update billaged.customer set budget_nano = null, budget_set_at = null
    where id = ${customerId} and budget_nano is not null returning 1`
  return rows.count > 0
}

export interface Alert {
  no: bigint
  customerId: string
  periodFrom: Date
  periodTo: Date
  percent: number
  budgetNano: bigint
  spentNano: bigint
  currency: string
  stopRequested: boolean
  firedAt: Date
}

/** False when this threshold fired in this period before: then nothing is written. */
export async function insertAlert(tx: Queryable, alert: Omit<Alert, 'no'>): Promise<boolean> {
  const rows = await tx`
    insert into billaged.alert_fired (customer_id, period_from, percent, period_to, budget_nano, spent_nano, currency,
      stop_requested, fired_at)
    values (${alert.customerId}, ${alert.periodFrom}, ${alert.percent}, ${alert.periodTo},
      ${`${alert.budgetNano}`}::text::numeric, ${`${alert.spentNano}`}::text::numeric, ${alert.currency},
      ${alert.stopRequested}, ${alert.firedAt})
    on conflict do nothing returning 1`
  return rows.count > 0
}

/** Thresholds that fired in a period. */
export async function firedPercents(sql: Sql, customerId: string, periodFrom: Date): Promise<Set<number>> {
  const rows = await sql<{ percent: number }[]>`
    select percent from billaged.alert_fired where customer_id = ${customerId} and period_from = ${periodFrom}`
  return new Set(rows.map(row => row.percent))
}

/** In the order in which they fired, of one customer or of all. */
export async function listAlerts(
  sql: Sql,
  o: { customerId: string | null; after: bigint; from: Date | null; limit: number },
): Promise<Alert[]> {
  const rows = await sql<(Omit<Alert, 'budgetNano' | 'spentNano'> & { budgetNano: string; spentNano: string })[]>`
    select alert_no as no, customer_id as "customerId", period_from as "periodFrom", period_to as "periodTo", percent,
      budget_nano::text as "budgetNano", spent_nano::text as "spentNano", currency, stop_requested as "stopRequested",
      fired_at as "firedAt"
    from billaged.alert_fired
    where (${o.customerId}::text is null or customer_id = ${o.customerId}) and alert_no > ${o.after}
      and (${o.from}::timestamptz is null or period_from >= ${o.from})
    order by alert_no limit ${o.limit}`
  return rows.map(row => ({ ...row, budgetNano: BigInt(row.budgetNano), spentNano: BigInt(row.spentNano) }))
}

/** The number of a customer's last alert; what fires from now on has a higher one. */
export async function lastAlertNo(sql: Sql, customerId: string): Promise<bigint> {
  const [row] = await sql<{ no: bigint | null }[]>`
    select max(alert_no) as no from billaged.alert_fired where customer_id = ${customerId}`
  return row?.no ?? 0n
}
