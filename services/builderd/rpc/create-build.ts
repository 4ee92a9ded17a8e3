import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { clone, create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { HandlerContext } from '@connectrpc/connect'
import {
  type BuildConfig,
  BuildConfigSchema,
  type CreateBuildRequest,
  CreateBuildRequestSchema,
  CreateBuildResponseSchema,
  TenantTier,
} from '#proto/builder/v1/builder_pb'
import { AccessDenied, type Caller } from '../access.ts'
import { newBuildId } from '../build-state.ts'
import { FieldError } from '../errors.ts'
import { lowered } from '../quotas/limits.ts'
import { QuotaExceeded } from '../quotas/violation.ts'
import { type BuildRequest, readRequest } from '../request.ts'
import { seal } from '../secrets.ts'
import { acceptBuild } from '../store/builds.ts'
import { type Context, limitsOf } from './context.ts'
import { stateNumber, tierNumber } from './messages.ts'
import { asRpcError, diskFull, otherTenant } from './refusals.ts'

const idempotencyKeyPattern = /^[\x21-\x7e]{1,128}$/

export function createBuild(c: Context) {
  return async (message: CreateBuildRequest, { requestHeader }: HandlerContext) => {
    const named = requestHeader.get('x-tenant-id') ?? ''
    try {
      const caller = c.access.identify(name => requestHeader.get(name) ?? undefined, 'builds:write')
      const request = readRequest(message.config, c.defaultRegistry, process.arch)
      if (request.tenantId !== caller.tenantId) throw otherTenant(request.tenantId)
      requireLocalSource(c, request, caller)
      if (!(await c.hasRoom())) throw diskFull()
      const accepted = await accept(
        c,
        message,
        request,
        caller,
        readIdempotencyKey(requestHeader.get('idempotency-key')),
      )
      return create(CreateBuildResponseSchema, {
        buildId: accepted.buildId,
        state: stateNumber[accepted.state],
        createdAt: timestampFromDate(accepted.createdAt),
        rootfsPath: accepted.rootfsPath,
      })
    } catch (error) {
      if (error instanceof QuotaExceeded) {
        c.onViolation(named, error.violation)
        c.log.warn({ tenant: named, quota: error.violation.quotaType }, `quota exceeded: ${error.message}`)
      }
      throw asRpcError(error, named)
    }
  }
}

async function accept(
  c: Context,
  message: CreateBuildRequest,
  request: BuildRequest,
  caller: Caller,
  idempotencyKey: string | undefined,
) {
  const { tenantId } = request
  const { tier, limits } = await limitsOf(c, tenantId)
  if (request.claimedTier !== TenantTier.UNSPECIFIED && request.claimedTier !== tierNumber[tier])
    c.log.info({ tenant: tenantId, tier, claimed: request.claimedTier }, 'the tier in the request is ignored')
  const nowMs = c.clock.now()
  const buildId = newBuildId(nowMs, randomBytes(10))
  const credentials = request.source.kind === 'docker_image' ? request.source.credentials : undefined
  const accepted = await acceptBuild(
    c.sql,
    {
      buildId,
      tenantId,
      customerId: request.customerId || caller.customerId,
      tier,
      name: request.name,
      config: toBinary(BuildConfigSchema, withoutSecrets(message.config)),
      labels: request.labels,
      sourceKind: request.source.kind,
      imageRef: request.imageRef,
      priority: request.priority,
      limits: lowered(limits, request.limits),
      nowMs,
      rootfsPath: join(c.outputDir, buildId, 'filesystem.tar'),
      sealedSecrets: credentials && seal(c.sealKey, buildId, credentials),
      idempotency:
        idempotencyKey === undefined
          ? undefined
          : {
              key: idempotencyKey,
              hash: createHash('sha256').update(toBinary(CreateBuildRequestSchema, message)).digest(),
            },
    },
    c.queuedMax,
  )
  if (accepted.isNew)
    c.log.info({ buildId, tenant: tenantId, image: request.imageRef, by: caller.name }, 'build accepted')
  return accepted
}

/** What is stored and shown: user name and registry stay, so that one can see which account was meant. */
export function withoutSecrets(config: BuildConfig | undefined): BuildConfig {
  const safe = config ? clone(BuildConfigSchema, config) : create(BuildConfigSchema)
  const source = safe.source?.sourceType
  if (source?.case === 'dockerImage' && source.value.auth) {
    source.value.auth.password = ''
    source.value.auth.token = ''
  }
  return safe
}

/** The request of a stored build; its secrets are elsewhere. */
export function storedRequest(config: Uint8Array, defaultRegistry: string): BuildRequest {
  return readRequest(fromBinary(BuildConfigSchema, config), defaultRegistry, process.arch)
}

function requireLocalSource({ localSourcesDir }: Context, { source }: BuildRequest, caller: Caller) {
  if (source.kind !== 'layout') return
  if (localSourcesDir === undefined)
    throw new FieldError(
      'docker_image.image_uri',
      'image_uri oci: needs LOCAL_SOURCES_DIR, which this builderd does not have',
    )
  if (!caller.isAdmin) throw new AccessDenied('permission_denied', 'image_uri oci: needs the scope builds:admin')
}

function readIdempotencyKey(header: string | null): string | undefined {
  if (header === null || header === '') return undefined
  if (!idempotencyKeyPattern.test(header))
    throw new FieldError('Idempotency-Key', 'Idempotency-Key must be 1–128 printable ASCII characters')
  return header
}
