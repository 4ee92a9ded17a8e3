// What billaged hears of a call: one event per settled call, from the transaction that books its row.

import type { UsageEvent } from '#platform/usage/outbox'
import type { FoldPlan } from '../fold-plan.ts'

export function usageEvents(plan: FoldPlan): UsageEvent[] {
  return plan.ends
    .filter(({ record }) => record.outcome.status === 'success' || record.outcome.settled > 0n)
    .map(({ record: { id, call, outcome } }) => ({
      // The hold's id and not the request's, which a caller may choose and repeat: a repeated id would not be billed.
      id,
      type: 'purser.ai.call.v1',
      subject: call.tenantSlug,
      time: new Date(call.atMs),
      data: {
        requestId: call.requestId,
        provider: call.provider ?? '',
        model: call.model,
        inputTokens: outcome.input.toString(),
        cachedInputTokens: outcome.cacheRead.toString(),
        cacheWriteTokens: outcome.cacheWrite.toString(),
        outputTokens: outcome.output.toString(),
        reasoningTokens: outcome.reasoning.toString(),
        costNanoUsd: outcome.settled.toString(),
        priceId: call.priceId === null ? '' : String(call.priceId),
        tags: [],
        session: call.sessionId ?? '',
        keyPrefix: call.keyPrefix,
      },
    }))
}
