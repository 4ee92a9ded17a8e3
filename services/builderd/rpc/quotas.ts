// What a tenant may use and uses, and how its builds went.

import { create } from '@bufbuild/protobuf'
import { timestampDate } from '@bufbuild/protobuf/wkt'
import type { HandlerContext } from '@connectrpc/connect'
import {
  type GetBuildStatsRequest,
  GetBuildStatsResponseSchema,
  type GetTenantQuotasRequest,
  GetTenantQuotasResponseSchema,
} from '#proto/builder/v1/builder_pb'
import type { Limits } from '../quotas/limits.ts'
import { nextDayMs, type Violation, violationMessage } from '../quotas/violation.ts'
import { listBuilds, loadStats } from '../store/builds.ts'
import { loadUsage, type TenantUsage } from '../store/tenants.ts'
import { guarded } from './builds.ts'
import { type Context, limitsOf } from './context.ts'
import { jobMessage, limitsMessage } from './messages.ts'
import { asRpcError, invalidArgument, otherTenant } from './refusals.ts'

const recentBuilds = 10
const statsMsStandard = 24 * 3_600_000

export const getTenantQuotas = (c: Context) =>
  guarded(c, 'builds:read', async (_: GetTenantQuotasRequest, tenantId) => {
    const nowMs = c.clock.now()
    const [{ limits }, usage] = await Promise.all([limitsOf(c, tenantId), loadUsage(c.sql, tenantId, nowMs)])
    return create(GetTenantQuotasResponseSchema, {
      currentLimits: limitsMessage(limits),
      currentUsage: {
        activeBuilds: usage.active,
        dailyBuildsUsed: usage.acceptedToday,
        storageBytesUsed: usage.storedBytes,
        computeMinutesUsed: usage.runningMs / 60_000n,
        buildsQueued: usage.queued,
        buildsCompletedToday: usage.completedToday,
        buildsFailedToday: usage.failedToday,
      },
      violations: violationsOf(limits, usage, nowMs).map(violation => ({
        quotaType: violation.quotaType,
        currentValue: violation.current,
        limitValue: violation.limit,
        message: violationMessage(violation),
      })),
    })
  })

/** Quotas that would refuse or hold back the next build. */
function violationsOf(limits: Limits, usage: TenantUsage, nowMs: number): Violation[] {
  const all: Violation[] = [
    { quotaType: 'concurrent_builds', current: BigInt(usage.active), limit: BigInt(limits.buildsMax) },
    {
      quotaType: 'daily_builds',
      current: BigInt(usage.acceptedToday),
      limit: BigInt(limits.dailyBuildsMax),
      resetAtMs: nextDayMs(nowMs),
    },
    { quotaType: 'storage', current: usage.storedBytes, limit: BigInt(limits.storageBytesMax) },
  ]
  return all.filter(({ current, limit }) => current >= limit)
}

/** The one call that needs no header while access is open: counts only then, of the tenant in the body. */
export function getBuildStats(c: Context) {
  return async (request: GetBuildStatsRequest, { requestHeader }: HandlerContext) => {
    try {
      const caller = c.access.identify(name => requestHeader.get(name) ?? undefined, 'builds:read', {
        tenantOptional: true,
      })
      if (caller.tenantId !== null && request.tenantId !== '' && request.tenantId !== caller.tenantId)
        throw otherTenant(request.tenantId)
      const tenantId = caller.tenantId ?? request.tenantId
      if (tenantId === '') throw invalidArgument('tenant_id is required')
      const to = request.endTime ? timestampDate(request.endTime) : new Date(c.clock.now())
      const from = request.startTime ? timestampDate(request.startTime) : new Date(to.getTime() - statsMsStandard)
      const stats = await loadStats(c.sql, tenantId, from, to)
      const usage = await loadUsage(c.sql, tenantId, c.clock.now())
      const recent =
        caller.tenantId === null
          ? []
          : await listBuilds(c.sql, { tenantId, states: [], after: undefined, limit: recentBuilds })
      return create(GetBuildStatsResponseSchema, {
        totalBuilds: stats.total,
        successfulBuilds: stats.successful,
        failedBuilds: stats.failed,
        avgBuildTimeMs: stats.averageMs,
        totalStorageBytes: usage.storedBytes,
        totalComputeMinutes: stats.runningMs / 60_000n,
        recentBuilds: recent.map(build => jobMessage(build)),
      })
    } catch (error) {
      throw asRpcError(error, request.tenantId)
    }
  }
}
