// The evaluator: for every rule the next window's end that can be decided, then what follows from it. It runs on the
// replica that holds the lease; what it writes, it writes under that lease, so two never tell the same thing.
//
// A window is decided when everything accepted before its end is stored, on every replica, and a little later still:
// clients gather entries for some seconds before they send them.

import { createHash, createHmac, randomUUID } from 'node:crypto'
import type { Counter } from 'prom-client'
import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import {
  type AlertEvent,
  loadDueDeliveries,
  loadStandings,
  type NewDelivery,
  type StoredStanding,
  saveDelivery,
  saveStanding,
  type WaitingDelivery,
} from '../store/rules/alerts.ts'
import { type Lease, LeaseLost, loadWatermarkUs, mustHoldLease } from '../store/rules/leases.ts'
import { loadRevisions, loadRules, type StoredRule } from '../store/rules/rules.ts'
import type { Store } from '../store/store.ts'
import { CountIncomplete, gridAt, windowCounts } from './alert-series.ts'
import { type Announced, freshStanding, type Standing, type Step, stall, step, verdictOf } from './alert-state.ts'
import { type AlertDefinition, alertDefinition, parseSpan } from './definitions.ts'
import { type Notice, payloadOf } from './payloads.ts'
import type { WebhookSender } from './webhook.ts'

export interface AlertOptions {
  sql: Sql
  store: Store
  sender: WebhookSender
  /** Webhook secrets come from it. */
  webhookKey: Buffer
  clock: Clock
  log: Logger
  evaluations: Counter<'result'>
  deliveries: Counter<'result'>
}

export interface Evaluator {
  /** One round: verdicts that are due, then deliveries that are. */
  round(lease: Lease, signal: AbortSignal): Promise<void>
  /** Rules by state, as of the last round here. */
  states(): ReadonlyMap<string, number>
}

/** SDKs send after five seconds; what they gathered belongs into its window. */
export const settleMs = 10_000
/** Without a verdict for this long after one was due, the rule is stalled. */
export const stallAfterMs = 5 * 60_000
/** A verdict on yesterday wakes nobody: after a longer gap the rule goes on from here. */
const catchUpMsMax = 86_400_000
const countTimeoutMs = 20_000
const restMsMax = 60_000
const statesFreshMs = 60_000
const giveUpAfterMs = 3_600_000
const backoffMsMax = 300_000
const sendAtOnce = 8

interface LiveRule {
  stored: StoredRule
  definition: AlertDefinition
  hash: string
}

