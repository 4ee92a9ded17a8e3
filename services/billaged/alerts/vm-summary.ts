import type { Base } from '#platform/lifecycle'
import { nowNs } from '#platform/time'
import { type PartReader, seenSince } from '../store/series.ts'
import { loadVmUsage } from '../store/usage.ts'
import type { FoldRules } from '../usage/fold.ts'
import { quantity } from '../usage/quantity.ts'
import type { VmUsage } from '../usage/rows.ts'

/** VMs with a line of their own in an interval. At level debug all of this is read from the database. */
const vmsMax = 1_000

/** At DEBUG, a `vm usage` line per VM that was read in the interval that is over; returns how to stop it. */
export function summariseVms(o: { base: Base; everyMs: number; reader: PartReader; rules: FoldRules }) {
  const { clock, log } = o.base
  // Nobody bills by it, so nothing is kept in memory for it.
  const { running: _, ...reader } = o.reader
  let toNs = nowNs(clock)
  let isBusy = false
  async function tell() {
    const fromNs = toNs
    toNs = nowNs(clock)
    if (!log.isLevelEnabled('debug') || toNs <= fromNs) return
    for (const { customerId, vmId } of await seenSince(reader.sql, fromNs, vmsMax)) {
      const [usage] = await loadVmUsage(reader, customerId, [fromNs, toNs], o.rules, vmId)
      if (usage !== undefined) log.debug({ vmId, customerId, ...legacyScore(usage) }, 'vm usage')
    }
  }
  const timer = setInterval(() => {
    if (isBusy) return
    isBusy = true
    tell()
      .catch(error => log.debug({ err: error }, 'usage of VMs cannot be read'))
      .finally(() => {
        isBusy = false
      })
  }, o.everyMs)
  return async () => clearInterval(timer)
}

/** CPU seconds × 1.0 + peak memory in GiB × 0.5 + disk in MiB × 0.3: a figure of the service before this one, never billed. */
export function legacyScore({ cells: [cell], peaks }: Pick<VmUsage, 'cells' | 'peaks'>) {
  if (cell === undefined) throw new Error('BUG: two edges make one cell')
  const cpuSeconds = Number(quantity(cell, 'vm_cpu', 'zero')) / 1e9
  const diskBytes = quantity(cell, 'vm_disk_read', 'zero') + quantity(cell, 'vm_disk_write', 'zero')
  const peakBytes = peaks[0] ?? 0n
  const score = cpuSeconds + (Number(peakBytes) / 2 ** 30) * 0.5 + (Number(diskBytes) / 2 ** 20) * 0.3
  return {
    cpuSeconds,
    peakMemoryBytes: `${peakBytes}`,
    diskBytes: `${diskBytes}`,
    resource_score: Math.round(score * 1000) / 1000,
  }
}
