// GET /v1/builds: builds of all tenants, for the console and operators.

import type { FastifyInstance } from 'fastify'
import { Problem } from '#platform/http'
import type { BuildList, Build as BuildRow } from '../api.ts'
import type { Context } from '../rpc/context.ts'
import type { Build } from '../store/build.ts'
import { countBuilds, listBuilds } from '../store/builds.ts'
import { asHttp, identifyHttp } from './refusals.ts'

const limitStandard = 50
const limitMax = 1_000

export function addBuilds(app: FastifyInstance, c: Context) {
  app.get<{ Querystring: { tenant?: string; limit?: string } }>('/v1/builds', async (request): Promise<BuildList> => {
    const caller = identifyHttp(c, request, 'builds:read', { tenantOptional: true })
    if (!caller.isOperator && !caller.isAdmin)
      throw new Problem({
        status: 403,
        reason: 'PERMISSION_DENIED',
        detail:
          'The list of all tenants needs an operator’s token or the scope builds:admin; ListBuilds answers for one tenant.',
      })
    const { tenant, limit = String(limitStandard) } = request.query
    if (!/^[0-9]{1,6}$/.test(limit) || Number(limit) < 1 || Number(limit) > limitMax)
      throw new Problem({
        status: 400,
        reason: 'INVALID_ARGUMENT',
        detail: `limit is ${limit.slice(0, 20)}; it must be 1–${limitMax}.`,
      })
    const filter = { tenantId: tenant || null, states: [] }
    const [builds, total] = await asHttp(
      Promise.all([
        listBuilds(c.sql, { ...filter, after: undefined, limit: Number(limit) }),
        countBuilds(c.sql, filter),
      ]),
    )
    return { builds: builds.map(toRow), total }
  })
}

function toRow(build: Build): BuildRow {
  return {
    buildId: build.buildId,
    tenantId: build.tenantId,
    customerId: build.customerId,
    name: build.name,
    image: build.imageRef,
    state: `BUILD_STATE_${build.state}`,
    progressPercent: build.progress,
    currentStep: build.step,
    createdAt: build.createdAt.toISOString(),
    startedAt: build.startedAt?.toISOString() ?? null,
    completedAt: build.completedAt?.toISOString() ?? null,
    runningMs: String(build.runningMs),
    errorMessage: build.errorMessage,
    rootfsPath: build.rootfsPath,
    rootfsSizeBytes: String(build.rootfsBytes ?? 0n),
    rootfsChecksum: build.rootfsSha256 ?? '',
  }
}
