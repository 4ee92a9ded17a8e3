// Accounts and slices in Postgres. Every transaction here locks the accounts it changes first, in id order, and the
// arithmetic is slice.ts's; nothing else writes these rows but the fold (store/fold.ts), by the same order.

import { arrayLiteral, type Sql, type Tx } from '#platform/postgres'
import type { Central } from '../book.ts'
import { type GrantRequest, grantOf, returnOf } from '../slice.ts'
import type { Period } from '../window.ts'

/** How long a slice is the owner's without renewal, by database time. */
export const leaseTtlS = 30

export interface NodeLife {
  id: string
  /** Grows with every start: a late writer of an earlier life is recognised by it. */
  fence: bigint
}

export interface AccountKey {
  budgetId: number
  windowStart: number
  windowEnd: number
}

export interface AccountOfBook extends AccountKey {
  id: bigint
  central: Central
}

/**
 * The account of a tenant's budget in a window, made when it is first needed. A new one starts from what the ledger
 * already shows for the tenant in that window. The tenant's advisory lock keeps the fold out meanwhile: a row is either
 * in that sum, or folded later and added to the account then (store/fold.ts), never both and never neither.
 */
export async function openAccounts(sql: Sql, tenantId: number, keys: readonly AccountKey[]): Promise<AccountOfBook[]> {
  return sql.begin(async tx => {
    await lockTenant(tx, tenantId)
    const opened: AccountOfBook[] = []
    for (const key of keys) {
      await tx`
        insert into budgetguard.accounts (budget_id, tenant_id, window_start, window_end, limit_nano, settled_nano, is_over_limit)
        select b.id, b.tenant_id, ${at(key.windowStart)}, ${at(key.windowEnd)}, b.amount_nano, s.settled, s.settled > b.amount_nano
        from budgetguard.budgets b,
          (select coalesce(sum(settled_nano), 0)::int8 as settled from budgetguard.ledger
           where tenant_id = ${tenantId} and ts >= ${at(key.windowStart)} and ts < ${at(key.windowEnd)}) s
        where b.id = ${key.budgetId} and b.tenant_id = ${tenantId}
        on conflict (budget_id, scope_value, window_start) do nothing`
      const [row] = await tx<AccountColumns[]>`
        select id, limit_nano, settled_nano, granted_nano from budgetguard.accounts
        where budget_id = ${key.budgetId} and scope_value = '' and window_start = ${at(key.windowStart)}`
      if (row) opened.push({ ...key, id: row.id, central: central(row) })
    }
    return opened
  })
}

export interface Granted {
  accountId: bigint
  amount: bigint
  central: Central
}

/** Grants what grantOf allows on each account, several at once. */
export async function grantSlices(
  sql: Sql,
  node: NodeLife,
  requests: ReadonlyMap<bigint, GrantRequest>,
): Promise<Granted[]> {
  return sql.begin(async tx => {
    const rows = await lockAccounts(tx, [...requests.keys()])
    const granted = rows.map(row => {
      const request = requests.get(row.id)
      const amount = request ? grantOf(central(row), request) : 0n
      return { accountId: row.id, amount, central: central(row) }
    })
    const given = granted.filter(g => g.amount > 0n)
    if (given.length > 0) {
      const ids = given.map(g => g.accountId)
      const amounts = given.map(g => g.amount)
      await tx`
        update budgetguard.accounts a set granted_nano = a.granted_nano + g.amount, version = a.version + 1
        from unnest(${arrayLiteral(ids)}::int8[], ${arrayLiteral(amounts)}::int8[]) g(id, amount) where a.id = g.id`
      await tx`
        insert into budgetguard.leases (account_id, node_id, fence, granted_nano, expires_at)
        select g.id, ${node.id}, ${node.fence}, g.amount, now() + make_interval(secs => ${leaseTtlS})
        from unnest(${arrayLiteral(ids)}::int8[], ${arrayLiteral(amounts)}::int8[]) g(id, amount)
        on conflict (account_id, node_id, fence)
        do update set granted_nano = leases.granted_nano + excluded.granted_nano, expires_at = excluded.expires_at, state = 'active'`
    }
    return granted.map(g => ({ ...g, central: { ...g.central, granted: g.central.granted + g.amount } }))
  })
}

/** Gives unused money back. Resolves to what the accounts look like afterwards. */
export async function returnSlices(sql: Sql, node: NodeLife, amounts: ReadonlyMap<bigint, bigint>): Promise<Granted[]> {
  return sql.begin(async tx => {
    const rows = await lockAccounts(tx, [...amounts.keys()])
    const slices = await tx<{ account_id: bigint; granted_nano: bigint; consumed_nano: bigint }[]>`
      select account_id, granted_nano, consumed_nano from budgetguard.leases
      where node_id = ${node.id} and fence = ${node.fence} and state <> 'closed' and account_id = any(${arrayLiteral(rows.map(r => r.id))}::int8[])
      order by account_id for update`
    const returned = slices.map(slice => ({
      id: slice.account_id,
      amount: returnOf(
        { granted: slice.granted_nano, consumed: slice.consumed_nano },
        amounts.get(slice.account_id) ?? 0n,
      ),
    }))
    const ids = returned.map(r => r.id)
    const back = returned.map(r => r.amount)
    await tx`
      update budgetguard.leases l set granted_nano = l.granted_nano - r.amount
      from unnest(${arrayLiteral(ids)}::int8[], ${arrayLiteral(back)}::int8[]) r(id, amount)
      where l.account_id = r.id and l.node_id = ${node.id} and l.fence = ${node.fence}`
    await tx`
      update budgetguard.accounts a set granted_nano = a.granted_nano - r.amount, version = a.version + 1,
        is_over_limit = a.settled_nano + a.granted_nano - r.amount > a.limit_nano
      from unnest(${arrayLiteral(ids)}::int8[], ${arrayLiteral(back)}::int8[]) r(id, amount) where a.id = r.id`
    return rows.map(row => {
      const amount = returned.find(r => r.id === row.id)?.amount ?? 0n
      return { accountId: row.id, amount, central: { ...central(row), granted: row.granted_nano - amount } }
    })
  })
}

