// The mirror of open holds: what every process had open when its journal was last folded.

import type { Sql } from '#platform/postgres'
import { decodeRecord, type HoldRecord } from '../record.ts'

export interface MirroredHold {
  nodeId: string
  record: HoldRecord
}

export async function listHolds(sql: Sql, o: { nodeId?: string; limit: number }): Promise<MirroredHold[]> {
  const rows = await sql<{ node_id: string; record: string }[]>`
    select node_id, record from budgetguard.holds
    where ${o.nodeId === undefined ? sql`true` : sql`node_id = ${o.nodeId}`}
    order by opened_at limit ${o.limit}`
  return rows.flatMap(row => {
    const record = decodeRecord(Buffer.from(row.record))
    return record.type === 'hold' ? [{ nodeId: row.node_id, record }] : []
  })
}
