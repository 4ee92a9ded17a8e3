import { createHash } from 'node:crypto'
import type { InvoiceLine } from '../invoices/invoice.ts'
import { minorDigits, nanoPerMinor } from '../rating/currency.ts'

// Our lines as items of a Stripe invoice, which knows whole minor units only. Pure.

export interface Item {
  /** Our line's id; Stripe keeps it in the item's metadata. */
  lineId: string
  description: string
  amountMinor: number
}

/** A Stripe invoice takes 250 items; what is beyond goes into one. */
const itemsMax = 200
const descriptionMax = 500

/** Each item is what the running sum of the lines grows by in whole minor units, so that the items sum to the amount due,
 *  whatever the lines' fractions are. Items of nothing are left out. */
export function itemsOf(
  invoiceId: string,
  currency: string,
  lines: readonly Pick<InvoiceLine, 'id' | 'kind' | 'description' | 'amountNano'>[],
): Item[] {
  const perMinor = nanoPerMinor(currency)
  const items: Item[] = []
  let [sumNano, toldMinor] = [0n, 0n]
  for (const { id, kind, description, amountNano } of lines) {
    if (kind === 'rounding') continue
    sumNano += amountNano
    const minor = floorDiv(sumNano, perMinor) - toldMinor
    if (minor === 0n) continue
    toldMinor += minor
    items.push({ lineId: id, description: description.slice(0, descriptionMax), amountMinor: safe(minor) })
  }
  if (items.length <= itemsMax) return items
  const rest = items.slice(itemsMax - 1)
  const amountMinor = rest.reduce((sum, item) => sum + item.amountMinor, 0)
  const description = `${rest.length} more charges; see invoice ${invoiceId}`
  return [...items.slice(0, itemsMax - 1), { lineId: `${invoiceId}:rest`, description, amountMinor }]
}

/** Stripe counts some currencies in other units than ISO 4217 does; an amount would be wrong a hundredfold. */
export function isPushable(currency: string): boolean {
  return [0, 2].includes(minorDigits(currency)) && !['ISK', 'UGX'].includes(currency)
}

/** The same key for the same wish, and never for another: Stripe refuses a key that comes with other parameters. */
export function idempotencyKey(what: string, id: string, parameters: unknown): string {
  const hash = createHash('sha256').update(JSON.stringify(parameters)).digest('hex').slice(0, 16)
  return `purser-${what}-${id}-${hash}`
}

function safe(minor: bigint): number {
  if (minor > BigInt(Number.MAX_SAFE_INTEGER) || minor < -BigInt(Number.MAX_SAFE_INTEGER))
    throw new RangeError(`${minor} minor units are more than Stripe can be told`)
  return Number(minor)
}

function floorDiv(a: bigint, b: bigint): bigint {
  const quotient = a / b
  return a < 0n && quotient * b !== a ? quotient - 1n : quotient
}
