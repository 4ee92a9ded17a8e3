// What tenants set by themselves, all in tables of one shape: a name, unique per tenant, and the object that the API took.

import { errorCode, type Queryable, type Sql, type Tx } from '#platform/postgres'

export const ruleKinds = ['searches', 'alert_rules', 'retention_rules', 'redaction_rules', 'limits'] as const
export type RuleKind = (typeof ruleKinds)[number]
/** What a replica reads again when it changed. */
export type ChangeKind = RuleKind | 'deletions'

export interface StoredRule {
  id: bigint
  tenant: string
  name: string
  /** As `checked` by whoever wrote it. */
  definition: unknown
  createdBy: string
  createdAt: Date
  updatedAt: Date
}

/** The tenant has a rule of this name already. */
export class NameTaken extends Error {}

/** The tenant has as many as it may. */
export class TooMany extends Error {}

interface RuleRow extends Omit<StoredRule, 'definition'> {
  definition: string
}

/** Of one tenant, by name. */
export async function listRules(sql: Queryable, kind: RuleKind, tenant: string): Promise<StoredRule[]> {
  const rows = await sql<RuleRow[]>`
    select ${columns(sql)} from purser_logs.${sql(kind)} where tenant = ${tenant} order by name, id`
  return rows.map(ruleOf)
}

/** Of all tenants, oldest first. */
export async function loadRules(sql: Queryable, kind: RuleKind): Promise<StoredRule[]> {
  const rows = await sql<RuleRow[]>`select ${columns(sql)} from purser_logs.${sql(kind)} order by id`
  return rows.map(ruleOf)
}

export async function findRule(
  sql: Queryable,
  kind: RuleKind,
  tenant: string,
  id: bigint,
): Promise<StoredRule | undefined> {
  const [row] = await sql<RuleRow[]>`
    select ${columns(sql)} from purser_logs.${sql(kind)} where tenant = ${tenant} and id = ${id}`
  return row && ruleOf(row)
}

/** @throws NameTaken, TooMany */
export async function insertRule(
  tx: Tx,
  kind: RuleKind,
  o: { tenant: string; name: string; definition: object; by: string; countMax: number },
): Promise<StoredRule> {
  // Raised first: whoever comes second waits here, so the count below is true.
  await noteChange(tx, kind)
  const [held] = await tx<{ count: bigint }[]>`
    select count(*) from purser_logs.${tx(kind)} where tenant = ${o.tenant}`
  if ((held?.count ?? 0n) >= BigInt(o.countMax)) throw new TooMany()
  const [row] = await tx<RuleRow[]>`
    insert into purser_logs.${tx(kind)} as r (tenant, name, definition, created_by)
    values (${o.tenant}, ${o.name}, ${JSON.stringify(o.definition)}::text::jsonb, ${o.by})
    on conflict (tenant, name) do nothing returning ${columns(tx)}`
  if (!row) throw new NameTaken()
  return ruleOf(row)
}

/** Undefined when there is no such rule. @throws NameTaken */
export async function updateRule(
  tx: Tx,
  kind: RuleKind,
  o: { tenant: string; id: bigint; name: string; definition: object },
): Promise<StoredRule | undefined> {
  await noteChange(tx, kind)
  try {
    const [row] = await tx<RuleRow[]>`
      update purser_logs.${tx(kind)} set name = ${o.name}, definition = ${JSON.stringify(o.definition)}::text::jsonb, updated_at = now()
      where tenant = ${o.tenant} and id = ${o.id} returning ${columns(tx)}`
    return row && ruleOf(row)
  } catch (error) {
    if (errorCode(error) === '23505') throw new NameTaken()
    throw error
  }
}

/** What was deleted; undefined when there was nothing. */
export async function deleteRule(tx: Tx, kind: RuleKind, tenant: string, id: bigint): Promise<StoredRule | undefined> {
  await noteChange(tx, kind)
  const [row] = await tx<RuleRow[]>`
    delete from purser_logs.${tx(kind)} where tenant = ${tenant} and id = ${id} returning ${columns(tx)}`
  return row && ruleOf(row)
}

export async function noteChange(tx: Tx, kind: ChangeKind): Promise<void> {
  await tx`
    insert into purser_logs.rule_changes as c (kind, revision) values (${kind}, 1)
    on conflict (kind) do update set revision = c.revision + 1`
}

export async function loadRevisions(sql: Sql): Promise<Map<string, bigint>> {
  const rows = await sql<{ kind: string; revision: bigint }[]>`select kind, revision from purser_logs.rule_changes`
  return new Map(rows.map(row => [row.kind, row.revision]))
}

function columns(sql: Queryable) {
  return sql`id, tenant, name, definition::text as definition, created_by as "createdBy", created_at as "createdAt",
    updated_at as "updatedAt"`
}

function ruleOf(row: RuleRow): StoredRule {
  return { ...row, definition: JSON.parse(row.definition) }
}
