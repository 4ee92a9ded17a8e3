// The maintained totals follow what leaves the table.

import { arrayLiteral, type Tx } from '#platform/postgres'
import { levels } from '../../level.ts'
import type { StoredEntry } from '../store.ts'

const hourNs = 3_600_000_000_000n

export interface HourCount {
  tenant: string
  /** Whole hours since 1970. */
  hour: bigint
  service: string
  level: string
  rows: bigint
}

export async function reduceTotals(tx: Tx, tenant: string, entries: readonly StoredEntry[]): Promise<void> {
  const counts = new Map<string, HourCount>()
  for (const { timestampNs, service, level } of entries) {
    const hour = timestampNs / hourNs - (timestampNs < 0n && timestampNs % hourNs !== 0n ? 1n : 0n)
    const id = `${hour}\0${level}\0${service}`
    const count = counts.get(id)
    if (count) count.rows += 1n
    else counts.set(id, { tenant, hour, service, level, rows: 1n })
  }
  await reduceTotalsBy(tx, [...counts.values()])
}

/** Rows that nobody counted, of an older installation, do not make a total negative. */
export async function reduceTotalsBy(tx: Tx, counts: readonly HourCount[]): Promise<void> {
  if (counts.length === 0) return
  // In the order in which the writers lock these rows, and one after the other as they do: no two wait for each other.
  const rows = [...counts].sort((x, y) => (orderOf(x) < orderOf(y) ? -1 : 1))
  await tx`
    insert into purser_logs.totals as t (tenant, hour, service, level, rows)
    select tenant, to_timestamp(hour * 3600), service, level, -rows from unnest(
      ${rows.map(row => row.tenant)}::text[], ${arrayLiteral(rows.map(row => row.hour))}::int8[],
      ${rows.map(row => row.service)}::text[], ${rows.map(row => row.level)}::text[], ${arrayLiteral(rows.map(row => row.rows))}::int8[])
      as u(tenant, hour, service, level, rows)
    on conflict (tenant, hour, service, level) do update set rows = greatest(0, t.rows + excluded.rows)`
  await tx`
    delete from purser_logs.totals where rows <= 0 and tenant = any(${[...new Set(rows.map(row => row.tenant))]}::text[])
      and hour between to_timestamp(${rows.reduce((least, { hour }) => (hour < least ? hour : least), rows[0]?.hour ?? 0n)}::int8 * 3600)
                   and to_timestamp(${rows.reduce((most, { hour }) => (hour > most ? hour : most), rows[0]?.hour ?? 0n)}::int8 * 3600)`
}

function orderOf({ tenant, hour, level, service }: HourCount): string {
  return `${tenant}\0${hour}\0${(levels as readonly string[]).indexOf(level)}\0${service}`
}
