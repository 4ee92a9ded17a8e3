// The processes that write: an identity that lives as long as its journal, and a fence that grows with every start.

import type { Queryable, Sql } from '#platform/postgres'
import type { NodeLife } from './accounts.ts'

export async function beginLife(
  sql: Queryable,
  o: { nodeId: string; host: string; pid: number; version: string },
): Promise<NodeLife> {
  const [row] = await sql<{ fence: bigint }[]>`
    insert into budgetguard.nodes (id, host, pid, version, fence)
    values (${o.nodeId}, ${o.host}, ${o.pid}, ${o.version}, nextval('budgetguard.fence_seq'))
    on conflict (id) do update set host = excluded.host, pid = excluded.pid, version = excluded.version,
      fence = excluded.fence, started_at = now(), seen_at = now()
    returning fence`
  if (!row) throw new Error('BUG: a node without a fence')
  return { id: o.nodeId, fence: row.fence }
}

export async function touchNode(sql: Sql, nodeId: string): Promise<void> {
  await sql`update budgetguard.nodes set seen_at = now() where id = ${nodeId}`
}
