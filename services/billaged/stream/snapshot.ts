import { allocate } from '#platform/money'
import type { CostSnapshot } from '../alerts/api.ts'
import { formatDecimal } from '../decimal.ts'
import { hourMs } from '../rating/periods.ts'
import type { Hours } from '../rating/rate.ts'
import type { Forecast } from '../store/pricing.ts'
import { emptyCell } from '../usage/cells.ts'
import { ledgerOf, quantity, type VmMeter, vmMeterNames } from '../usage/quantity.ts'
import type { VmUsage } from '../usage/rows.ts'

/** VMs of one message; the rest is summed. */
const vmsMax = 100

export type Snapshot = Omit<CostSnapshot, 'asOf' | 'nanoPerHour' | 'budgetNano'>

/** A customer's running period as one message: amounts by meter and by VM, the parts adding up to the whole. */
export function snapshotOf(customerId: string, period: Hours, forecast: Forecast): Snapshot {
  const { priced, vms } = forecast
  const amounts = amountsByVm(forecast)
  const all = vms
    .map(vm => ({ vmId: vm.vmId, amountNano: amounts.get(vm.vmId) ?? 0n, quantities: quantitiesOf(vm, forecast) }))
    .toSorted((a, b) =>
      a.amountNano === b.amountNano ? compareText(a.vmId, b.vmId) : a.amountNano > b.amountNano ? -1 : 1,
    )
  const rest = all.slice(vmsMax)
  return {
    customerId,
    period: { from: iso(period.from), to: iso(period.to) },
    currency: priced.currency,
    planId: priced.planId,
    totalNano: `${priced.totalNano}`,
    forecastNano: `${forecast.forecastNano}`,
    lines: priced.lines.map(line => ({
      kind: line.kind,
      priceId: line.priceId,
      meter: line.meter,
      quantity: formatDecimal(line.quantityE9),
      amountNano: `${line.amountNano}`,
    })),
    vms: all.slice(0, vmsMax).map(vm => ({ ...vm, amountNano: `${vm.amountNano}` })),
    otherVms: { count: rest.length, amountNano: `${rest.reduce((sum, vm) => sum + vm.amountNano, 0n)}` },
  }
}

/** Each line of a VM meter is shared over the VMs by their quantity: a tier belongs to nobody in particular. */
function amountsByVm({ priced, planned, vms }: Forecast): Map<string, bigint> {
  const amounts = new Map<string, bigint>()
  for (const line of priced.lines) {
    const meter = vmMeterNames.find(name => name === line.meter)
    const span = planned.segments.findIndex(({ segment }) => segment.from === line.segment.from)
    const policy = planned.segments[span]?.version?.gapPolicy
    if (meter === undefined || policy === undefined) continue
    const weights = vms.map(vm => quantity(vm.cells[span] ?? emptyCell(), meter, policy))
    if (weights.every(weight => weight === 0n)) continue
    for (const [i, nano] of allocate(line.amountNano, weights).entries()) {
      const id = vms[i]?.vmId ?? ''
      amounts.set(id, (amounts.get(id) ?? 0n) + nano)
    }
  }
  return amounts
}

function quantitiesOf(vm: VmUsage, { planned }: Forecast): Record<string, string> {
  const total = (meter: VmMeter) =>
    vm.cells.reduce(
      (sum, cell, i) => sum + quantity(cell, meter, planned.segments[i]?.version?.gapPolicy ?? 'zero'),
      0n,
    )
  return Object.fromEntries(vmMeterNames.map(meter => [meter, `${total(meter)}`]))
}

/** What is not billed of each VM's time, to notice when it grows. */
export function gapsOf({ planned, vms }: Forecast): Map<string, { unmeasuredNs: bigint; hostDownNs: bigint }> {
  return new Map(
    vms.map(({ vmId, cells }) => {
      const parts = cells.map((cell, i) => ledgerOf(cell, planned.segments[i]?.version?.gapPolicy ?? 'zero'))
      const sum = (field: 'unmeasuredNs' | 'hostDownNs') => parts.reduce((total, part) => total + part[field], 0n)
      return [vmId, { unmeasuredNs: sum('unmeasuredNs'), hostDownNs: sum('hostDownNs') }]
    }),
  )
}

function iso(hour: number): string {
  return new Date(hour * hourMs).toISOString()
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
