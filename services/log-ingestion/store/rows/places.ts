// Rows that were looked at, to be deleted exactly.
//
// By their place in their partition where rows stay where they are: exact and quick whatever indexes there are. Compressed
// chunks have no places, so rows of a hypertable go by id and time.

import type { Fragment } from 'postgres'
import type { Tx } from '#platform/postgres'
import type { LogsTable } from './logs-table.ts'
import { timestampText } from './narrow.ts'

export interface RowPlace {
  part: string | null
  ctid: string | null
  id: bigint
  timestampUs: bigint
}

/** Columns `part` and `place` of `l`. */
export function placeOf(tx: Tx, table: LogsTable): Fragment {
  return table.kind === 'hypertable'
    ? tx`null::regclass as part, null::tid as place`
    : tx`l.tableoid::regclass as part, l.ctid as place`
}

/** Statements that delete those of the rows that are there still, from `l`; without their `returning`. */
export async function deletionsOf<T extends RowPlace>(
  tx: Tx,
  table: LogsTable,
  rows: readonly T[],
): Promise<{ statement: Fragment; rows: T[] }[]> {
  if (table.kind !== 'hypertable')
    return [...Map.groupBy(rows, row => row.part ?? '')].map(([part, ours]) => ({
      rows: ours,
      // Rows of this table are written once and never updated, so a place holds the row that was read, or nothing.
      statement: tx`
        delete from only ${tx.unsafe(part)} l where l.ctid = any(${ours.map(row => row.ctid ?? '')}::text[]::tid[])
          and l.id = any(${ours.map(row => String(row.id))}::text[]::int8[])`,
    }))
  const [first] = rows
  if (!first) return []
  // The rows of a few batches may have to be unpacked for it; the limit is meant for statements of people.
  await tx`select set_config(name, '0', true) from pg_settings
           where name = 'timescaledb.max_tuples_decompressed_per_dml_transaction'`
  let [low, high] = [first.timestampUs, first.timestampUs]
  for (const { timestampUs } of rows) {
    if (timestampUs < low) low = timestampUs
    if (timestampUs > high) high = timestampUs
  }
  return [
    {
      rows: [...rows],
      statement: tx`
        delete from public.logs l
        where l.timestamp >= ${timestampText(low)}::timestamptz and l.timestamp <= ${timestampText(high)}::timestamptz
          and (l.id, l.timestamp) in (
            select * from unnest(${rows.map(row => String(row.id))}::text[]::int8[],
                                 ${rows.map(row => timestampText(row.timestampUs))}::text[]::timestamptz[]))`,
    },
  ]
}
