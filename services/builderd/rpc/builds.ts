// Reading, listing, cancelling and deleting builds.

import { createHash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import type { HandlerContext } from '@connectrpc/connect'
import { sleep } from '#platform/time'
import {
  BuildState,
  type CancelBuildRequest,
  CancelBuildResponseSchema,
  type DeleteBuildRequest,
  DeleteBuildResponseSchema,
  type GetBuildRequest,
  GetBuildResponseSchema,
  type ListBuildsRequest,
  ListBuildsResponseSchema,
} from '#proto/builder/v1/builder_pb'
import type { Scope } from '../access.ts'
import { buildStates, isBuildId, isTerminal, type BuildState as State } from '../build-state.ts'
import type { Build } from '../store/build.ts'
import { countBuilds, findBuild, listBuilds as loadBuilds } from '../store/builds.ts'
import { cancelBuild as cancel, overtakeCancelled, deleteBuild as remove } from '../store/finish.ts'
import { loadLastLines } from '../store/logs.ts'
import type { Context } from './context.ts'
import { jobMessage, stateNumber } from './messages.ts'
import { asRpcError, buildNotFound, invalidArgument, otherTenant, wrongState } from './refusals.ts'

const logLinesInBuild = 200
const pageSizeStandard = 50
const pageSizeMax = 1_000
/** How long a delete waits for the cancel it made; longer than the patience of the scheduler. */
const forcedCancelMs = 5_000

/** Identifies the caller and lets the handler speak in the domain's own failures. */
export function guarded<Q extends { tenantId: string }, R>(
  c: Context,
  scope: Scope,
  handle: (request: Q, tenantId: string, context: HandlerContext) => Promise<R>,
) {
  return async (request: Q, context: HandlerContext): Promise<R> => {
    const named = context.requestHeader.get('x-tenant-id') ?? ''
    try {
      return await handle(request, requireTenant(c, scope, request.tenantId, context.requestHeader), context)
    } catch (error) {
      throw asRpcError(error, named)
    }
  }
}

/** The header's tenant; the body's must be the same or empty. */
export function requireTenant(c: Context, scope: Scope, bodyTenantId: string, headers: Headers): string {
  const { tenantId } = c.access.identify(name => headers.get(name) ?? undefined, scope)
  if (bodyTenantId !== '' && bodyTenantId !== tenantId) throw otherTenant(bodyTenantId)
  return tenantId ?? ''
}

/** Malformed, foreign and missing ids cost the same query and give the same answer. */
export async function requireBuild(c: Context, buildId: string, tenantId: string | null): Promise<Build> {
  const build = await findBuild(c.sql, isBuildId(buildId) ? buildId : 'build_', tenantId)
  if (!build) throw buildNotFound(buildId)
  return build
}

export const getBuild = (c: Context) =>
  guarded(c, 'builds:read', async ({ buildId }: GetBuildRequest, tenantId) => {
    const build = await requireBuild(c, buildId, tenantId)
    return create(GetBuildResponseSchema, {
      build: jobMessage(build, await loadLastLines(c.sql, buildId, logLinesInBuild)),
    })
  })

export const listBuilds = (c: Context) =>
  guarded(c, 'builds:read', async (request: ListBuildsRequest, tenantId) => {
    const states = request.stateFilter.map(stateNamed)
    const limit = request.pageSize <= 0 ? pageSizeStandard : Math.min(request.pageSize, pageSizeMax)
    const seal = filterSeal(tenantId, states)
    const after = request.pageToken === '' ? undefined : readPageToken(request.pageToken, seal)
    const builds = await loadBuilds(c.sql, { tenantId, states, after, limit: limit + 1 })
    const page = builds.slice(0, limit)
    const last = page.at(-1)
    return create(ListBuildsResponseSchema, {
      builds: page.map(build => jobMessage(build)),
      nextPageToken: builds.length > limit && last ? pageToken(last, seal) : '',
      totalCount: await countBuilds(c.sql, { tenantId, states }),
    })
  })

export const cancelBuild = (c: Context) =>
  guarded(c, 'builds:write', async ({ buildId }: CancelBuildRequest, tenantId) => {
    switch (await cancel(c.ends, buildId, tenantId, c.clock.now())) {
      case 'unknown':
        throw buildNotFound(buildId)
      case 'over':
        throw wrongState(`build ${buildId} has ended already and cannot be cancelled`)
      case 'cancelled':
        return create(CancelBuildResponseSchema, { success: true, state: BuildState.CANCELLED })
      case 'cleaning':
        return create(CancelBuildResponseSchema, { success: true, state: BuildState.CLEANING })
    }
  })

export const deleteBuild = (c: Context) =>
  guarded(c, 'builds:write', async ({ buildId, force }: DeleteBuildRequest, tenantId) => {
    if (force) await cancelFirst(c, buildId, tenantId)
    const answer = await remove(c.ends, buildId, tenantId, c.clock.now())
    if (answer.is === 'unknown') throw buildNotFound(buildId)
    if (answer.is === 'running')
      throw wrongState(`build ${buildId} is running; cancel it first, or delete it with force`)
    // Free for the tenant already; a crash here leaves a folder that the next cleanup removes.
    await rm(join(c.outputDir, buildId), { recursive: true, force: true })
    return create(DeleteBuildResponseSchema, { success: true })
  })

async function cancelFirst(c: Context, buildId: string, tenantId: string) {
  if ((await cancel(c.ends, buildId, tenantId, c.clock.now())) !== 'cleaning') return
  const deadlineMs = c.clock.monotonicMs() + forcedCancelMs
  while (c.clock.monotonicMs() < deadlineMs) {
    const build = await findBuild(c.sql, buildId, tenantId)
    if (!build || isTerminal(build.state)) return
    await sleep(50)
  }
  await overtakeCancelled(c.ends, 0, c.clock.now())
}

function stateNamed(number: BuildState): State {
  const state = buildStates.find(name => stateNumber[name] === number)
  if (!state) throw invalidArgument(`state_filter has ${number}, which is not a state of a build`)
  return state
}

/** Binds a page token to what it pages over. */
function filterSeal(tenantId: string, states: readonly State[]): string {
  return createHash('sha256')
    .update(JSON.stringify([tenantId, states.toSorted()]))
    .digest('base64url')
    .slice(0, 16)
}

function pageToken(last: Build, seal: string): string {
  return Buffer.from(JSON.stringify([seal, last.createdAt.getTime(), last.buildId])).toString('base64url')
}

function readPageToken(token: string, seal: string): { createdAtMs: number; buildId: string } {
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.from(token.slice(0, 512), 'base64url').toString('utf8'))
  } catch {
    parsed = undefined
  }
  const [given, createdAtMs, buildId]: unknown[] = Array.isArray(parsed) ? parsed : []
  if (given !== seal || typeof createdAtMs !== 'number' || typeof buildId !== 'string' || !isBuildId(buildId))
    throw invalidArgument('page_token is not one that this list gave out for this tenant and filter')
  return { createdAtMs, buildId }
}