export function createEvaluator(o: AlertOptions): Evaluator {
  const { sql, clock, log } = o
  let rules: LiveRule[] = []
  let standings = new Map<bigint, StoredStanding>()
  /** Rules that could not be decided wait for their turn, so that one heavy query does not hold up the others. */
  const notBeforeMs = new Map<bigint, number>()
  let roundAtMs = Number.NEGATIVE_INFINITY
  let readUnder: { token: bigint; revision: bigint } | undefined

  /** Again after each change of rules, and of hands: the last holder may have gone further. */
  const readRules = async (lease: Lease) => {
    const revision = (await loadRevisions(sql)).get('alert_rules') ?? 0n
    if (readUnder?.token === lease.token && readUnder.revision === revision) return
    rules = (await loadRules(sql, 'alert_rules')).flatMap(stored => liveRule(stored, log))
    standings = await loadStandings(sql)
    readUnder = { token: lease.token, revision }
  }

  const standingOf = (rule: LiveRule, boundMs: number): Standing => {
    const known = standings.get(rule.stored.id)
    if (known?.definitionHash === rule.hash) return known.standing
    // A rule that says something else now starts afresh, but owes an end to what it announced.
    const everyMs = parseSpan(rule.definition.every)
    return freshStanding(gridAt(rule.definition, boundMs) - everyMs, known?.standing.announced)
  }

  const evaluate = async (rule: LiveRule, boundMs: number, lease: Lease): Promise<void> => {
    const { definition } = rule
    const everyMs = parseSpan(definition.every)
    const forMs = parseSpan(definition.for)
    let standing = standingOf(rule, boundMs)
    const lastMs = gridAt(definition, boundMs)
    const firstMs = Math.max(
      gridAt(definition, standing.evaluatedToMs) + everyMs,
      gridAt(definition, boundMs - catchUpMsMax),
    )
    if (firstMs > lastMs) return
    const now = () => clock.monotonicMs()
    const window = { tenant: rule.stored.tenant, definition, firstMs, lastMs, timeoutMs: countTimeoutMs, now }
    const steps: Step[] = []
    for await (const counts of windowCounts(o.store, window))
      for (const { atMs, current, previous } of counts) {
        const next = step(standing, atMs, verdictOf(definition, current, previous), forMs)
        standing = next.standing
        steps.push(next)
      }
    await save(rule, steps, lease)
    o.evaluations.labels('ok').inc(steps.length)
  }

  const stallIfLate = async (rule: LiveRule, boundMs: number, lease: Lease): Promise<void> => {
    const standing = standingOf(rule, boundMs)
    const dueMs = gridAt(rule.definition, standing.evaluatedToMs) + parseSpan(rule.definition.every)
    if (clock.now() - settleMs - dueMs < stallAfterMs) return
    const next = stall(standing, clock.now())
    if (!next.hasChanged) return
    await save(rule, [next], lease)
    o.evaluations.labels('stalled').inc()
    log.warn(
      { rule: String(rule.stored.id), tenant: rule.stored.tenant },
      'an alert rule has had no verdict for 5 minutes',
    )
  }

  const save = async (rule: LiveRule, steps: readonly Step[], lease: Lease): Promise<void> => {
    const last = steps.at(-1)
    if (!last) return
    const events: AlertEvent[] = []
    const deliveries: NewDelivery[] = []
    let announced: Announced = standings.get(rule.stored.id)?.standing.announced ?? 'ok'
    for (const { standing, hasChanged, notice } of steps) {
      const { state, value, sinceMs: atMs } = standing
      if (hasChanged) events.push({ atMs, state, value })
      if (notice === null) continue
      if (rule.definition.webhook)
        deliveries.push(deliveryOf(rule, standing, notice, announced, clock.now() + deliveries.length))
      announced = notice
    }
    const saved = { definitionHash: rule.hash, standing: last.standing }
    await sql.begin(async tx => {
      await mustHoldLease(tx, lease)
      await saveStanding(tx, rule.stored.id, saved, events, deliveries)
    })
    standings.set(rule.stored.id, saved)
  }

  const deliver = async (lease: Lease): Promise<void> => {
    const due = await loadDueDeliveries(sql, clock.now(), sendAtOnce)
    await Promise.all(due.map(delivery => deliverOne(delivery, lease)))
  }

  const deliverOne = async (delivery: WaitingDelivery, lease: Lease): Promise<void> => {
    const parsed = alertDefinition.safeParse(delivery.definition)
    const url = parsed.success ? parsed.data.webhook?.url : undefined
    const outcome =
      url === undefined
        ? { status: null, problem: 'the rule has no webhook any more' }
        : await o.sender.send(
            { ...delivery, url, secret: webhookSecret(o.webhookKey, delivery.tenant, delivery.rule) },
            clock.now(),
          )
    const nowMs = clock.now()
    const isDelivered = outcome.problem === null
    const isOver = isDelivered || url === undefined || nowMs - delivery.createdMs >= giveUpAfterMs
    const state = isDelivered ? 'delivered' : isOver ? 'failed' : 'waiting'
    await sql.begin(async tx => {
      await mustHoldLease(tx, lease)
      await saveDelivery(tx, delivery.id, { ...outcome, state, nowMs, nextMs: nowMs + backoffMs(delivery.attempts) })
    })
    o.deliveries.labels(state === 'waiting' ? 'retried' : state).inc()
    if (state === 'failed')
      log.error(
        { delivery: delivery.id, rule: String(delivery.rule), tenant: delivery.tenant, problem: outcome.problem },
        'a notification was given up',
      )
  }

  return {
    async round(lease, signal) {
      await readRules(lease)
      roundAtMs = clock.monotonicMs()
      const watermarkUs = await loadWatermarkUs(sql)
      const boundMs = Math.min(clock.now() - settleMs, Number((watermarkUs ?? 0n) / 1_000n))
      for (const rule of rules) {
        signal.throwIfAborted()
        if (!rule.definition.enabled) continue
        try {
          // Of no use before the first watermark.
          const isResting = (notBeforeMs.get(rule.stored.id) ?? 0) > clock.monotonicMs()
          if (boundMs > 0 && !isResting) await evaluate(rule, boundMs, lease)
        } catch (error) {
          if (error instanceof LeaseLost) throw error
          o.evaluations.labels('failed').inc()
          notBeforeMs.set(rule.stored.id, clock.monotonicMs() + Math.min(parseSpan(rule.definition.every), restMsMax))
          const what = { err: error, rule: String(rule.stored.id), tenant: rule.stored.tenant }
          if (error instanceof CountIncomplete) log.warn(what, 'an alert rule could not be decided in time')
          else log.debug(what, 'an alert rule could not be evaluated; it is tried again')
        }
        await stallIfLate(rule, boundMs, lease)
      }
      await deliver(lease)
    },
    states() {
      const counts = new Map<string, number>()
      // Somebody else evaluates now.
      if (clock.monotonicMs() - roundAtMs > statesFreshMs) return counts
      for (const { stored, definition } of rules) {
        const state = definition.enabled ? (standings.get(stored.id)?.standing.state ?? 'ok') : 'disabled'
        counts.set(state, (counts.get(state) ?? 0) + 1)
      }
      return counts
    },
  }
}

function liveRule(stored: StoredRule, log: Logger): LiveRule[] {
  const parsed = alertDefinition.safeParse(stored.definition)
  if (!parsed.success) {
    log.error(
      { rule: String(stored.id) },
      'an alert rule cannot be read; it was written by another version of the program',
    )
    return []
  }
  // Where a rule is sent to does not change what it says.
  const { webhook: _, ...decides } = parsed.data
  const hash = createHash('sha256').update(JSON.stringify(decides)).digest('hex').slice(0, 32)
  return [{ stored, definition: parsed.data, hash }]
}

function deliveryOf(
  rule: LiveRule,
  standing: Standing,
  state: Announced,
  previous: Announced,
  createdMs: number,
): NewDelivery {
  const id = randomUUID()
  const { id: ruleId, tenant, name } = rule.stored
  const notice: Notice = {
    id,
    tenant,
    rule: { id: String(ruleId), name, definition: rule.definition },
    state,
    previous,
    atMs: standing.sinceMs,
    firingSinceMs: state === 'firing' ? (standing.pendingSinceMs ?? standing.sinceMs) : null,
    value: standing.value,
    isTest: false,
  }
  return { id, tenant, body: payloadOf(notice), createdMs }
}

/** Never stored: who has the platform's secret can make it again. */
export function webhookSecret(key: Buffer, tenant: string, rule: bigint): string {
  return `whs_${createHmac('sha256', key).update(`${tenant}\n${rule}`).digest('base64url')}`
}

/** 1 s, 2 s, 4 s … 5 min, of that a random half less at most: an hour holds some eighteen attempts. */
function backoffMs(attempts: number): number {
  return Math.min(backoffMsMax, 1_000 * 2 ** Math.min(attempts, 20)) * (0.5 + Math.random() / 2)
}
