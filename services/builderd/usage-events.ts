// What a build costs, as events for billaged: one for its time, one for what it pulled. Ids are the build's, so that the
// same end reported twice is one event.

import type { UsageEvent } from '#platform/usage/outbox'
import type { Finished } from './store/finish.ts'

export function usageEventsOf({ build, outcome }: Finished, nowMs: number, registry: string): UsageEvent[] {
  // Cancelled before anything ran: nothing was used.
  if (build.attempt === 0) return []
  const about = { subject: build.tenantId, time: new Date(nowMs) }
  const events: UsageEvent[] = [
    {
      ...about,
      id: build.buildId,
      type: 'builderd.build_time',
      data: {
        tenant_id: build.tenantId,
        customer_id: build.customerId,
        tier: build.tier,
        result: outcome.state.toLowerCase(),
        running_ms: String(build.runningMs),
      },
    },
  ]
  if (build.pulledBytes > 0n)
    events.push({
      ...about,
      id: `${build.buildId}/pull`,
      type: 'builderd.bytes_pulled',
      data: { bytes: String(build.pulledBytes), registry },
    })
  return events
}
