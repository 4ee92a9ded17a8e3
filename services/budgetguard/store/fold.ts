// Journal to Postgres, exactly once: ledger rows, account movements, the mirror of open holds, usage events and the
// position behind them, all in one transaction.

import { arrayLiteral, type CopyValue, copyRows, type Sql, type Tx } from '#platform/postgres'
import { sum } from '../amount.ts'
import type { Central } from '../book.ts'
import type { FoldPlan, Numbered } from '../fold-plan.ts'
import { type EndRecord, encodeRecord, type RefusalRecord } from '../record.ts'
import { settleInto } from '../slice.ts'
import { central, lockAccounts, shareTenant } from './accounts.ts'

export interface Position {
  segment: string
  offset: number
  sequence: bigint
}

export interface FoldedAccount {
  accountId: bigint
  fence: bigint
  settled: bigint
  consumed: bigint
  central: Central
}

export interface Folded {
  accounts: FoldedAccount[]
  rows: { status: 'success' | 'blocked' | 'failed'; count: number }[]
  overspend: bigint
}

/** Somebody else moved this node's position: the stretch is folded already. */
export class AlreadyFolded extends Error {}

export async function findPosition(sql: Sql, nodeId: string): Promise<Position | null> {
  const [row] = await sql<{ segment: string; byte_offset: bigint; sequence: bigint }[]>`
    select segment, byte_offset, sequence from budgetguard.positions where node_id = ${nodeId}`
  return row ? { segment: row.segment, offset: Number(row.byte_offset), sequence: row.sequence } : null
}

export async function applyFold(
  sql: Sql,
  o: {
    nodeId: string
    from: Position | null
    to: Position
    plan: FoldPlan
    /** Writes what billaged shall hear, in this same transaction. */
    report: (tx: Tx) => Promise<void>
  },
): Promise<Folded> {
  const { nodeId, plan } = o
  return sql.begin(async tx => {
    await movePosition(tx, nodeId, o.from, o.to)
    // Before anything is read: whoever opens an account of these tenants waits, or has already counted what was folded.
    for (const tenantId of plan.tenants) await shareTenant(tx, tenantId)
    await insertRows(tx, nodeId, plan)
    const { accounts, overspend } = await settleAccounts(tx, nodeId, plan)
    await mirrorHolds(tx, nodeId, plan)
    await o.report(tx)
    return {
      accounts,
      overspend,
      rows: [
        ...plan.ends.map(end => ({ status: end.record.outcome.status, count: 1 })),
        ...plan.refusals.map(refusal => ({ status: refusal.record.status, count: refusal.count })),
      ],
    }
  })
}

async function movePosition(tx: Tx, nodeId: string, from: Position | null, to: Position): Promise<void> {
  const rows =
    from === null
      ? await tx`
          insert into budgetguard.positions (node_id, segment, byte_offset, sequence)
          values (${nodeId}, ${to.segment}, ${to.offset}, ${to.sequence}) on conflict do nothing returning 1`
      : await tx`
          update budgetguard.positions
          set segment = ${to.segment}, byte_offset = ${to.offset}, sequence = ${to.sequence}, updated_at = now()
          where node_id = ${nodeId} and segment = ${from.segment} and byte_offset = ${from.offset} returning 1`
  if (rows.length === 0) throw new AlreadyFolded(`the position of node ${nodeId} has moved`)
}

const columns = [
  'ts',
  'tenant_id',
  'key_id',
  'key_prefix',
  'request_id',
  'hold_id',
  'kind',
  'status',
  'reason',
  'route',
  'provider',
  'model',
  'upstream_id',
  'is_stream',
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'output_tokens',
  'reasoning_tokens',
  'price_id',
  'hold_nano',
  'settled_nano',
  'released_nano',
  'overrun_nano',
  'cost_exact',
  'usage_source',
  'session_id',
  'end_user',
  'accounts',
  'amounts',
  'latency_ms',
  'flags',
  'node_id',
  'seq',
  'count',
] as const

