import { Counter } from 'prom-client'
import type { Base } from '#platform/lifecycle'
import { type OutboundOutcome, postOutbound } from '#platform/outbound'
import type { Sql } from '#platform/postgres'
import { claimDelivery, type Due, deleteOldDeliveries, endAttempt } from '../store/webhooks.ts'
import { retryDelayMs } from './backoff.ts'
import { endpointSecret, signedHeaders } from './message.ts'
import type { Reach } from './reach.ts'

// Sends what is in the outbox. A delivery is pending → delivered, or after each failure pending again and later, until
// three days are over: failed. Any replica takes any delivery; it is claimed for longer than an attempt can last, so one
// whose sender died is sent again, under the same webhook-id.

export interface Deliverer {
  /** Something was put into the outbox. */
  wake(): void
  close(): Promise<void>
}

const attemptTimeoutMs = 10_000
const claimMs = 30_000
/** Attempts at once; one endpoint takes one of them at most, so that a slow one keeps nobody waiting. */
const attemptsMax = 8
const lookEveryMs = 1_000
const cleanEveryMs = 3_600_000

export interface WebhookContext {
  sql: Sql
  base: Base
  reach: Reach
  /** Endpoint secrets are derived from it. */
  key: Buffer
}

export function startDelivering(o: WebhookContext): Deliverer {
  const { sql, base } = o
  const { clock, log } = base
  const counter = deliveryCounter(base)
  const busy = new Map<string, Promise<void>>()
  let isClosing = false
  let isFailing = false
  let timer: NodeJS.Timeout | undefined
  let looking: Promise<void> | undefined
  let cleanedMs = clock.monotonicMs()

  async function look() {
    while (!isClosing && busy.size < attemptsMax) {
      const due = await claimDelivery(sql, { nowMs: clock.now(), claimMs, busy: [...busy.keys()] })
      if (due === null) break
      const attempt = deliver(due).finally(() => {
        busy.delete(due.endpointId)
        wake()
      })
      busy.set(due.endpointId, attempt)
    }
    if (clock.monotonicMs() - cleanedMs > cleanEveryMs) {
      cleanedMs = clock.monotonicMs()
      await deleteOldDeliveries(sql, clock.now())
    }
  }

  async function deliver(due: Due) {
    const { status, problem } = await attemptOf(o, due)
    try {
      const nowMs = clock.now()
      const end =
        problem === null
          ? ({ state: 'delivered', status } as const)
          : ({ state: 'retry', status, problem, nextMs: nowMs + retryDelayMs(due.attempts) } as const)
      const state = await endAttempt(sql, due.id, nowMs, end)
      counter.inc({ outcome: state === 'delivered' || state === 'failed' ? state : 'retried' })
      if (state === 'failed')
        log.warn({ deliveryId: due.id, endpointId: due.endpointId, problem }, 'webhook given up after three days')
    } catch (error) {
      // It is due again when the claim ends.
      log.warn({ err: error, deliveryId: due.id }, 'the outcome of a webhook could not be noted')
    }
  }

  function wake() {
    if (isClosing || looking !== undefined) return
    clearTimeout(timer)
    looking = look()
      .then(() => {
        isFailing = false
      })
      .catch((error: unknown) => {
        if (!isFailing) log.warn({ err: error }, 'webhooks wait: the outbox cannot be read')
        isFailing = true
      })
      .finally(() => {
        looking = undefined
        if (!isClosing) timer = setTimeout(wake, lookEveryMs)
      })
  }
  wake()

  return {
    wake,
    async close() {
      isClosing = true
      clearTimeout(timer)
      await looking
      await Promise.all(busy.values())
    },
  }
}

/** One attempt, signed for now. */
export function attemptOf(
  o: WebhookContext,
  due: Pick<Due, 'endpointId' | 'url' | 'secretVersion' | 'byTenant' | 'messageId' | 'body'>,
): Promise<OutboundOutcome> {
  const secret = endpointSecret(o.key, due.endpointId, due.secretVersion)
  const headers = signedHeaders(secret, due.messageId, due.body, o.base.clock.now())
  return postOutbound({
    url: due.url,
    body: due.body,
    headers: { 'user-agent': 'purser-billaged', ...headers },
    denied: due.byTenant ? o.reach.ofTenants : o.reach.ofOperators,
    timeoutMs: attemptTimeoutMs,
  })
}

function deliveryCounter({ registry }: Base) {
  const counter = new Counter({
    name: 'billaged_webhook_deliveries_total',
    help: 'Attempts to deliver a webhook: delivered, retried later, or failed for good.',
    labelNames: ['outcome'],
    registers: [registry],
  })
  for (const outcome of ['delivered', 'retried', 'failed']) counter.inc({ outcome }, 0)
  return counter
}
