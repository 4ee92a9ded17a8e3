import type { Sql } from '#platform/postgres'
import type { SinkStats } from '../store.ts'

export async function columnarStats(sql: Sql): Promise<SinkStats> {
  const [row] = await sql<
    { rows: bigint; raw: bigint; blocks: bigint; bytes: bigint; partitions: bigint; oldest: string | null }[]
  >`
    select (select coalesce(sum(rows), 0)::int8 from purser_logs.blocks) as rows,
           (select coalesce(sum(raw_bytes), 0)::int8 from purser_logs.blocks) as raw,
           (select count(*) from purser_logs.blocks) as blocks,
           (select min(day)::text from purser_logs.blocks) as oldest,
           coalesce(sum(pg_total_relation_size(p.relid)), 0)::int8 as bytes, count(*) - 1 as partitions
    from pg_partition_tree('purser_logs.blocks') p`
  return {
    sink: 'columnar',
    rows: row?.rows ?? 0n,
    bytes: row?.bytes ?? 0n,
    rawBytes: row?.raw ?? 0n,
    partitions: Number(row?.partitions ?? 0n),
    blocks: Number(row?.blocks ?? 0n),
    oldestDay: row?.oldest ?? null,
  }
}
