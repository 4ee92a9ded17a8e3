// What happens to calls, told to metrics and to the console at once.

import { formatUsd } from '#platform/money'
import { rfc3339 } from '#platform/time'
import type { LiveCall } from '../api.ts'
import type { EndRecord, RefusalRecord } from '../record.ts'
import type { LiveHub } from './live.ts'
import type { Metrics } from './metrics.ts'

export interface Observer {
  ended(record: EndRecord): void
  refused(record: RefusalRecord): void
  secondEnd(): void
  reaped(reason: string): void
}

export function createObserver(o: {
  metrics: Metrics
  live: LiveHub
  /** A name of the catalogue, or "other". */
  modelLabel(model: string): string
}): Observer {
  const { metrics, live } = o
  return {
    ended({ call, outcome, held }) {
      const provider = call.provider ?? 'none'
      const model = o.modelLabel(call.model)
      metrics.requests.labels(call.route, provider, model, outcome.status).inc()
      metrics.requestSeconds.labels(call.route, String(call.isStream)).observe(outcome.latencyMs / 1_000)
      for (const [kind, count] of [
        ['input', outcome.input],
        ['cache_read', outcome.cacheRead],
        ['cache_write', outcome.cacheWrite],
        ['output', outcome.output],
      ] as const)
        if (count > 0n) metrics.tokens.labels(provider, model, kind).inc(Number(count))
      metrics.spend.labels(provider, model).inc(Number(outcome.settled))
      const event: LiveCall = {
        ...shared(call),
        status: outcome.status,
        reason: outcome.reason,
        usd: formatUsd(outcome.settled),
        heldUsd: formatUsd(held),
        promptTok: Number(outcome.input + outcome.cacheRead + outcome.cacheWrite),
        compTok: Number(outcome.output),
        latencyMs: outcome.latencyMs,
      }
      live.emit({ event: 'call', data: event })
    },

    refused({ call, status, reason }) {
      metrics.requests.labels(call.route, call.provider ?? 'none', o.modelLabel(call.model), status).inc()
      if (reason === 'BUDGET_EXCEEDED') metrics.blocked.labels('tenant').inc()
      if (reason === 'RATE_LIMIT_EXCEEDED') metrics.rateLimited.labels('rpm').inc()
      const event: LiveCall = {
        ...shared(call),
        status,
        reason,
        usd: '0',
        heldUsd: '0',
        promptTok: 0,
        compTok: 0,
        latencyMs: 0,
      }
      live.emit({ event: 'call', data: event })
    },

    secondEnd: () => metrics.secondEnds.inc(),
    reaped: reason => metrics.holdsReaped.labels(reason).inc(),
  }
}

function shared(call: EndRecord['call']) {
  return {
    ts: rfc3339(call.atMs),
    requestId: call.requestId,
    tenant: call.tenantSlug,
    tenantId: call.tenantId,
    route: call.route,
    provider: call.provider,
    model: call.model,
  }
}
