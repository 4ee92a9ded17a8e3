import type { InvoiceLineView, Reconciliation } from '../api.ts'
import { formatDecimal, readDecimal } from '../decimal.ts'

// Shadow mode: what another biller says of a customer's period, beside what ours says, item by item.

/** A row of theirs. Without an item: the whole of what is due. */
export interface OtherRow {
  customerId: string
  /** YYYY-MM of the month the period starts in. */
  period: string
  item: string | null
  quantityE9: bigint | null
  amountNano: bigint
}

export interface OwnPeriod {
  lines: readonly InvoiceLineView[]
  isDraft: boolean
}

interface Side {
  amountNano: bigint
  quantityE9: bigint | null
}

/** `own`: by customer and period, null where there is none. */
export function reconcile(
  theirs: readonly OtherRow[],
  own: (customerId: string, period: string) => OwnPeriod | null,
  toleranceNano: bigint,
): Reconciliation {
  const periods = Map.groupBy(theirs, row => JSON.stringify([row.customerId, row.period]))
  const rows: Reconciliation['rows'] = []
  for (const [key, given] of periods) {
    const [customerId = '', period = ''] = JSON.parse(key) as string[]
    const ours = own(customerId, period)
    const isByItem = given.some(({ item }) => item !== null)
    const [left, right] = [sidesOf(given), ours === null ? new Map<string, Side>() : ownSides(ours.lines, isByItem)]
    // Their rows in the order they are in; behind them what only we have.
    for (const item of new Set([...left.keys(), ...right.keys()])) {
      const [their, our] = [left.get(item), right.get(item)]
      const difference = (our?.amountNano ?? 0n) - (their?.amountNano ?? 0n)
      const isNear = (difference < 0n ? -difference : difference) <= toleranceNano
      const hasQuantities = their?.quantityE9 != null && our?.quantityE9 != null
      const isSameQuantity = !hasQuantities || their.quantityE9 === our.quantityE9
      rows.push({
        customerId,
        period,
        item,
        isDraft: ours?.isDraft ?? false,
        theirNano: their === undefined ? null : `${their.amountNano}`,
        ourNano: our === undefined ? null : `${our.amountNano}`,
        differenceNano: `${difference}`,
        theirQuantity: their?.quantityE9 == null ? null : formatDecimal(their.quantityE9),
        ourQuantity: our?.quantityE9 == null ? null : formatDecimal(our.quantityE9),
        verdict:
          isNear && isSameQuantity
            ? 'equal'
            : our === undefined
              ? 'only_theirs'
              : their === undefined
                ? 'only_ours'
                : 'differs',
      })
    }
  }
  const equal = rows.filter(({ verdict }) => verdict === 'equal').length
  return { rows, equal, different: rows.length - equal }
}

function sidesOf(rows: readonly OtherRow[]): Map<string, Side> {
  const sides = new Map<string, Side>()
  for (const { item, amountNano, quantityE9 } of rows) add(sides, item ?? total, amountNano, quantityE9)
  return sides
}

function ownSides(lines: readonly InvoiceLineView[], isByItem: boolean): Map<string, Side> {
  const sides = new Map<string, Side>()
  for (const line of lines) {
    const quantityE9 = line.meter === null ? null : readDecimal(line.quantity)
    add(sides, isByItem ? itemOf(line) : total, BigInt(line.amountNano), isByItem ? quantityE9 : null)
  }
  if (!isByItem && lines.length === 0) add(sides, total, 0n, null)
  return sides
}

function add(sides: Map<string, Side>, item: string, amountNano: bigint, quantityE9: bigint | null) {
  const before = sides.get(item)
  const quantity = quantityE9 === null ? (before?.quantityE9 ?? null) : (before?.quantityE9 ?? 0n) + quantityE9
  sides.set(item, { amountNano: (before?.amountNano ?? 0n) + amountNano, quantityE9: quantity })
}

/** A meter, or for what has none the price, or else the kind of line: what FOCUS calls ServiceName. */
export function itemOf(line: Pick<InvoiceLineView, 'meter' | 'priceId' | 'kind'>): string {
  return line.meter ?? line.priceId ?? line.kind
}

/** The item of rows that name none. */
const total = 'total'
