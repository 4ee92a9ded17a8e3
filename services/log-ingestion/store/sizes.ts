// How large what we store is, and what the server sees of our connections.

import type { Sql } from '#platform/postgres'

export interface TableSize {
  name: string
  /** With indexes, TOAST and partitions. */
  bytes: number
  /** Null for a table that has no parts of its own. */
  kind: 'chunk' | 'partition' | 'block' | null
  parts: number
}

/** Tables of schema purser_logs by name, and the guide's. */
export async function loadTableSizes(sql: Sql): Promise<TableSize[]> {
  const rows = await sql<{ name: string; bytes: bigint; kind: TableSize['kind']; parts: bigint }[]>`
    with tables as (
      select c.oid, n.nspname as schema, c.relname as name, c.relkind
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p') and not c.relispartition
        and (n.nspname = 'purser_logs' or (n.nspname = 'public' and c.relname in ('logs', 'faults', 'notices')))
    )
    select case when t.schema = 'public' then t.name else t.schema || '.' || t.name end as name,
           (pg_total_relation_size(t.oid) + coalesce(sum(pg_total_relation_size(i.inhrelid)), 0))::int8 as bytes,
           case when t.relkind = 'p' then 'partition'
                when count(i.inhrelid) filter (where c.relnamespace::regnamespace::text = '_timescaledb_internal') > 0 then 'chunk'
           end as kind,
           count(i.inhrelid) as parts
    from tables t left join pg_inherits i on i.inhparent = t.oid left join pg_class c on c.oid = i.inhrelid
    group by t.oid, t.schema, t.name, t.relkind order by 1`
  return rows.map(row => ({
    ...row,
    // The columnar table is partitioned by day as well; its parts are told apart by their table.
    kind: row.kind !== null && row.name.startsWith('purser_logs.') ? 'block' : row.kind,
    bytes: Number(row.bytes),
    parts: Number(row.parts),
  }))
}

export async function loadConnections(sql: Sql): Promise<{ idle: number; busy: number; waiting: number }> {
  const [row] = await sql<{ idle: bigint; busy: bigint; waiting: bigint }[]>`
    select count(*) filter (where state like 'idle%') as idle,
           count(*) filter (where state = 'active' and wait_event_type is distinct from 'Lock') as busy,
           count(*) filter (where state = 'active' and wait_event_type = 'Lock') as waiting
    from pg_stat_activity where datname = current_database() and application_name like 'log-ingestion%'`
  return { idle: Number(row?.idle ?? 0n), busy: Number(row?.busy ?? 0n), waiting: Number(row?.waiting ?? 0n) }
}
