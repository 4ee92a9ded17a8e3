import { mulDiv } from '#platform/money'
import { nanoPerMinor } from '../rating/currency.ts'
import { hourMs } from '../rating/periods.ts'
import type { Hours, Line } from '../rating/rate.ts'
import { chargeTitle, percent } from '../rating/units.ts'
import type { Adjustment } from './adjust.ts'
import { burn, type CreditBalance, isUsable } from './credits.ts'
import { invoiceId, lineId } from './ids.ts'
import type { Draft, InvoiceLine } from './invoice.ts'

// An invoice is a fold over charges, in one order: usage and flat fees → adjustments → minimum commitment →
// promotional credits → tax → prepaid credits → rounding. Its lines always sum to the amount due.

export interface DraftInput {
  customerId: string
  period: Hours
  revision: number
  currency: string
  taxPpm: number
  taxName: string | null
  /** The period's own rating. */
  charges: readonly Line[]
  adjustments: readonly Adjustment[]
  /** Every grant of the customer with something left. */
  grants: readonly CreditBalance[]
}

export function draftInvoice(o: DraftInput): Draft {
  const lines: InvoiceLine[] = []
  const own = (line: Line) => addLine(fromRating(o, line))
  /** Taxable amounts by rate: an adjustment is taxed as the period it corrects was. */
  const taxable = new Map<number, bigint>([[o.taxPpm, 0n]])
  const tax = (ppm: number, amountNano: bigint) => taxable.set(ppm, (taxable.get(ppm) ?? 0n) + amountNano)

  function addLine(line: Omit<InvoiceLine, 'id'>, rest: string | number | null = null) {
    lines.push({ ...line, id: lineId(o, { ...line, rest }) })
    return line.amountNano
  }

  for (const line of o.charges) if (line.kind !== 'minimum') tax(o.taxPpm, own(line))
  for (const { line, taxPpm } of o.adjustments)
    tax(taxPpm, addLine({ ...line, description: describeAdjustment(line) }, line.adjusts))
  for (const line of o.charges) if (line.kind === 'minimum') tax(o.taxPpm, own(line))

  const usable = o.grants.filter(grant =>
    isUsable(grant, { fromMs: o.period.from * hourMs, toMs: o.period.to * hourMs }, o.currency),
  )
  const burns: Draft['burns'] = []
  const pay = (kind: 'promotional' | 'prepaid', amountNano: bigint) => {
    for (const burned of burn(
      usable.filter(grant => grant.kind === kind),
      amountNano,
    )) {
      burns.push(burned)
      const isPromotional = kind === 'promotional'
      addLine(
        {
          ...plainLine(o.period, isPromotional ? 'credit' : 'prepaid', -burned.amountNano),
          description: isPromotional ? 'Promotional credit' : 'Prepaid credit',
          grantId: burned.grantId,
        },
        burned.grantId,
      )
      if (isPromotional) takeFrom(taxable, burned.amountNano)
    }
  }
  pay('promotional', sum(taxable.values()))

  for (const [ppm, base] of taxable) {
    const amountNano = mulDiv(base, BigInt(ppm), 1_000_000n, 'floor')
    if (amountNano === 0n) continue
    const dividend = base * BigInt(ppm)
    addLine(
      {
        ...plainLine(o.period, 'tax', amountNano),
        description: `${o.taxName ?? 'Tax'} ${percent(BigInt(ppm))} %`,
        dividend,
        divisor: 1_000_000n,
        remainder: dividend - amountNano * 1_000_000n,
        taxPpm: ppm,
      },
      ppm,
    )
  }
  pay('prepaid', sumOf(lines))

  const before = sumOf(lines)
  const carriedNano = before < 0n ? -before : 0n
  if (carriedNano > 0n)
    addLine({ ...plainLine(o.period, 'credit', carriedNano), description: 'Carried over as prepaid credit' }, 'carried')
  const totalNano = sumOf(lines)
  const unit = nanoPerMinor(o.currency)
  const dueMinor = totalNano / unit
  const roundingNano = dueMinor * unit - totalNano
  if (roundingNano !== 0n)
    addLine({ ...plainLine(o.period, 'rounding', roundingNano), description: 'Rounding in your favour' })
  const { customerId, period, revision, currency, taxPpm } = o
  const id = invoiceId(customerId, period, revision)
  return { id, customerId, period, revision, currency, taxPpm, lines, totalNano, dueMinor, burns, carriedNano }
}

/** Credits lower what is taxable: this period's own rate first, then the others, none below zero. */
function takeFrom(taxable: Map<number, bigint>, amountNano: bigint) {
  let left = amountNano
  for (const [ppm, base] of taxable) {
    if (base <= 0n) continue
    const taken = base < left ? base : left
    taxable.set(ppm, base - taken)
    left -= taken
  }
}

function fromRating(o: DraftInput, line: Line): Omit<InvoiceLine, 'id'> {
  return { ...plainLine(line.segment, line.kind, line.amountNano), ...line, description: describe(line, o.period) }
}

function plainLine(
  segment: Hours,
  kind: InvoiceLine['kind'],
  amountNano: bigint,
): Omit<InvoiceLine, 'id' | 'description'> {
  return {
    kind,
    plan: null,
    priceId: null,
    meter: null,
    model: null,
    group: {},
    segment,
    quantityE9: 0n,
    freeE9: 0n,
    tiers: [],
    amountNano,
    dividend: amountNano,
    divisor: 1n,
    remainder: 0n,
    billedNano: 0n,
    adjusts: null,
    adjustsPeriod: null,
    cause: null,
    grantId: null,
    taxPpm: null,
  }
}

function describe(line: Line, period: Hours): string {
  const isPart = line.segment.from !== period.from || line.segment.to !== period.to
  const group = Object.entries(line.group).map(([key, value]) => `${key} ${value}`)
  const name =
    line.kind === 'minimum' ? 'To the minimum commitment' : [chargeTitle(line.meter, line.priceId), ...group].join(', ')
  return isPart ? `${name} (part of the period)` : name
}

function describeAdjustment(line: Omit<InvoiceLine, 'id'>): string {
  const name = line.priceId === null ? 'the minimum commitment' : chargeTitle(line.meter, line.priceId)
  const month = new Date((line.adjustsPeriod?.from ?? 0) * hourMs).toISOString().slice(0, 7)
  return `Correction of ${name}, ${month}: ${line.cause === 'plan_changed' ? 'plan changed' : 'late data'}`
}

function sumOf(lines: readonly InvoiceLine[]): bigint {
  return sum(lines.map(line => line.amountNano))
}

function sum(amounts: Iterable<bigint>): bigint {
  let total = 0n
  for (const amount of amounts) total += amount
  return total
}
