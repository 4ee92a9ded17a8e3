import { smaller } from '../bigint.ts'
import { e9 } from '../decimal.ts'
import type { PlanVersion, Price } from './plan.ts'

// From quantities to charges. A charge is one exact rational, floored once to a nano-unit; the rational's parts stay
// with the line, so that anyone can divide again. No floating point, no second division.

/** What one meter measured in a segment, with the group it was measured under (empty for VM meters). */
export interface MeterUsage {
  meter: string
  group: Readonly<Record<string, string>>
  quantityE9: bigint
}

/** Whole UTC hours since 1970, half-open. */
export interface Hours {
  from: number
  to: number
}

export interface Line {
  kind: 'usage' | 'flat' | 'minimum'
  /** Whose price it is; null for a minimum, which a change of plan may have made of several. */
  plan: PlanRef | null
  priceId: string | null
  meter: string | null
  model: Price['model'] | 'minimum'
  group: Readonly<Record<string, string>>
  segment: Hours
  quantityE9: bigint
  /** The segment's share of the allowance: so much of the quantity costs nothing. */
  freeE9: bigint
  /** What each tier took, for the tiered models. */
  tiers: readonly TierUse[]
  amountNano: bigint
  /** dividend ÷ divisor = amountNano, remainder left over. */
  dividend: bigint
  divisor: bigint
  remainder: bigint
}

export interface PlanRef {
  id: string
  version: number
}

export interface TierUse {
  /** Place in the price's list, from 0. */
  tier: number
  /** The segment's share of the bound; null for the last tier. */
  upTo: bigint | null
  quantityE9: bigint
  amountNano: bigint
  /** The segment's share of the tier's flat fee. */
  flatNano: bigint
}

export interface SegmentUsage {
  segment: Hours
  plan: PlanRef
  version: PlanVersion
  usage: readonly MeterUsage[]
}

export interface Rating {
  lines: Line[]
  unrated: MeterUsage[]
  totalNano: bigint
}

/** Meters that restate what others measure (a peak, a time alive): worth a price, but nobody need list them. */
const neverUnrated = new Set(['vm_memory_peak', 'vm_alive'])

/** All segments of one period. Usage and flat lines first, then what is missing to the minimum commitment. */
export function ratePeriod(period: Hours, segments: readonly SegmentUsage[]): Rating {
  const lines: Line[] = []
  const unrated: MeterUsage[] = []
  let minimumNano = 0n
  for (const { segment, plan, version, usage } of segments) {
    const taken = assign(version, usage)
    for (const price of version.prices) {
      const line = rateLine(price, plan, taken.get(price) ?? 0n, segment, period)
      if (line !== null) lines.push(line)
    }
    unrated.push(...unmatched(version, usage))
    minimumNano += share(version.minimumNano, segment, period)
  }
  const charged = sumOf(lines)
  if (minimumNano > charged) lines.push(minimumLine(period, minimumNano - charged))
  return { lines, unrated, totalNano: sumOf(lines) }
}

/** A period's thing, shared over its hours by cumulative floor: the shares of any cut of the period add up to it. */
export function share(whole: bigint, segment: Hours, period: Hours): bigint {
  const hours = BigInt(period.to - period.from)
  const upTo = (hour: number) => (whole * BigInt(hour - period.from)) / hours
  return upTo(segment.to) - upTo(segment.from)
}

/** Prices of one meter are tried in order; the first whose match fits takes the usage. */
function assign(version: PlanVersion, usage: readonly MeterUsage[]): Map<Price, bigint> {
  const taken = new Map<Price, bigint>()
  for (const item of usage) {
    const price = priceOf(version, item)
    if (price !== undefined) taken.set(price, (taken.get(price) ?? 0n) + item.quantityE9)
  }
  return taken
}

function priceOf(version: PlanVersion, item: MeterUsage): Price | undefined {
  return version.prices.find(
    price =>
      price.model !== 'flat' &&
      price.meter === item.meter &&
      Object.entries(price.match).every(([key, value]) => item.group[key] === value),
  )
}

function unmatched(version: PlanVersion, usage: readonly MeterUsage[]): MeterUsage[] {
  return usage.filter(
    item =>
      item.quantityE9 > 0n &&
      priceOf(version, item) === undefined &&
      !version.unbilled.includes(item.meter) &&
      !neverUnrated.has(item.meter),
  )
}

