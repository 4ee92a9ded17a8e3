// Who keeps the buckets: this process, or all replicas together when there is a Redis.

import { join } from 'node:path'
import { Gauge, type Registry } from 'prom-client'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import type { SharedRedis } from '../redis.ts'
import { createBuckets, type RequestBuckets } from './buckets.ts'
import { createDayTotals, type DayTotals } from './day-totals.ts'
import { createLeases } from './leases.ts'
import { countReplicas } from './replicas.ts'
import { createSharedBuckets } from './shared-buckets.ts'
import { createTokens, type Tokens } from './tokens.ts'

export interface RequestLimits {
  /** Of rows and bytes. */
  tokens: Tokens
  dayTotals: DayTotals | undefined
  /** Intake and all other routes do not draw from each other. */
  intake: RequestBuckets
  other: RequestBuckets
  close(): Promise<void>
}

export async function openRequestLimits(o: {
  redis: SharedRedis | undefined
  replica: string
  dir: string
  rps: number
  burst: number
  clock: Clock
  log: Logger
  registry: Registry
}): Promise<RequestLimits> {
  const { redis, rps, burst, clock, registry } = o
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name: `log_ingestion_ratelimit_${name}`,
      help,
      registers: [registry],
      collect() {
        this.set(value())
      },
    })
  gauge('shared', '1 while replicas share their limits through Redis.', () => (redis?.isUp ? 1 : 0))
  if (!redis) {
    gauge('replicas', 'Replicas that share the limits, as last heard.', () => 1)
    o.log.info('limits are per replica: REDIS_URL is not set')
    return {
      tokens: createTokens({ clock }),
      dayTotals: undefined,
      intake: createBuckets({ rps, burst, clock }),
      other: createBuckets({ rps, burst, clock }),
      close: async () => {},
    }
  }
  const replicas = await countReplicas({ redis, replica: o.replica, path: join(o.dir, 'replicas') })
  gauge('replicas', 'Replicas that share the limits, as last heard.', () => replicas.count)
  const tokens = createLeases({ redis, clock, replicas: () => replicas.count })
  return {
    tokens,
    dayTotals: createDayTotals({ redis, clock }),
    intake: createSharedBuckets({ tokens, kind: 'intake', rps, burst }),
    other: createSharedBuckets({ tokens, kind: 'other', rps, burst }),
    close: () => replicas.close(),
  }
}
