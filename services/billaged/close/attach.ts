import type { Meter } from '../events/meter.ts'
import type { InvoiceLine } from '../invoices/invoice.ts'
import { priceJson } from '../invoices/receipt.ts'
import type { Parties } from '../invoices/view.ts'
import type { CustomerRow } from '../store/customers.ts'
import type { PlannedPeriod } from '../store/pricing.ts'
import { unitOf } from '../usage/rows.ts'
import type { Issuer } from './context.ts'

// What an invoice carries beside its arithmetic: who it is from and for, units, and the prices its lines were made with.

export function partiesOf({ seller, terms }: Issuer, customer: CustomerRow): Parties {
  const { id, name, address, taxId } = customer
  return { seller, buyer: { name: name ?? id, address, taxId }, terms }
}

export function unitsOf(meters: readonly Meter[]): (meter: string) => string {
  return meter => meters.find(({ slug }) => slug === meter)?.unit ?? unitOf(meter, [])
}

/** By line id, of the lines that a price made; as the plan version in force in the line's segment has them. */
export function pricesOf(lines: readonly InvoiceLine[], { segments }: PlannedPeriod): Record<string, unknown> {
  const prices: Record<string, unknown> = {}
  for (const line of lines) {
    if (line.kind !== 'usage' && line.kind !== 'flat') continue
    const version = segments.find(({ segment }) => segment.from === line.segment.from)?.version
    const price = version?.prices.find(({ id }) => id === line.priceId)
    if (price !== undefined) prices[line.id] = priceJson(price)
  }
  return prices
}
