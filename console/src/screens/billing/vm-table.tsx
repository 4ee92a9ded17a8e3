import { type Customer, getUsage, type UsageRow } from '../../api/billaged.ts'
import type { CostSnapshot } from '../../billing/costs.ts'
import type { BillingPeriod } from '../../billing/periods.ts'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatCount } from '../../units/counts.ts'
import { formatMoney, formatMoneyExact, nanoFrom, shareOf } from '../../units/money.ts'
import { formatQuantity } from '../../units/quantity.ts'

/** Rows shown; the sum over the others stands below them. */
const rowsMax = 200

const columns = [
  { meter: 'vm_cpu', label: 'CPU', className: '' },
  { meter: 'vm_memory', label: 'Memory', className: 'c-sm' },
  { meter: 'vm_disk_write', label: 'Written', className: 'c-lg' },
  { meter: 'vm_net_tx', label: 'Sent', className: 'c-md' },
] as const

/** A customer's VMs, the busiest first. */
export function VmTable({
  customer,
  period,
  isRunning,
  cost,
}: {
  customer: Customer
  period: BillingPeriod
  isRunning: boolean
  cost: CostSnapshot | null
}) {
  const { from, to } = period
  const usage = useResource(
    `vms ${customer.id} ${from}`,
    signal => getUsage(customer.id, { from, to, by: 'vm' }, signal),
    isRunning ? 15_000 : 0,
  )
  return (
    <Panel title="By VM" aside={usage.data && formatCount(vmsOf(usage.data.rows).length)} testId="vm-table">
      <Loaded resource={usage} skeleton={<SkeletonRows rows={3} />}>
        {({ rows }) => <Rows vms={vmsOf(rows)} customer={customer} period={route(period, isRunning)} cost={cost} />}
      </Loaded>
    </Panel>
  )
}

interface VmUsage {
  vmId: string
  quantities: Map<string, { quantity: string; unit: string }>
}

function Rows({
  vms,
  customer,
  period,
  cost,
}: {
  vms: readonly VmUsage[]
  customer: Customer
  period: string
  cost: CostSnapshot | null
}) {
  if (vms.length === 0)
    return (
      <Empty title="No VM in this period" command={`bin/billaged-cli -tenant ${customer.id} send-metrics`}>
        metald and the collector's workload metering send readings of VMs. One reading by hand:
      </Empty>
    )
  const top = vms.reduce((most, vm) => max(most, quantityOf(vm, 'vm_cpu')), 1n)
  return (
    <>
      <table className="table">
        <thead>
          <tr>
            <th>VM</th>
            <th className="c-md share-cell">Share</th>
            {columns.map(({ meter, label, className }) => (
              <th key={meter} className={`number ${className}`}>
                {label}
              </th>
            ))}
            {cost && <th className="number">Cost</th>}
          </tr>
        </thead>
        <tbody>
          {vms.slice(0, rowsMax).map(vm => (
            <tr key={vm.vmId} data-testid="vm-row">
              <td className="ellipsis main">
                <Link to={billingRoute('customers', { id: customer.id, vm: vm.vmId, period })}>{vm.vmId}</Link>
              </td>
              <td className="c-md share-cell">
                <i className="share" style={{ width: `${shareOf(quantityOf(vm, 'vm_cpu'), top) * 100}%` }} />
              </td>
              {columns.map(({ meter, className }) => {
                const cell = vm.quantities.get(meter)
                return (
                  <td key={meter} className={`number ${className}`} title={cell && `${cell.quantity} ${cell.unit}`}>
                    {cell ? formatQuantity(cell.quantity, cell.unit, meter) : '–'}
                  </td>
                )
              })}
              {cost && <CostCell cost={cost} vm={vm.vmId} />}
            </tr>
          ))}
        </tbody>
      </table>
      {vms.length > rowsMax && (
        <p className="panel-note quiet">
          The {rowsMax} busiest of {formatCount(vms.length)}.
        </p>
      )}
    </>
  )
}

/** The stream tells the dearest hundred; each line of a meter is shared by quantity. */
function CostCell({ cost, vm }: { cost: CostSnapshot; vm: string }) {
  const found = cost.vms.find(({ vmId }) => vmId === vm)
  if (found === undefined) return <td className="number quiet">–</td>
  const nano = nanoFrom(found.amountNano)
  return (
    <td className="number" title={formatMoneyExact(nano, cost.currency)} data-testid="vm-cost">
      {formatMoney(nano, cost.currency)}
    </td>
  )
}

function route(period: BillingPeriod, isRunning: boolean): string {
  return isRunning ? '' : period.key
}

function vmsOf(rows: readonly UsageRow[]): VmUsage[] {
  const vms = new Map<string, VmUsage>()
  for (const { vmId, meter, quantity, unit } of rows) {
    if (vmId === undefined) continue
    const vm = vms.get(vmId) ?? { vmId, quantities: new Map() }
    vm.quantities.set(meter, { quantity, unit })
    vms.set(vmId, vm)
  }
  return [...vms.values()].sort((a, b) => (quantityOf(a, 'vm_cpu') < quantityOf(b, 'vm_cpu') ? 1 : -1))
}

function quantityOf(vm: VmUsage, meter: string): bigint {
  return BigInt(vm.quantities.get(meter)?.quantity ?? '0')
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