/** One price's charge for a segment; null where there is nothing to charge. */
export function rateLine(price: Price, plan: PlanRef, quantityE9: bigint, segment: Hours, period: Hours): Line | null {
  const line = (scaledDividend: bigint, scaledDivisor: bigint, more: Partial<Line> = {}): Line => {
    // Whole quantities are the rule: their billion cancels, and the line reads as one would write it by hand.
    const isWhole = scaledDividend % e9 === 0n && scaledDivisor % e9 === 0n
    const [dividend, divisor] = isWhole ? [scaledDividend / e9, scaledDivisor / e9] : [scaledDividend, scaledDivisor]
    return {
      kind: price.model === 'flat' ? 'flat' : 'usage',
      plan,
      priceId: price.id,
      meter: price.model === 'flat' ? null : price.meter,
      model: price.model,
      group: price.model === 'flat' ? {} : price.match,
      segment,
      quantityE9,
      freeE9: 0n,
      tiers: [],
      amountNano: dividend / divisor,
      dividend,
      divisor,
      remainder: dividend % divisor,
      ...more,
    }
  }
  if (price.model === 'flat') return line(share(price.amountNano, segment, period), 1n)
  // A correction can make an event meter's sum negative; there is nothing to charge and nothing to pay back here.
  if (quantityE9 <= 0n) return null
  if (price.model === 'cost_plus') return line(quantityE9 * BigInt(1_000_000 + price.markupPpm), e9 * 1_000_000n)
  const freeE9 = share(price.freeQuantity, segment, period) * e9
  const billable = quantityE9 > freeE9 ? quantityE9 - freeE9 : 0n
  switch (price.model) {
    case 'per_unit':
      return line(billable * price.amountNano, price.per * e9, { freeE9 })
    case 'package': {
      const size = price.packageSize * e9
      return line(((billable + size - 1n) / size) * price.amountNano, 1n, { freeE9 })
    }
    case 'graduated':
    case 'volume': {
      const tiers = (price.model === 'graduated' ? graduated : volume)(price, billable, segment, period)
      let dividend = 0n
      for (const tier of tiers) dividend += tier.quantityE9 * tier.amountNano + tier.flatNano * price.per * e9
      return line(dividend, price.per * e9, { freeE9, tiers })
    }
    default:
      return price satisfies never
  }
}

type TieredPrice = Extract<Price, { model: 'graduated' | 'volume' }>

/** Each slice at its own tier, a bound belonging to the tier below it; a tier's flat fee once it is entered. */
function graduated(price: TieredPrice, billable: bigint, segment: Hours, period: Hours): TierUse[] {
  const uses: TierUse[] = []
  let below = 0n
  for (const [tier, { upTo, amountNano, flatNano }] of price.tiers.entries()) {
    const bound = upTo === null ? null : share(upTo, segment, period)
    const upper = bound === null ? billable : smaller(billable, bound * e9)
    if (upper <= below) continue
    const flat = share(flatNano, segment, period)
    uses.push({ tier, upTo: bound, quantityE9: upper - below, amountNano, flatNano: flat })
    below = upper
  }
  return uses
}

/** All units at the tier that holds the quantity. */
function volume(price: TieredPrice, billable: bigint, segment: Hours, period: Hours): TierUse[] {
  if (billable === 0n) return []
  for (const [tier, { upTo, amountNano, flatNano }] of price.tiers.entries()) {
    const bound = upTo === null ? null : share(upTo, segment, period)
    if (bound !== null && billable > bound * e9) continue
    return [{ tier, upTo: bound, quantityE9: billable, amountNano, flatNano: share(flatNano, segment, period) }]
  }
  throw new Error('BUG: the last tier has no bound')
}

function minimumLine(period: Hours, amountNano: bigint): Line {
  return {
    kind: 'minimum',
    plan: null,
    priceId: null,
    meter: null,
    model: 'minimum',
    group: {},
    segment: period,
    quantityE9: 0n,
    freeE9: 0n,
    tiers: [],
    amountNano,
    dividend: amountNano,
    divisor: 1n,
    remainder: 0n,
  }
}

function sumOf(lines: readonly Line[]): bigint {
  return lines.reduce((sum, line) => sum + line.amountNano, 0n)
}
