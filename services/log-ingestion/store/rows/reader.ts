// The guide's table as one of the sinks that a read asks.

import type { Sql } from '#platform/postgres'
import type { Reader } from '../reader.ts'
import type { SinkStats } from '../store.ts'
import { countRows, findRow, hasRows, searchRows } from './search.ts'

export const rowsReader: Reader = { hasData: hasRows, search: searchRows, find: findRow, count: countRows }

export async function rowsStats(sql: Sql): Promise<SinkStats> {
  const [row] = await sql<{ rows: bigint; bytes: bigint; partitions: bigint; oldest: string | null }[]>`
    select coalesce(sum(greatest(c.reltuples, 0)), 0)::int8 as rows, coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8 as bytes,
           count(*) - 1 as partitions,
           (select to_char(min(timestamp) at time zone 'UTC', 'YYYY-MM-DD') from public.logs) as oldest
    from pg_partition_tree('public.logs') p join pg_class c on c.oid = p.relid`
  return {
    sink: 'rows',
    rows: row?.rows ?? 0n,
    bytes: row?.bytes ?? 0n,
    partitions: Number(row?.partitions ?? 0n),
    blocks: 0,
    rawBytes: null,
    oldestDay: row?.oldest ?? null,
  }
}
