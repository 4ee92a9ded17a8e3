import type { Hours, Line, PlanRef, TierUse } from '../rating/rate.ts'

// Words of this folder. A *draft* is what an invoice of the period would say now; *finalised* ones never change.
// A *carried* amount is a negative total that became a credit.

export type InvoiceLineKind = 'usage' | 'flat' | 'adjustment' | 'minimum' | 'credit' | 'tax' | 'prepaid' | 'rounding'

export interface InvoiceLine {
  id: string
  kind: InvoiceLineKind
  description: string
  plan: PlanRef | null
  priceId: string | null
  meter: string | null
  model: Line['model'] | null
  group: Readonly<Record<string, string>>
  segment: Hours
  /** Of an adjustment: what the quantity changed by. */
  quantityE9: bigint
  freeE9: bigint
  tiers: readonly TierUse[]
  amountNano: bigint
  /** dividend ÷ divisor floored is the amount; of an adjustment: the amount as rated now, of which billedNano is off. */
  dividend: bigint
  divisor: bigint
  remainder: bigint
  /** Of an adjustment: what earlier invoices said. 0 otherwise. */
  billedNano: bigint
  /** The line that this one corrects. */
  adjusts: string | null
  /** The period that line is in. */
  adjustsPeriod: Hours | null
  cause: AdjustmentCause | null
  grantId: string | null
  taxPpm: number | null
}

export type AdjustmentCause = 'late_data' | 'plan_changed'

export interface Draft {
  id: string
  customerId: string
  period: Hours
  revision: number
  currency: string
  taxPpm: number
  lines: InvoiceLine[]
  /** Sum of all lines but the rounding. */
  totalNano: bigint
  /** Floored to the currency's minor unit. */
  dueMinor: bigint
  burns: { grantId: string; amountNano: bigint }[]
  /** What a negative total leaves the customer as credit. */
  carriedNano: bigint
}
