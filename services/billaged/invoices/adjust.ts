import type { Hours, Line } from '../rating/rate.ts'
import { lineId } from './ids.ts'
import type { AdjustmentCause, InvoiceLine } from './invoice.ts'

// Late data, voids and backdated plans change what a closed period should have cost. The invoice of that period stays;
// the next one carries the difference: the period rated whole once more, minus everything billed for it so far.

/** A closed period: what was billed for it, on its own invoice and in later adjustments, and what it rates to now. */
export interface ClosedPeriod {
  customerId: string
  period: Hours
  revision: number
  taxPpm: number
  /** Lines of its own living invoice that rating made, and every living adjustment of one of its lines. */
  billed: readonly InvoiceLine[]
  rated: readonly Line[]
}

export interface Adjustment {
  line: Omit<InvoiceLine, 'id'>
  taxPpm: number
}

export function adjustmentsOf(closed: ClosedPeriod): Adjustment[] {
  const billed = new Map<string, Billed>()
  for (const line of closed.billed) {
    const adjusts = line.adjusts ?? line.id
    const before = billed.get(adjusts)
    billed.set(adjusts, {
      amountNano: (before?.amountNano ?? 0n) + line.amountNano,
      quantityE9: (before?.quantityE9 ?? 0n) + line.quantityE9,
      // The latest word on plan and price; lists are in the order of billing.
      line,
    })
  }
  const now = new Map<string, Line>()
  for (const line of closed.rated) now.set(lineId(closed, line), line)
  const cause: AdjustmentCause = hasSamePlans(closed) ? 'late_data' : 'plan_changed'
  const ids = [...new Set([...billed.keys(), ...now.keys()])]
  return ids.flatMap(id => {
    const was = billed.get(id)
    const line = now.get(id)
    const amountNano = (line?.amountNano ?? 0n) - (was?.amountNano ?? 0n)
    if (amountNano === 0n) return []
    const shape = line ?? was?.line
    if (shape === undefined) throw new Error('BUG: an adjustment of nothing')
    return [
      {
        taxPpm: closed.taxPpm,
        line: {
          kind: 'adjustment',
          description: '',
          plan: shape.plan,
          priceId: shape.priceId,
          meter: shape.meter,
          model: shape.model,
          group: shape.group,
          segment: shape.segment,
          quantityE9: (line?.quantityE9 ?? 0n) - (was?.quantityE9 ?? 0n),
          freeE9: line?.freeE9 ?? 0n,
          tiers: line?.tiers ?? [],
          amountNano,
          dividend: line?.dividend ?? 0n,
          divisor: line?.divisor ?? 1n,
          remainder: line?.remainder ?? 0n,
          billedNano: was?.amountNano ?? 0n,
          adjusts: id,
          adjustsPeriod: closed.period,
          cause,
          grantId: null,
          taxPpm: null,
        },
      } satisfies Adjustment,
    ]
  })
}

interface Billed {
  amountNano: bigint
  quantityE9: bigint
  line: InvoiceLine
}

/** Late data leaves segments, plans and versions alone. */
function hasSamePlans({ billed, rated }: ClosedPeriod): boolean {
  const planOf = (line: Pick<Line, 'plan' | 'segment'>) => [line.segment.from, line.segment.to, line.plan]
  const before = new Map(billed.map(line => [line.adjusts ?? line.id, line] as const))
  const was = new Set([...before.values()].filter(line => line.plan !== null).map(line => JSON.stringify(planOf(line))))
  const now = rated.filter(line => line.plan !== null).map(line => JSON.stringify(planOf(line)))
  return was.size === 0 || now.every(plan => was.has(plan))
}
