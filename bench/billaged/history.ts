import type { Sql } from '#platform/postgres'
import { addDays } from '../../services/billaged/store/usage-hours.ts'
import { hourColumns } from '../../services/billaged/usage/hour-columns.ts'

// Weeks of usage that is folded already, put where the service keeps it: what a month is read from that was lived through.

/** What every VM used in every hour of it. */
export const usedAnHour = {
  vm_cpu: 1_800_000_000_000n,
  vm_memory: 2_147_483_648n * 3_600_000_000_000n,
  vm_disk_read: 1_000_003n,
  vm_disk_write: 2_000_003n,
  vm_net_rx: 3_000_017n,
  vm_net_tx: 4_000_037n,
} as const

const columnOf: Record<keyof typeof usedAnHour, string> = {
  vm_cpu: 'cpu_ns',
  vm_memory: 'mem_byte_ns',
  vm_disk_read: 'disk_read',
  vm_disk_write: 'disk_write',
  vm_net_rx: 'net_rx',
  vm_net_tx: 'net_tx',
}

/** Of every series there is, [fromHour, toHour). */
export async function addHistory(sql: Sql, fromHour: number, toHour: number): Promise<void> {
  const used: Record<string, bigint> = { alive_ns: 3_600_000_000_000n, measured_ns: 3_600_000_000_000n }
  for (const [meter, column] of Object.entries(columnOf)) used[column] = usedAnHour[meter as keyof typeof usedAnHour]
  const names = hourColumns.map(({ name }) => name)
  await sql.begin(async tx => {
    await tx`set local statement_timeout = 0`
    await tx.unsafe(`
      insert into billaged.usage_hour (series_id, hour, reads_from_ns, reads_to_ns, covers_count, covers_xor, mem_peak, ${names.join()})
      select series_id, h, h * 3600000000000, (h + 1) * 3600000000000 - 1, 1, ''::bytea, 2147483648, ${names.map(name => used[name] ?? 0n).join()}
      from billaged.series, generate_series(${fromHour}::int8, ${toHour - 1}::int8) h
      on conflict do nothing`)
    await addDays(tx, tx`hour >= ${fromHour} and hour < ${toHour}`)
    await tx.unsafe(`update billaged.series set first_ns = least(first_ns, ${BigInt(fromHour) * 3_600_000_000_000n})`)
    await tx.unsafe('analyze billaged.usage_hour, billaged.usage_day, billaged.series, billaged.sample_part')
  })
}
