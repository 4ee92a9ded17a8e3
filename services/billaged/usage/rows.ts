import type { Usage, UsageBy, UsageRow } from '../api.ts'
import { larger } from '../bigint.ts'
import { e9, formatDecimal } from '../decimal.ts'
import type { GapPolicy } from '../rating/plan.ts'
import type { MeterUsage } from '../rating/rate.ts'
import { type Cell, emptyCell } from './cells.ts'
import { ledgerOf, quantity, sumCells, vmMeterNames, vmMeters } from './quantity.ts'

// From what was folded to what is shown or rated. Pure: the queries are in store/, the routes in http/.

export interface VmUsage {
  vmId: string
  /** One per span between neighbouring edges. */
  cells: readonly Cell[]
  /** Largest memory read in each span. */
  peaks: readonly bigint[]
}

export interface EventUsage {
  /** Which span between neighbouring edges. */
  span: number
  meter: string
  unit: string
  group: Readonly<Record<string, string>>
  quantityE9: bigint
}

/** The policy of the plan in force in each span; `zero` without a plan. */
export type PolicyOf = (span: number) => GapPolicy

export function usageRows(
  by: UsageBy,
  vms: readonly VmUsage[],
  events: readonly EventUsage[],
  spans: readonly { from: string; to: string }[],
  policyOf: PolicyOf,
): UsageRow[] {
  const all = spans.map((_, i) => i)
  if (by === 'vm') return vms.flatMap(vm => vmRows([vm], all, policyOf).map(row => ({ vmId: vm.vmId, ...row })))
  if (by === 'meter') return [...vmRows(vms, all, policyOf), ...eventRows(events)]
  return spans.flatMap((span, i) =>
    [...vmRows(vms, [i], policyOf), ...eventRows(events.filter(event => event.span === i))].map(row => ({
      ...span,
      ...row,
    })),
  )
}

export function ledgerRows(vms: readonly VmUsage[], policyOf: PolicyOf): Usage['ledger'] {
  const total = { measuredNs: 0n, estimatedNs: 0n, unmeasuredNs: 0n, hostDownNs: 0n, disputedNs: 0n }
  for (const { cells } of vms) {
    for (const [i, cell] of cells.entries()) {
      const part = ledgerOf(cell, policyOf(i))
      for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += part[key]
    }
  }
  return {
    measuredNs: `${total.measuredNs}`,
    estimatedNs: `${total.estimatedNs}`,
    unmeasuredNs: `${total.unmeasuredNs}`,
    hostDownNs: `${total.hostDownNs}`,
    disputedNs: `${total.disputedNs}`,
  }
}

/** What one span's plan version is applied to. */
export function meterUsage(
  vms: readonly VmUsage[],
  events: readonly EventUsage[],
  span: number,
  policy: GapPolicy,
): MeterUsage[] {
  const cell = sumCells(vms.map(vm => vm.cells[span] ?? emptyCell()))
  const ofVms = vmMeterNames.map(meter => ({ meter, group: {}, quantityE9: quantity(cell, meter, policy) * e9 }))
  const peak = vms.reduce((most, vm) => larger(most, vm.peaks[span] ?? 0n), 0n)
  return [
    ...ofVms,
    { meter: peakMeter, group: {}, quantityE9: peak * e9 },
    ...events.filter(event => event.span === span),
  ]
}

export function unitOf(meter: string, events: readonly EventUsage[]): string {
  if (Object.hasOwn(vmMeters, meter)) return vmMeters[meter as keyof typeof vmMeters].unit
  return meter === peakMeter ? 'bytes' : (events.find(event => event.meter === meter)?.unit ?? '')
}

const peakMeter = 'vm_memory_peak'

/** A row per VM meter; none at all for a customer without VMs. */
function vmRows(vms: readonly VmUsage[], spans: readonly number[], policyOf: PolicyOf): UsageRow[] {
  if (vms.length === 0) return []
  const rows = vmMeterNames.map(meter => {
    let total = 0n
    for (const vm of vms) for (const i of spans) total += quantity(vm.cells[i] ?? emptyCell(), meter, policyOf(i))
    return { meter, quantity: `${total}`, unit: vmMeters[meter].unit }
  })
  const peak = vms.flatMap(vm => spans.map(i => vm.peaks[i] ?? 0n)).reduce(larger, 0n)
  return [...rows, { meter: peakMeter, quantity: `${peak}`, unit: 'bytes' }]
}

function eventRows(events: readonly EventUsage[]): UsageRow[] {
  const totals = new Map<string, { unit: string; quantityE9: bigint }>()
  for (const { meter, unit, quantityE9 } of events)
    totals.set(meter, { unit, quantityE9: (totals.get(meter)?.quantityE9 ?? 0n) + quantityE9 })
  return [...totals].map(([meter, { unit, quantityE9 }]) => ({ meter, quantity: formatDecimal(quantityE9), unit }))
}
