// Failures of the domain as Connect errors, each with the reason clients switch on.

import { create } from '@bufbuild/protobuf'
import { Code, ConnectError } from '@connectrpc/connect'
import { isUnavailable } from '#platform/postgres'
import { rpcError } from '#platform/rpc'
import { QuotaViolationSchema } from '#proto/builder/v1/builder_pb'
import { ErrorInfoSchema } from '#proto/google/rpc/error_details_pb'
import { AccessDenied } from '../access.ts'
import { FieldError } from '../errors.ts'
import { QuotaExceeded } from '../quotas/violation.ts'
import { NotThereYet } from '../request.ts'
import { IdempotencyConflict } from '../store/builds.ts'

const domain = 'builderd'

/** What is not the caller's is not there: the same answer, whatever the reason. */
export const buildNotFound = (buildId: string) =>
  rpcError({
    code: Code.NotFound,
    message: `build not found: ${buildId.slice(0, 100)}`,
    reason: 'BUILD_NOT_FOUND',
    domain,
  })

export const wrongState = (message: string) =>
  rpcError({ code: Code.FailedPrecondition, message, reason: 'WRONG_BUILD_STATE', domain })

export const otherTenant = (given: string) =>
  rpcError({
    code: Code.PermissionDenied,
    message: `tenant_id ${JSON.stringify(given.slice(0, 100))} differs from X-Tenant-ID`,
    reason: 'TENANT_MISMATCH',
    domain,
  })

export const invalidArgument = (message: string) =>
  rpcError({ code: Code.InvalidArgument, message, reason: 'INVALID_ARGUMENT', domain })

export const diskFull = () =>
  rpcError({
    code: Code.Unavailable,
    message: 'The disk of this builderd is nearly full, so no builds are accepted until there is room.',
    reason: 'DISK_NEARLY_FULL',
    domain,
    retryAfterS: 60,
  })

/** @param tenantId for the details of a quota refusal */
export function asRpcError(error: unknown, tenantId: string): unknown {
  if (error instanceof FieldError) return invalidArgument(error.message)
  if (error instanceof NotThereYet)
    return rpcError({ code: Code.Unimplemented, message: error.message, reason: 'NOT_THERE_YET', domain })
  if (error instanceof QuotaExceeded) return quotaError(error, tenantId)
  if (error instanceof IdempotencyConflict)
    return rpcError({
      code: Code.AlreadyExists,
      message: 'This Idempotency-Key was used for another request in the last 24 hours.',
      reason: 'IDEMPOTENCY_CONFLICT',
      domain,
    })
  if (error instanceof AccessDenied) return accessError(error)
  if (isUnavailable(error))
    return rpcError({
      code: Code.Unavailable,
      message: 'The database is away; try again.',
      reason: 'DATABASE_UNAVAILABLE',
      domain,
      retryAfterS: 5,
      cause: error,
    })
  return error
}

function accessError({ kind, message }: AccessDenied): ConnectError {
  switch (kind) {
    case 'unauthenticated':
      return rpcError({ code: Code.Unauthenticated, message, reason: 'UNAUTHENTICATED', domain })
    case 'permission_denied':
      return rpcError({ code: Code.PermissionDenied, message, reason: 'PERMISSION_DENIED', domain })
    case 'unavailable':
      return rpcError({ code: Code.Unavailable, message, reason: 'KEYS_UNAVAILABLE', domain, retryAfterS: 5 })
    default:
      return kind satisfies never
  }
}

function quotaError({ violation, message }: QuotaExceeded, tenantId: string): ConnectError {
  const error = new ConnectError(message, Code.ResourceExhausted)
  const { quotaType, current, limit, resetAtMs } = violation
  const metadata: Record<string, string> = {
    tenant_id: tenantId,
    quota_type: quotaType,
    current: String(current),
    limit: String(limit),
    ...(resetAtMs === undefined ? {} : { reset_time: new Date(resetAtMs).toISOString() }),
  }
  error.details.push(
    {
      desc: QuotaViolationSchema,
      value: create(QuotaViolationSchema, { quotaType, currentValue: current, limitValue: limit, message }),
    },
    { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason: 'QUOTA_EXCEEDED', domain, metadata }) },
  )
  return error
}
