import { mulDiv } from '#platform/money'
import type { PlanVersion, Price } from './plan.ts'

/** What one VM used while it was measured, and how long its host was down under each plan version. */
export interface Outage {
  /** Base units, by meter. */
  used: ReadonlyMap<string, bigint>
  measuredNs: bigint
  down: readonly { version: PlanVersion; hostDownNs: bigint }[]
}

/** What the VM would have cost, at list price, had it run on through the outage as it ran while it was measured: each meter's
 *  use ÷ measured time × time down × price. Nothing where nothing was measured, since nothing says what it would have used.
 *  Proposed to an operator, never billed. */
export function outageNano({ used, measuredNs, down }: Outage): bigint {
  if (measuredNs <= 0n) return 0n
  let total = 0n
  for (const { version, hostDownNs } of down) {
    if (hostDownNs <= 0n) continue
    for (const [meter, quantity] of used) {
      const price = listPrice(version, meter)
      if (price !== null) total += mulDiv(quantity * hostDownNs, price.amountNano, measuredNs * price.units, 'floor')
    }
  }
  return total
}

/** Before every discount: allowances count for nothing, of tiers the dearest, of packages a part. A flat fee is not of a VM. */
function listPrice(version: PlanVersion, meter: string): { amountNano: bigint; units: bigint } | null {
  const price = version.prices.find(
    (one): one is Exclude<Price, { model: 'flat' }> =>
      one.model !== 'flat' && one.meter === meter && Object.keys(one.match).length === 0,
  )
  if (price === undefined) return null
  switch (price.model) {
    case 'per_unit':
      return { amountNano: price.amountNano, units: price.per }
    case 'package':
      return { amountNano: price.amountNano, units: price.packageSize }
    case 'graduated':
    case 'volume':
      return {
        amountNano: price.tiers.reduce((most, { amountNano }) => (amountNano > most ? amountNano : most), 0n),
        units: price.per,
      }
    case 'cost_plus':
      return { amountNano: BigInt(1_000_000 + price.markupPpm), units: 1_000_000n }
    default:
      return price satisfies never
  }
}