async function insertRows(tx: Tx, nodeId: string, plan: FoldPlan): Promise<void> {
  const rows = [
    ...plan.ends.map(end => rowOfEnd(nodeId, end)),
    ...plan.refusals.map(refusal => rowOfRefusal(nodeId, refusal)),
  ]
  if (rows.length === 0) return
  const months = new Set([...plan.ends, ...plan.refusals].map(({ record }) => monthOf(record.call.atMs)))
  for (const month of months) await tx`select budgetguard.ensure_ledger_month(${month})`
  await copyRows(tx, { into: 'budgetguard.ledger', columns, rows })
}

function rowOfEnd(nodeId: string, { sequence, record }: Numbered<EndRecord>): CopyValue[] {
  const { call, outcome, parts } = record
  const overrun = outcome.settled > record.held ? outcome.settled - record.held : 0n
  return [
    ...callColumns(call),
    record.id,
    'call',
    outcome.status,
    outcome.reason,
    call.route,
    call.provider,
    call.model,
    outcome.upstreamId,
    call.isStream,
    outcome.input,
    outcome.cacheRead,
    outcome.cacheWrite,
    outcome.output,
    outcome.reasoning,
    call.priceId,
    record.held,
    outcome.settled,
    record.held + overrun - outcome.settled,
    overrun,
    outcome.exact,
    outcome.usageSource,
    call.sessionId,
    call.endUser,
    arrayLiteral(parts.map(part => part.accountId)),
    arrayLiteral(parts.map(part => part.settled)),
    outcome.latencyMs,
    arrayLiteral(outcome.flags),
    nodeId,
    sequence,
    1,
  ]
}

function rowOfRefusal(
  nodeId: string,
  { sequence, record, count }: Numbered<RefusalRecord> & { count: number },
): CopyValue[] {
  const { call } = record
  return [
    ...callColumns(call),
    null,
    'call',
    record.status,
    record.reason,
    call.route,
    call.provider,
    call.model,
    null,
    call.isStream,
    0,
    0,
    0,
    0,
    0,
    call.priceId,
    0,
    0,
    0,
    0,
    0,
    'none',
    call.sessionId,
    call.endUser,
    '{}',
    '{}',
    null,
    '{}',
    nodeId,
    sequence,
    count,
  ]
}

function callColumns(call: EndRecord['call']): CopyValue[] {
  return [new Date(call.atMs), call.tenantId, call.keyId, call.keyPrefix, call.requestId]
}

function monthOf(ms: number): Date {
  const date = new Date(ms)
  return new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1))
}

