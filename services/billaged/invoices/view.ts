import type { Blocker, Invoice, InvoiceLineView, Party } from '../api.ts'
import { formatDecimal, readDecimal } from '../decimal.ts'
import { formatMinor } from '../rating/currency.ts'
import { hourMs } from '../rating/periods.ts'
import type { Hours, Line } from '../rating/rate.ts'
import type { Draft, InvoiceLine } from './invoice.ts'

// Between the domain's bigints and hours and the wire's strings and times. What is stored is the wire's form.

export function invoiceView(
  draft: Draft,
  o: {
    number: string | null
    state: Invoice['state']
    customerName: string | null
    /** Whose invoice it is and what is printed with it. */
    parties: Parties
    unitOf: (meter: string) => string
    issuedAt: string | null
    forced: Invoice['forced']
    asOf: string
    complete: boolean
    blockers: Blocker[]
  },
): Invoice {
  return {
    id: draft.id,
    number: o.number,
    customerId: draft.customerId,
    customerName: o.customerName,
    ...o.parties,
    state: o.state,
    revision: draft.revision,
    period: spanView(draft.period),
    currency: draft.currency,
    totalNano: `${draft.totalNano}`,
    dueMinor: `${draft.dueMinor}`,
    due: formatMinor(draft.dueMinor, draft.currency),
    taxPpm: draft.taxPpm,
    issuedAt: o.issuedAt,
    forced: o.forced,
    asOf: o.asOf,
    complete: o.complete,
    lines: draft.lines.map(line => lineView(line, o.unitOf)),
    blockers: o.blockers,
  }
}

export interface Parties {
  seller: Party
  buyer: Party
  terms: string | null
}

export function spanView({ from, to }: Hours): { from: string; to: string } {
  return { from: timeOf(from), to: timeOf(to) }
}

export function hoursOf({ from, to }: { from: string; to: string }): Hours {
  return { from: Date.parse(from) / hourMs, to: Date.parse(to) / hourMs }
}

export function lineView(line: InvoiceLine, unitOf: (meter: string) => string): InvoiceLineView {
  return {
    id: line.id,
    kind: line.kind,
    description: line.description,
    plan: line.plan,
    priceId: line.priceId,
    meter: line.meter,
    unit: line.meter === null ? null : unitOf(line.meter),
    model: line.model,
    group: { ...line.group },
    segment: spanView(line.segment),
    quantity: formatDecimal(line.quantityE9),
    freeQuantity: formatDecimal(line.freeE9),
    tiers: tiersView(line.tiers),
    amountNano: `${line.amountNano}`,
    dividend: `${line.dividend}`,
    divisor: `${line.divisor}`,
    remainder: `${line.remainder}`,
    billedNano: `${line.billedNano}`,
    adjusts: line.adjusts,
    adjustsPeriod: line.adjustsPeriod === null ? null : spanView(line.adjustsPeriod),
    cause: line.cause,
    creditId: line.grantId,
    taxPpm: line.taxPpm,
  }
}

export function tiersView(tiers: Line['tiers']): InvoiceLineView['tiers'] {
  return tiers.map(({ tier, upTo, quantityE9, amountNano, flatNano }) => ({
    tier,
    upTo: upTo === null ? null : `${upTo}`,
    quantity: formatDecimal(quantityE9),
    amountNano: `${amountNano}`,
    flatNano: `${flatNano}`,
  }))
}

/** Back again, of what `lineView` made. */
export function lineOf(view: InvoiceLineView): InvoiceLine {
  return {
    id: view.id,
    kind: view.kind,
    description: view.description,
    plan: view.plan,
    priceId: view.priceId,
    meter: view.meter,
    model: modelOf(view.model),
    group: view.group,
    segment: hoursOf(view.segment),
    quantityE9: readDecimal(view.quantity),
    freeE9: readDecimal(view.freeQuantity),
    tiers: view.tiers.map(tier => ({
      tier: tier.tier,
      upTo: tier.upTo === null ? null : BigInt(tier.upTo),
      quantityE9: readDecimal(tier.quantity),
      amountNano: BigInt(tier.amountNano),
      flatNano: BigInt(tier.flatNano),
    })),
    amountNano: BigInt(view.amountNano),
    dividend: BigInt(view.dividend),
    divisor: BigInt(view.divisor),
    remainder: BigInt(view.remainder),
    billedNano: BigInt(view.billedNano),
    adjusts: view.adjusts,
    adjustsPeriod: view.adjustsPeriod === null ? null : hoursOf(view.adjustsPeriod),
    cause: view.cause,
    grantId: view.creditId,
    taxPpm: view.taxPpm,
  }
}

const models = ['flat', 'per_unit', 'graduated', 'volume', 'package', 'cost_plus', 'minimum'] as const

function modelOf(text: string | null): InvoiceLine['model'] {
  return models.find(model => model === text) ?? null
}

function timeOf(hour: number): string {
  return new Date(hour * hourMs).toISOString()
}
