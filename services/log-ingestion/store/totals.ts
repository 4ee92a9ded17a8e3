// Statistics from the maintained totals: no scan, whatever the table holds. Hours are those of the events.

import type { Sql } from '#platform/postgres'

export interface Totals {
  rows: bigint
  byService: Map<string, bigint>
  byLevel: Map<string, bigint>
}

/** Rows of hours that end after `sinceMs`. */
export async function loadTotals(sql: Sql, tenant: string, sinceMs: number): Promise<Totals> {
  const since = new Date(sinceMs - 3_600_000).toISOString()
  const rows = await sql<{ service: string; level: string; rows: bigint }[]>`
    select service, level, sum(rows)::int8 as rows from purser_logs.totals
    where tenant = ${tenant} and hour > ${since}::timestamptz group by 1, 2`
  const totals: Totals = { rows: 0n, byService: new Map(), byLevel: new Map() }
  for (const row of rows) {
    totals.rows += row.rows
    totals.byService.set(row.service, (totals.byService.get(row.service) ?? 0n) + row.rows)
    totals.byLevel.set(row.level, (totals.byLevel.get(row.level) ?? 0n) + row.rows)
  }
  return totals
}

export async function countQuarantined(sql: Sql): Promise<number> {
  const [row] = await sql<{ count: bigint }[]>`select count(*) from purser_logs.quarantine where status = 'open'`
  return Number(row?.count ?? 0n)
}
