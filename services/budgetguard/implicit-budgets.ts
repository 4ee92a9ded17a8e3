// The budgets that configuration gives every tenant which stored none of that period.

import type { Period } from './window.ts'
import { wholeDays } from './window.ts'

export interface ImplicitSettings {
  budgetPeriods: readonly string[]
  /** Null: no implicit budget. */
  defaultBudget: bigint | null
  dailyBudget: bigint | null | undefined
  weeklyBudget: bigint | null | undefined
  monthlyBudget: bigint | null | undefined
  customBudget: bigint | null | undefined
  customStart: string | undefined
  customEnd: string | undefined
}

export interface ImplicitBudget {
  period: Period
  amount: bigint
  startsAt: number | null
  endsAt: number | null
}

/** Amount of a period: its own variable, else the default; a null on either means none. */
export function implicitBudgets(settings: ImplicitSettings, zone: string): ImplicitBudget[] {
  const own: Readonly<Record<Period, bigint | null | undefined>> = {
    daily: settings.dailyBudget,
    weekly: settings.weeklyBudget,
    monthly: settings.monthlyBudget,
    custom: settings.customBudget,
  }
  return (['daily', 'weekly', 'monthly', 'custom'] as const).flatMap((period): ImplicitBudget[] => {
    // An amount of its own makes the budget, listed or not: a limit that was set must bind.
    if (!settings.budgetPeriods.includes(period) && own[period] === undefined) return []
    const chosen = own[period]
    const amount = chosen === undefined ? settings.defaultBudget : chosen
    if (amount === null) return []
    if (period !== 'custom') return [{ period, amount, startsAt: null, endsAt: null }]
    if (settings.customStart === undefined || settings.customEnd === undefined) return []
    const window = wholeDays(settings.customStart, settings.customEnd, zone)
    return [{ period, amount, startsAt: window.start, endsAt: window.end }]
  })
}
