import { formatMoney, formatMoneyExact, shareOf } from '../units/money.ts'

export interface BudgetAmounts {
  limitNano: bigint
  spentNano: bigint
  heldNano: bigint
}

/**
 * Spent is solid, held is hatched, the rest is free. The states are told by words and pattern as well as colour:
 * below 75 % calm, from there a warning, from 90 % critical (the thresholds that also send alerts).
 */
export function BudgetBar({ limitNano, spentNano, heldNano, label }: BudgetAmounts & { label: string }) {
  const spent = shareOf(spentNano, limitNano)
  const held = Math.min(shareOf(heldNano, limitNano), 1 - spent)
  return (
    // biome-ignore lint/a11y/useSemanticElements: <meter> has one value and cannot be hatched
    <div
      className="budget-bar"
      data-state={budgetState({ limitNano, spentNano, heldNano })}
      data-testid="budget-bar"
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(spent * 100)}
      aria-valuetext={`${formatMoney(spentNano)} spent and ${formatMoney(heldNano)} held of ${formatMoney(limitNano)}`}
      title={`spent ${formatMoneyExact(spentNano)} · held ${formatMoneyExact(heldNano)} · limit ${formatMoneyExact(limitNano)}`}
    >
      <i className="spent" style={{ width: `${spent * 100}%` }} />
      <i className="held" style={{ width: `${held * 100}%` }} />
    </div>
  )
}

export function budgetState({ limitNano, spentNano, heldNano }: BudgetAmounts): 'calm' | 'warning' | 'critical' {
  const used = shareOf(spentNano + heldNano, limitNano)
  return used >= 0.9 ? 'critical' : used >= 0.75 ? 'warning' : 'calm'
}
