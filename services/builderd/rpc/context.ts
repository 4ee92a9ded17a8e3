// What the handlers of both faces, RPC and HTTP, work with.

import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import type { Access } from '../access.ts'
import type { LogFeed } from '../queue/log-feed.ts'
import { type LimitSettings, type Limits, type Tier, tierLimits } from '../quotas/limits.ts'
import type { Violation } from '../quotas/violation.ts'
import type { Ends } from '../store/finish.ts'
import { findTenant } from '../store/tenants.ts'

export interface Context {
  sql: Sql
  ends: Ends
  access: Access
  feed: LogFeed
  log: Logger
  clock: Clock
  limitSettings: LimitSettings
  /** The tier the platform gave a tenant. */
  platformTier: (tenantId: string) => Tier | undefined
  defaultRegistry: string
  localSourcesDir: string | undefined
  queuedMax: number
  outputDir: string
  sealKey: Buffer
  /** False while the disk is too full to begin anything. */
  hasRoom: () => Promise<boolean>
  onViolation: (tenantId: string, violation: Violation) => void
}

/** What a tenant may use now: its own tier if an operator set one, else the platform's, else the default. */
export async function limitsOf(c: Context, tenantId: string): Promise<{ tier: Tier; limits: Limits }> {
  const record = await findTenant(c.sql, tenantId)
  const tier = record?.isTierSet ? record.tier : (c.platformTier(tenantId) ?? c.limitSettings.defaultTier)
  return { tier, limits: tierLimits(tier, c.limitSettings, record?.overrides) }
}
