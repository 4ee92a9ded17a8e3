import { Counter } from 'prom-client'
import type { Base } from '#platform/lifecycle'
import { sleep } from '#platform/time'
import type { Meter } from '../events/meter.ts'
import { stopPatienceMs, waitAtMost } from '../patience.ts'
import { hourMs, periodAt } from '../rating/periods.ts'
import type { Hours } from '../rating/rate.ts'
import { type BudgetRow, firedPercents, insertAlert, listBudgets } from '../store/budgets.ts'
import { pricePeriod } from '../store/pricing.ts'
import type { PartReader } from '../store/series.ts'
import { announce } from '../store/webhooks.ts'
import type { FoldRules } from '../usage/fold.ts'
import { reachedPercents } from './thresholds.ts'

// Every interval each budget is held against what the period has come to, by the rating that makes the invoice. Every
// replica watches; a threshold fires in the one transaction that writes its row, which exists once a period.

/** Rating a month of a large customer is work. For each second of it the watch rests this many: intake comes first. */
const restPerWork = 4

export interface WatchContext {
  reader: PartReader
  meters: readonly Meter[]
  rules: FoldRules
  base: Base
  everyMs: number
  /** So long after its end a period is still looked at: its last readings come late. */
  graceMs: number
}

/** Returns how to stop it. */
export function startWatch(o: WatchContext): () => Promise<void> {
  const { clock, log } = o.base
  const alerts = new Counter({
    name: 'billaged_spend_alerts_total',
    help: 'Spend thresholds that fired, by percent of the budget.',
    labelNames: ['threshold'],
    registers: [o.base.registry],
  })
  for (const threshold of ['50', '75', '100']) alerts.inc({ threshold }, 0)
  const stopping = new AbortController()
  let timer: NodeJS.Timeout | undefined
  let pass = Promise.resolve()

  async function watch() {
    for (let after = ''; !stopping.signal.aborted; ) {
      const page = await listBudgets(o.reader.sql, { only: null, after, limit: 200 })
      for (const budget of page) {
        if (stopping.signal.aborted) return
        const beganMs = clock.monotonicMs()
        // One that fails does not keep the others from being told.
        await look(budget).catch((error: unknown) => {
          if (stopping.signal.aborted) return
          log.error({ err: error, customerId: budget.customerId }, 'a budget cannot be held against what was spent')
        })
        await sleep(restPerWork * (clock.monotonicMs() - beganMs), stopping.signal).catch(() => {})
      }
      const last = page.at(-1)
      if (last === undefined || page.length < 200) return
      after = last.customerId
    }
  }

  async function look(budget: BudgetRow) {
    for (const period of periodsToWatch(budget, clock.now(), o.graceMs))
      for (const percent of await fireReached(o, budget, period)) {
        alerts.inc({ threshold: `${percent}` })
        log.info({ customerId: budget.customerId, percent }, 'spend threshold reached')
      }
  }

  const schedule = () => {
    timer = setTimeout(() => {
      pass = watch()
        .catch((error: unknown) => log.warn({ err: error }, 'budgets are not watched now; trying again'))
        .then(() => {
          if (!stopping.signal.aborted) schedule()
        })
    }, o.everyMs)
  }
  schedule()
  return async () => {
    stopping.abort()
    clearTimeout(timer)
    await waitAtMost(pass, stopPatienceMs)
  }
}

/** The running period, and the one before it while its last readings may still come. */
function periodsToWatch(budget: BudgetRow, nowMs: number, graceMs: number): Hours[] {
  const running = periodAt(budget, nowMs)
  const startMs = running.from * hourMs
  if (nowMs - startMs >= graceMs || budget.setAt.getTime() >= startMs) return [running]
  return [periodAt(budget, startMs - 1), running]
}

async function fireReached(o: WatchContext, budget: BudgetRow, period: Hours): Promise<number[]> {
  const { sql } = o.reader
  const { customerId, budgetNano, alertPercents } = budget
  const periodFrom = new Date(period.from * hourMs)
  const fired = await firedPercents(sql, customerId, periodFrom)
  const open = alertPercents.filter(percent => !fired.has(percent))
  if (open.length === 0) return []
  const priced = await pricePeriod(o.reader, o.meters, o.rules, customerId, period, null)
  const now: number[] = []
  for (const percent of reachedPercents(priced.totalNano, budgetNano, open)) {
    const alert = {
      customerId,
      periodFrom,
      periodTo: new Date(period.to * hourMs),
      percent,
      budgetNano,
      spentNano: priced.totalNano,
      currency: priced.currency,
      stopRequested: budget.stopRequestedAtFull && percent >= 100,
      firedAt: new Date(o.base.clock.now()),
    }
    const isFirst = await sql.begin(async tx => {
      if (!(await insertAlert(tx, alert))) return { wrote: false }
      await announce(tx, {
        type: 'spend.threshold_reached',
        key: [customerId, period.from, percent],
        customerId,
        atMs: alert.firedAt.getTime(),
        data: alertView(alert),
      })
      return { wrote: true }
    })
    if (isFirst.wrote) now.push(percent)
  }
  return now
}

/** As webhooks and the cost stream tell it. */
export function alertView(alert: Parameters<typeof insertAlert>[1]) {
  return {
    customerId: alert.customerId,
    period: { from: alert.periodFrom.toISOString(), to: alert.periodTo.toISOString() },
    thresholdPercent: alert.percent,
    budgetNano: `${alert.budgetNano}`,
    spentNano: `${alert.spentNano}`,
    currency: alert.currency,
    firedAt: alert.firedAt.toISOString(),
    ...(alert.stopRequested ? { action: 'stop_requested' as const } : {}),
  }
}
