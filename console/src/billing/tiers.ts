import { mulDiv } from '#platform/money'
import type { PriceInput } from '../api/billing-plans.ts'

// What a price makes of a quantity, for the graph beside the plan. The same arithmetic as an invoice line of a whole
// period, over bigint and floored once; what a customer owes is nevertheless only ever what billaged says.

/** Null when the price is not finished: the form is being typed in. */
export function amountAt(price: PriceInput, quantity: bigint): bigint | null {
  switch (price.model) {
    case 'flat':
      return whole(price.amountNano)
    case 'per_unit': {
      const [per, amount, free] = [whole(price.per), whole(price.amountNano), whole(price.freeQuantity ?? '0')]
      return per === null || per === 0n || amount === null || free === null
        ? null
        : mulDiv(above(quantity, free), amount, per, 'floor')
    }
    case 'package': {
      const [size, amount, free] = [whole(price.packageSize), whole(price.amountNano), whole(price.freeQuantity ?? '0')]
      return size === null || size === 0n || amount === null || free === null
        ? null
        : ((above(quantity, free) + size - 1n) / size) * amount
    }
    case 'cost_plus':
      return mulDiv(quantity, 1_000_000n + BigInt(price.markupPpm), 1_000_000n, 'floor')
    case 'graduated':
      return tiered(price, quantity, graduated)
    case 'volume':
      return tiered(price, quantity, volume)
  }
}

export interface CurvePoint {
  quantity: bigint
  amount: bigint
}

/** The curve from nothing to `upTo`, with a point at every bound and just above it, so that steps are steps. */
export function curveOf(price: PriceInput, upTo: bigint, steps = 60): CurvePoint[] {
  const at = new Set<bigint>()
  for (let i = 0; i <= steps; i++) at.add((upTo * BigInt(i)) / BigInt(steps))
  for (const bound of boundsOf(price)) {
    if (bound > upTo) continue
    at.add(bound)
    at.add(bound + 1n)
  }
  if (price.model === 'package') {
    const size = whole(price.packageSize) ?? 0n
    // Beyond some forty steps they are a line to the eye.
    if (size > 0n && upTo / size <= 40n)
      for (let edge = whole(price.freeQuantity ?? '0') ?? 0n; edge <= upTo; edge += size) at.add(edge).add(edge + 1n)
  }
  return [...at]
    .filter(quantity => quantity <= upTo)
    .sort((a, b) => (a < b ? -1 : 1))
    .flatMap(quantity => {
      const amount = amountAt(price, quantity)
      return amount === null ? [] : [{ quantity, amount }]
    })
}

/** How far a graph should reach to show every tier, and the customer's own quantity if one is looked at. */
export function reachOf(price: PriceInput, used: bigint): bigint {
  const bounds = boundsOf(price)
  const last = bounds.at(-1) ?? 0n
  const per =
    'per' in price ? (whole(price.per) ?? 1n) : price.model === 'package' ? (whole(price.packageSize) ?? 1n) : 1n
  const reach = [(last * 8n) / 5n, (used * 5n) / 4n, per * 10n].reduce((a, b) => (a > b ? a : b))
  return reach > 0n ? reach : 1n
}

/** Where the price changes: tier bounds moved by the allowance, and the allowance itself. */
export function boundsOf(price: PriceInput): bigint[] {
  const free = 'freeQuantity' in price ? (whole(price.freeQuantity ?? '0') ?? 0n) : 0n
  const tiers = 'tiers' in price ? price.tiers.flatMap(({ upTo }) => whole(upTo) ?? []) : []
  return [...(free > 0n ? [free] : []), ...tiers.map(bound => bound + free)].sort((a, b) => (a < b ? -1 : 1))
}

type Tier = { upTo: bigint | null; amount: bigint; flat: bigint }
type Tiered = Extract<PriceInput, { model: 'graduated' | 'volume' }>

function tiered(
  price: Tiered,
  quantity: bigint,
  sum: (tiers: readonly Tier[], units: bigint) => { amount: bigint; flat: bigint } | null,
): bigint | null {
  const [per, free] = [whole(price.per), whole(price.freeQuantity ?? '0')]
  if (per === null || per === 0n || free === null) return null
  const tiers: Tier[] = []
  for (const tier of price.tiers) {
    const [amount, flat] = [whole(tier.amountNano), whole(tier.flatNano ?? '0')]
    const upTo = tier.upTo === null ? null : whole(tier.upTo)
    if (amount === null || flat === null || (tier.upTo !== null && upTo === null)) return null
    tiers.push({ upTo, amount, flat })
  }
  const result = sum(tiers, above(quantity, free))
  return result === null ? null : mulDiv(result.amount, 1n, per, 'floor') + result.flat
}

/** Each slice at its own tier, bounds inclusive, a tier's fee once it is entered. */
function graduated(tiers: readonly Tier[], units: bigint) {
  let [below, amount, flat] = [0n, 0n, 0n]
  for (const tier of tiers) {
    if (units <= below) break
    const end = tier.upTo === null || tier.upTo > units ? units : tier.upTo
    if (end > below) {
      amount += (end - below) * tier.amount
      flat += tier.flat
    }
    below = tier.upTo ?? units
  }
  return { amount, flat }
}

/** All units at the tier that holds the quantity. */
function volume(tiers: readonly Tier[], units: bigint) {
  if (units === 0n) return { amount: 0n, flat: 0n }
  const tier = tiers.find(({ upTo }) => upTo === null || units <= upTo)
  return tier === undefined ? null : { amount: units * tier.amount, flat: tier.flat }
}

function above(quantity: bigint, free: bigint): bigint {
  return quantity > free ? quantity - free : 0n
}

function whole(text: unknown): bigint | null {
  return typeof text === 'string' && /^\d{1,40}$/.test(text) ? BigInt(text) : null
}