async function settleAccounts(
  tx: Tx,
  nodeId: string,
  plan: FoldPlan,
): Promise<{ accounts: FoldedAccount[]; overspend: bigint }> {
  const late = await unnamedAccounts(tx, plan)
  const ids = new Set([...plan.settled.map(entry => entry.accountId), ...late.map(entry => entry.accountId)])
  const rows = new Map((await lockAccounts(tx, [...ids])).map(row => [row.id, central(row)]))
  const slices = new Map<string, { id: bigint; granted: bigint; consumed: bigint; before: bigint }>()
  for (const row of await tx<
    { id: bigint; account_id: bigint; fence: bigint; granted_nano: bigint; consumed_nano: bigint }[]
  >`select id, account_id, fence, granted_nano, consumed_nano from budgetguard.leases
    where node_id = ${nodeId} and state <> 'closed' and account_id = any(${arrayLiteral([...ids])}::int8[]) order by id for update`)
    slices.set(`${row.account_id}/${row.fence}`, {
      id: row.id,
      granted: row.granted_nano,
      consumed: row.consumed_nano,
      before: row.consumed_nano,
    })

  let overspend = 0n
  const accounts: FoldedAccount[] = []
  for (const entry of [...plan.settled, ...late.map(l => ({ ...l, fence: 0n, overrun: 0n }))]) {
    const account = rows.get(entry.accountId)
    if (!account)
      throw new Error(
        `account ${entry.accountId} of this journal is not in this database: the database was replaced, or restored ` +
          'from before. Restore the one that belongs to it, or move budgetguard/nodes out of the data folder; what is ' +
          'in it is then not booked.',
      )
    const slice = slices.get(`${entry.accountId}/${entry.fence}`) ?? null
    const after = settleInto(account, slice, entry)
    account.settled = after.settled
    account.granted = after.granted
    if (slice) slice.consumed += after.consumed
    overspend += after.overspend
    accounts.push({
      accountId: entry.accountId,
      fence: entry.fence,
      settled: entry.amount,
      consumed: after.consumed,
      central: account,
    })
  }
  const changed = [...rows]
  await tx`
    update budgetguard.accounts a set settled_nano = v.settled, granted_nano = v.granted, version = a.version + 1,
      is_over_limit = v.settled + v.granted > a.limit_nano
    from unnest(${arrayLiteral(changed.map(([id]) => id))}::int8[], ${arrayLiteral(changed.map(([, row]) => row.settled))}::int8[],
      ${arrayLiteral(changed.map(([, row]) => row.granted))}::int8[]) v(id, settled, granted) where a.id = v.id`
  const consumed = [...slices.values()].filter(slice => slice.consumed !== slice.before)
  await tx`
    update budgetguard.leases l set consumed_nano = v.consumed
    from unnest(${arrayLiteral(consumed.map(slice => slice.id))}::int8[], ${arrayLiteral(consumed.map(slice => slice.consumed))}::int8[]) v(id, consumed)
    where l.id = v.id`
  return { accounts, overspend }
}

/**
 * Accounts that a call belongs to and does not name: they were opened after it was admitted. An account is the sum of
 * its tenant's rows in its window, whoever opened it when.
 */
async function unnamedAccounts(tx: Tx, plan: FoldPlan): Promise<{ accountId: bigint; amount: bigint }[]> {
  const ends = plan.ends.filter(({ record }) => record.outcome.settled > 0n)
  if (ends.length === 0) return []
  const rows = await tx<{ id: bigint; window_start: Date; window_end: Date; tenant_id: number }[]>`
    select a.id, a.tenant_id, a.window_start, a.window_end from budgetguard.accounts a
    join budgetguard.budgets b on b.id = a.budget_id and b.scope_type = 'tenant'
    where a.tenant_id = any(${arrayLiteral(plan.tenants)}::int4[]) and a.window_end > ${new Date(Math.min(...ends.map(e => e.record.call.atMs)))}`
  return rows.flatMap(row => {
    const amount = sum(
      ends
        .filter(
          ({ record: { call, parts } }) =>
            call.tenantId === row.tenant_id &&
            call.atMs >= row.window_start.getTime() &&
            call.atMs < row.window_end.getTime() &&
            parts.every(part => part.accountId !== row.id),
        )
        .map(({ record }) => record.outcome.settled),
    )
    return amount > 0n ? [{ accountId: row.id, amount }] : []
  })
}

async function mirrorHolds(tx: Tx, nodeId: string, plan: FoldPlan): Promise<void> {
  if (plan.closed.length > 0)
    await tx`delete from budgetguard.holds where id = any(${arrayLiteral(plan.closed)}::text[])`
  if (plan.opened.length === 0) return
  await copyRows(tx, {
    into: 'budgetguard.holds',
    columns: ['id', 'node_id', 'request_id', 'tenant_id', 'accounts', 'amount_nano', 'opened_at', 'deadline', 'record'],
    rows: plan.opened.map(record => [
      record.id,
      nodeId,
      record.call.requestId,
      record.call.tenantId,
      arrayLiteral(record.parts.map(part => part.accountId)),
      record.amount,
      new Date(record.call.atMs),
      new Date(record.deadlineAtMs),
      encodeRecord(record).toString('utf8'),
    ]),
  })
}
