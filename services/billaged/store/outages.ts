import type { Queryable } from '#platform/postgres'
import { larger } from '../bigint.ts'
import { outageNano } from '../rating/outage.ts'
import { hourMs } from '../rating/periods.ts'
import type { Hours } from '../rating/rate.ts'
import type { FoldRules } from '../usage/fold.ts'
import { ledgerOf, vmMeterNames, vmMeters } from '../usage/quantity.ts'
import { edgesOf, planPeriod } from './pricing.ts'
import type { PartReader } from './series.ts'
import { loadVmUsage } from './usage.ts'

export interface CustomerOutage {
  planId: string | null
  currency: string
  hostDownNs: bigint
  /** What the time down is worth at list price; what of it was given as credit. */
  worthNano: bigint
  creditedNano: bigint
  /** Those whose host was down, longest first. */
  vms: { vmId: string; hostDownNs: bigint; measuredNs: bigint; worthNano: bigint }[]
}

/** How long the hosts of a customer's VMs were down in a period, and what that is worth. */
export async function loadOutage(
  reader: PartReader,
  rules: FoldRules,
  customerId: string,
  period: Hours,
): Promise<CustomerOutage> {
  const planned = await planPeriod(reader, customerId, period, null)
  const usage = await loadVmUsage(reader, customerId, edgesOf(planned), rules)
  const vms: CustomerOutage['vms'] = []
  for (const { vmId, cells } of usage) {
    const spans = planned.segments.map(({ version }, i) => {
      const cell = cells[i]
      if (cell === undefined) throw new Error('BUG: there is a cell for every segment')
      return { version, cell, hostDownNs: ledgerOf(cell, version?.gapPolicy ?? 'zero').hostDownNs }
    })
    const hostDownNs = spans.reduce((sum, span) => sum + span.hostDownNs, 0n)
    if (hostDownNs <= 0n) continue
    const measuredNs = cells.reduce((sum, cell) => sum + cell.timeNs.measured, 0n)
    const used = new Map(
      vmMeterNames.map(meter => [meter, cells.reduce((sum, cell) => sum + cell[vmMeters[meter].field].measured, 0n)]),
    )
    const down = spans.flatMap(({ version, hostDownNs }) => (version === null ? [] : [{ version, hostDownNs }]))
    vms.push({ vmId, hostDownNs, measuredNs, worthNano: outageNano({ used, measuredNs, down }) })
  }
  vms.sort((a, b) =>
    a.hostDownNs === b.hostDownNs ? (a.vmId < b.vmId ? -1 : 1) : a.hostDownNs > b.hostDownNs ? -1 : 1,
  )
  return {
    planId: planned.segments.findLast(({ planId }) => planId !== null)?.planId ?? null,
    currency: planned.currency,
    hostDownNs: vms.reduce((sum, vm) => sum + vm.hostDownNs, 0n),
    worthNano: vms.reduce((sum, vm) => sum + vm.worthNano, 0n),
    creditedNano: await creditedFor(reader.sql, customerId, period),
    vms,
  }
}

/** Late readings shorten an outage; what was given for it stays given. */
export function leftToCredit({ worthNano, creditedNano }: Pick<CustomerOutage, 'worthNano' | 'creditedNano'>): bigint {
  return larger(worthNano - creditedNano, 0n)
}

async function creditedFor(sql: Queryable, customerId: string, period: Hours): Promise<bigint> {
  const [row] = await sql<{ nano: string }[]>`
    select coalesce(sum(amount_nano), 0)::text as nano from billaged.credit_grant
    where customer_id = ${customerId} and outage_from = ${new Date(period.from * hourMs)}`
  return BigInt(row?.nano ?? '0')
}
