import type { PriceInput } from '../../api/billing-plans.ts'
import { unitsOf } from '../../billing/meters.ts'
import { unitsText } from '../../billing/plan-form.ts'
import { formatMoneyExact, nanoFrom } from '../../units/money.ts'

/** A price in a line: `$0.10 per core-hour, 5 free`. */
export function priceText(given: unknown, unit: string, meter: string, currency: string): string {
  if (!isPrice(given)) return ''
  const price = given
  const money = (nano: string) => formatMoneyExact(nanoFrom(nano), currency)
  const named = (per: string) => {
    const found = unitsOf(unit, meter).find(one => `${one.per}` === per)
    return found ? found.name : `${per} ${unit || 'units'}`
  }
  const free = (per: string) =>
    'freeQuantity' in price && price.freeQuantity !== undefined && price.freeQuantity !== '0'
      ? `, ${unitsText(price.freeQuantity, per)} free`
      : ''
  switch (price.model) {
    case 'flat':
      return `${money(price.amountNano)} per period`
    case 'per_unit':
      return `${money(price.amountNano)} per ${named(price.per)}${free(price.per)}`
    case 'package':
      return `${money(price.amountNano)} for each begun ${named(price.packageSize)}${free(price.packageSize)}`
    case 'cost_plus':
      return `cost plus ${unitsText(String(price.markupPpm), '10000')} %`
    case 'graduated':
    case 'volume': {
      const tiers = price.tiers.map(tier => {
        const bound = tier.upTo === null ? 'above' : `up to ${unitsText(tier.upTo, price.per)}`
        const fee = tier.flatNano === undefined || tier.flatNano === '0' ? '' : ` + ${money(tier.flatNano)}`
        return `${bound} ${money(tier.amountNano)}${fee}`
      })
      return `per ${named(price.per)}, ${price.model}: ${tiers.join('; ')}${free(price.per)}`
    }
  }
}

/** What billaged stores as a price always has a model; anything else is not one. */
function isPrice(value: unknown): value is PriceInput {
  return typeof value === 'object' && value !== null && 'model' in value
}
