import type { GapPolicy } from '../rating/plan.ts'
import { type Cell, emptyCell } from './cells.ts'

// From the fold's cells to what a plan would bill: VM meters, their units, and what the gap policy makes of gaps.

export const vmMeters = {
  vm_cpu: { field: 'cpuNs', unit: 'ns' },
  vm_memory: { field: 'memoryByteNs', unit: 'byte-ns' },
  vm_disk_read: { field: 'diskReadBytes', unit: 'bytes' },
  vm_disk_write: { field: 'diskWriteBytes', unit: 'bytes' },
  vm_net_rx: { field: 'netRxBytes', unit: 'bytes' },
  vm_net_tx: { field: 'netTxBytes', unit: 'bytes' },
  vm_alive: { field: 'aliveNs', unit: 'ns' },
} as const satisfies Record<string, { field: keyof Cell; unit: string }>

export type VmMeter = keyof typeof vmMeters
export const vmMeterNames = Object.keys(vmMeters) as VmMeter[]

/** `zero`: nothing of a gap. `floor`: what the counters prove, no memory. `interpolate`: short gaps as if measured. */
export function quantity(cell: Cell, meter: VmMeter, policy: GapPolicy): bigint {
  const { measured, shortGap, longGap } = cell[vmMeters[meter].field]
  switch (policy) {
    case 'zero':
      return measured
    case 'floor':
      return meter === 'vm_memory' ? measured : measured + shortGap + longGap
    case 'interpolate':
      return measured + shortGap
    default:
      return policy satisfies never
  }
}

/** Every nanosecond of the lives of a VM, once, by how it is known. Gaps are unmeasured unless the plan estimates the short
 *  ones, and host_down where no host vouched for the VM. Time that two hosts claim is disputed. */
export interface Ledger {
  measuredNs: bigint
  estimatedNs: bigint
  unmeasuredNs: bigint
  hostDownNs: bigint
  disputedNs: bigint
}

export function ledgerOf(cell: Cell, policy: GapPolicy): Ledger {
  const { measured, shortGap, longGap, unmeasured, disputed } = cell.timeNs
  const down = cell.hostDownNs
  const isEstimated = policy === 'interpolate'
  const hostDownNs = (isEstimated ? 0n : down.shortGap) + down.longGap + down.unmeasured
  const estimatedNs = isEstimated ? shortGap : 0n
  const unmeasuredNs = shortGap - estimatedNs + longGap + unmeasured - hostDownNs
  return { measuredNs: measured, estimatedNs, unmeasuredNs, hostDownNs, disputedNs: disputed }
}

export function sumCells(cells: Iterable<Cell>): Cell {
  const total = emptyCell()
  for (const cell of cells) {
    for (const field of Object.keys(total) as (keyof Cell)[]) {
      total[field].measured += cell[field].measured
      total[field].shortGap += cell[field].shortGap
      total[field].longGap += cell[field].longGap
      total[field].unmeasured += cell[field].unmeasured
      total[field].disputed += cell[field].disputed
    }
  }
  return total
}
