import type { BudgetState, LiveEvent, Period, ScopeState, Tenant } from '../../../../services/budgetguard/api.ts'
import { nanoFrom, nanoFromUsd, shareOf } from '../../units/money.ts'
import { parseMoment } from '../../units/time.ts'

/** A budget with its amounts as bigint, from the list or from a live event: one shape for bars and tables. */
export interface BudgetLine {
  budgetId: number
  tenantId: number
  period: Period
  limitNano: bigint
  spentNano: bigint
  heldNano: bigint
  remainingNano: bigint
  resetsAtMs: number | null
  isImplicit: boolean
}

export interface TenantBudgets {
  tenant: Tenant
  budgets: BudgetLine[]
}

/** The budget that will refuse first: the largest share used. */
export function tightest(budgets: readonly BudgetLine[]): BudgetLine | null {
  const used = (line: BudgetLine) => shareOf(line.spentNano + line.heldNano, line.limitNano)
  return budgets.reduce<BudgetLine | null>(
    (best, line) => (best === null || used(line) > used(best) ? line : best),
    null,
  )
}

export function withEvent(tenants: readonly TenantBudgets[], event: LiveEvent): readonly TenantBudgets[] {
  if (event.event !== 'budget') return tenants
  const { tenantId, budgetId } = event.data
  return tenants.map(one => {
    if (one.tenant.id !== tenantId) return one
    const budgets = one.budgets.map(line => (isSame(line, event.data) ? { ...line, ...amountsOf(event.data) } : line))
    return { ...one, budgets }
  })

  function isSame(line: BudgetLine, state: ScopeState): boolean {
    return line.budgetId === budgetId && line.period === state.period
  }
}

export function lineFrom(budget: BudgetState): BudgetLine {
  const end = parseMoment(budget.currentPeriodEndDate)
  return {
    budgetId: budget.id,
    tenantId: budget.tenantId,
    period: budget.period,
    limitNano: nanoFrom(budget.amountUsdNano),
    spentNano: nanoFrom(budget.currentUsageNano),
    heldNano: nanoFromUsd(budget.heldUsd),
    remainingNano: nanoFromUsd(budget.remainingUsd),
    // The end is the window's last millisecond; the reset is the next one.
    resetsAtMs: end === null ? null : end + 1,
    isImplicit: budget.isImplicit,
  }
}

function amountsOf(state: ScopeState) {
  return {
    limitNano: nanoFromUsd(state.limitUsd),
    spentNano: nanoFromUsd(state.spentUsd),
    heldNano: nanoFromUsd(state.heldUsd),
    remainingNano: nanoFromUsd(state.remainingUsd),
    resetsAtMs: parseMoment(state.resetsAt),
  }
}