/** Keeps this life's slices, also those that were frozen while the database was out of our reach: nobody else may have spent them. */
export async function renewLeases(sql: Sql, node: NodeLife): Promise<Set<bigint>> {
  // In id order, as the fold locks them.
  const rows = await sql<{ account_id: bigint }[]>`
    update budgetguard.leases set expires_at = now() + make_interval(secs => ${leaseTtlS}), state = 'active'
    where id = any(array(
      select id from budgetguard.leases
      where node_id = ${node.id} and fence = ${node.fence} and state <> 'closed' order by id for update
    )) returning account_id`
  return new Set(rows.map(row => row.account_id))
}

/** Freezes what nobody renewed: still granted, so nobody spends it, until its owner comes back and accounts for it. */
export async function freezeExpired(sql: Sql): Promise<number> {
  const rows = await sql`
    update budgetguard.leases set state = 'frozen' where state = 'active' and expires_at < now() returning id`
  return rows.length
}

/**
 * Ends slices of a node and gives the rest back. Only its owner may: one who holds its journal's lock, has ended every
 * hold in it and folded it to the end, so that what is unconsumed is known to be unspent.
 */
export async function closeLeases(sql: Sql, nodeId: string, o: { beforeFence: bigint }): Promise<bigint> {
  return sql.begin(async tx => {
    const ids = await tx<{ account_id: bigint }[]>`
      select distinct account_id from budgetguard.leases
      where node_id = ${nodeId} and fence < ${o.beforeFence} and state <> 'closed'`
    await lockAccounts(
      tx,
      ids.map(row => row.account_id),
    )
    const [row] = await tx<{ returned: bigint }[]>`
      with closed as (
        update budgetguard.leases set state = 'closed'
        where node_id = ${nodeId} and fence < ${o.beforeFence} and state <> 'closed'
        returning account_id, granted_nano - consumed_nano as rest
      ), rests as (select account_id, sum(rest)::int8 as rest from closed group by account_id),
      updated as (
        update budgetguard.accounts a set granted_nano = a.granted_nano - r.rest, version = a.version + 1,
          is_over_limit = a.settled_nano + a.granted_nano - r.rest > a.limit_nano
        from rests r where a.id = r.account_id
      )
      select coalesce(sum(rest), 0)::int8 as returned from rests`
    return row?.returned ?? 0n
  })
}

/** This life's slices as the database has them, for a process that lost an answer. */
export async function loadSlices(sql: Sql, node: NodeLife, ids: readonly bigint[]): Promise<Map<bigint, bigint>> {
  const rows = await sql<{ account_id: bigint; rest: bigint }[]>`
    select account_id, granted_nano - consumed_nano as rest from budgetguard.leases
    where node_id = ${node.id} and fence = ${node.fence} and state <> 'closed' and account_id = any(${arrayLiteral(ids)}::int8[])`
  return new Map(rows.map(row => [row.account_id, row.rest]))
}

export async function loadCentral(sql: Sql, ids: readonly bigint[]): Promise<Map<bigint, Central>> {
  const rows = await sql<AccountColumns[]>`
    select id, limit_nano, settled_nano, granted_nano from budgetguard.accounts where id = any(${arrayLiteral(ids)}::int8[])`
  return new Map(rows.map(row => [row.id, central(row)]))
}

export async function loadAccountNames(
  sql: Sql,
  ids: readonly bigint[],
): Promise<Map<bigint, { budgetId: number; period: Period }>> {
  const rows = await sql<{ id: bigint; budget_id: number; period: Period }[]>`
    select a.id, a.budget_id, b.period from budgetguard.accounts a join budgetguard.budgets b on b.id = a.budget_id
    where a.id = any(${arrayLiteral(ids)}::int8[])`
  return new Map(rows.map(row => [row.id, { budgetId: row.budget_id, period: row.period }]))
}

export interface AccountColumns {
  id: bigint
  limit_nano: bigint
  settled_nano: bigint
  granted_nano: bigint
}

/** In id order, so that no two transactions wait for each other in a circle. */
export async function lockAccounts(tx: Tx, ids: readonly bigint[]): Promise<AccountColumns[]> {
  if (ids.length === 0) return []
  return tx<AccountColumns[]>`
    select id, limit_nano, settled_nano, granted_nano from budgetguard.accounts
    where id = any(${arrayLiteral(ids)}::int8[]) order by id for update`
}

/** Against the fold's shared lock on the same number. */
export async function lockTenant(tx: Tx, tenantId: number): Promise<void> {
  await tx`select pg_advisory_xact_lock(${tenantLockSpace}, ${tenantId})`
}

export async function shareTenant(tx: Tx, tenantId: number): Promise<void> {
  await tx`select pg_advisory_xact_lock_shared(${tenantLockSpace}, ${tenantId})`
}

/** "bg01": the first half of our advisory lock numbers. */
const tenantLockSpace = 0x62673031

export function central(row: AccountColumns): Central {
  return { limit: row.limit_nano, settled: row.settled_nano, granted: row.granted_nano }
}

function at(ms: number): Date {
  return new Date(ms)
}
