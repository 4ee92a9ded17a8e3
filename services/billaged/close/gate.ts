import { sleep } from '#platform/time'
import type { Blocker } from '../api.ts'
import { formatDecimal } from '../decimal.ts'
import type { BillingCycle } from '../rating/periods.ts'
import { hourMs, monthOf, nextPeriod, periodAt } from '../rating/periods.ts'
import type { Hours } from '../rating/rate.ts'
import { drainOne, queuedHours } from '../store/fold-queue.ts'
import { firstBillable, isSubscribed, openQuarantine, touchesPeriod } from '../store/gate.ts'
import { finalisedOf } from '../store/invoices.ts'
import { type PricedPeriod, pricePeriod } from '../store/pricing.ts'
import { databaseNow, waitForReplicas } from '../store/replica.ts'
import type { CloseContext } from './context.ts'

// Why a period cannot be closed yet, each with the command that mends it. Nothing here writes.

/** Blockers that an operator may close over, with a reason. */
export const forcible: ReadonlySet<Blocker['code']> = new Set(['open_quarantine', 'unrated_usage'])

/** Longest that a close waits for folding, here and on the other replicas. They report every few seconds. */
const foldWaitMs = 15_000
const queuePollMs = 250

/** Everything acknowledged before now is folded, by every replica: asked once for a whole run of closes. */
export async function foldingBlockers(
  o: Pick<CloseContext, 'sql' | 'replica' | 'clock' | 'acknowledgedEnd' | 'waitUntilFolded'>,
): Promise<Blocker[]> {
  const deadlineMs = o.clock.monotonicMs() + foldWaitMs
  const began = await databaseNow(o.sql)
  if (!(await o.waitUntilFolded(o.acknowledgedEnd(), foldWaitMs)))
    return [
      {
        code: 'not_folded',
        detail: `this replica still folds what it acknowledged, after ${foldWaitMs / 1000} s`,
        fix: 'billaged status, then close again',
      },
    ]
  const behind = await waitForReplicas(o.sql, o.replica, { began, deadlineMs, clock: o.clock })
  return behind.map(({ id, foldedUntil }) => ({
    code: 'replica_behind',
    detail: `replica ${id} has folded what it acknowledged until ${foldedUntil?.toISOString() ?? 'an unknown time'}`,
    fix: `start it again, or, when its journal is lost for ever: billaged replica retire ${id}`,
  }))
}

export async function customerBlockers(
  o: CloseContext,
  customer: BillingCycle & { id: string },
  period: Hours,
): Promise<Blocker[]> {
  const blockers: Blocker[] = []
  if (period.to * hourMs > o.clock.now())
    blockers.push({
      code: 'period_not_over',
      detail: `the period ends at ${new Date(period.to * hourMs).toISOString()}`,
      fix: `billaged close ${monthOf(period)} after that`,
    })
  else blockers.push(...(await foldQueueBlockers(o, customer.id, period)))
  for (const earlier of await openPeriodsBefore(o, customer, period))
    blockers.push({
      code: 'earlier_period_open',
      detail: `${monthOf(earlier)} of this customer is not closed`,
      fix: `billaged close ${monthOf(earlier)} --customer ${customer.id}`,
    })
  const { count } = await openQuarantine(o.sql, customer.id, period)
  if (count > 0)
    blockers.push({
      code: 'open_quarantine',
      detail: `${count} doubtful samples, notices or events wait for a decision`,
      fix: `billaged quarantine --customer ${customer.id}, then release or discard`,
    })
  return blockers
}

/** Whether an invoice could be about a period: somebody was subscribed, or something was used that is waiting for a price.
 *  A lone reading, worth nothing, in the month before the first subscription makes no invoice and takes no number. */
export async function isBillable(
  o: Pick<CloseContext, 'sql' | 'reader' | 'meters' | 'rules'>,
  customerId: string,
  period: Hours,
): Promise<boolean> {
  if (await isSubscribed(o.sql, customerId, period)) return true
  if (!(await touchesPeriod(o.sql, customerId, period))) return false
  const { lines, unrated } = await pricePeriod(o.reader, o.meters, o.rules, customerId, period, null)
  return lines.length > 0 || unrated.length > 0
}

/** The fold queue is empty for the period: what is left of it is folded here and now. */
async function foldQueueBlockers(o: CloseContext, customerId: string, period: Hours): Promise<Blocker[]> {
  const deadlineMs = o.clock.monotonicMs() + foldWaitMs
  for (;;) {
    while (await drainOne(o.reader, o.rules, { beforeHour: period.to, customerId, nowMs: o.clock.now() }))
      if (o.clock.monotonicMs() > deadlineMs) break
    const left = await queuedHours(o.sql, customerId, period)
    if (left === 0) return []
    // Another replica has it in hand.
    if (o.clock.monotonicMs() < deadlineMs) await sleep(queuePollMs)
    else
      return [
        {
          code: 'not_folded',
          detail: `${left} hours of the period are queued to be folded again`,
          fix: 'wait for a quiet minute, then close again',
        },
      ]
  }
}

/** Invoices of one customer follow one another: credits, corrections and the chain of receipts go from each to the next. */
export async function openPeriodsBefore(
  o: CloseContext,
  customer: BillingCycle & { id: string },
  before: Hours,
): Promise<Hours[]> {
  const firstMs = await firstBillable(o.sql, customer.id)
  if (firstMs === null || firstMs >= before.from * hourMs) return []
  const closed = new Set((await finalisedOf(o.sql, customer.id)).map(({ period }) => period.from))
  const open: Hours[] = []
  for (let period = periodAt(customer, firstMs); period.from < before.from; period = nextPeriod(customer, period))
    if (!closed.has(period.from) && (await isBillable(o, customer.id, period))) open.push(period)
  return open
}

export function ratingBlockers(customerId: string, period: Hours, priced: PricedPeriod): Blocker[] {
  const blockers: Blocker[] = []
  if (priced.currencies.length > 1)
    blockers.push({
      code: 'mixed_currencies',
      detail: `the plans of this period are in ${priced.currencies.join(' and ')}`,
      fix: `billaged subscribe ${customerId} … to plans of one currency, from the period's start`,
    })
  const byMeter = new Map<string, { quantityE9: bigint; planId: string | null; unit: string }>()
  for (const { meter, quantityE9, planId, unit } of priced.unrated) {
    const key = JSON.stringify([meter, planId])
    byMeter.set(key, { quantityE9: (byMeter.get(key)?.quantityE9 ?? 0n) + quantityE9, planId, unit })
  }
  for (const [key, { quantityE9, planId, unit }] of byMeter) {
    const [meter = ''] = JSON.parse(key) as string[]
    const from = new Date(period.from * hourMs).toISOString()
    blockers.push({
      code: 'unrated_usage',
      detail: `${meter} ${group(formatDecimal(quantityE9))} ${unit}${planId === null ? ', no subscription' : ''}`,
      fix:
        planId === null
          ? `billaged subscribe ${customerId} --plan PLAN --from ${from}`
          : `billaged plan add-price ${planId} --meter ${meter} --per N --amount N --from ${from}, or billaged plan unbilled ${planId} ${meter} --from ${from}`,
    })
  }
  return blockers
}

/** 81200 as 81,200. */
function group(digits: string): string {
  const [whole = '', fraction] = digits.split('.')
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ',')
  return fraction === undefined ? grouped : `${grouped}.${fraction}`
}
