// Refusals over plain HTTP: problem details, and the older shape on the routes that have always had it.

import { Code, ConnectError } from '@connectrpc/connect'
import { codeToString } from '@connectrpc/connect/protocol-connect'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Problem } from '#platform/http'
import { isUnavailable } from '#platform/postgres'
import { AccessDenied, type Caller, type Scope } from '../access.ts'
import type { Context } from '../rpc/context.ts'

/** @throws Problem */
export function identifyHttp(
  c: Context,
  request: FastifyRequest,
  scope: Scope,
  o?: { tenantOptional?: boolean },
): Caller {
  const header = (name: string) => {
    const value = request.headers[name]
    return typeof value === 'string' ? value : undefined
  }
  try {
    return c.access.identify(header, scope, o)
  } catch (error) {
    throw error instanceof AccessDenied ? accessProblem(error) : error
  }
}

function accessProblem({ kind, message }: AccessDenied): Problem {
  switch (kind) {
    case 'unauthenticated':
      return new Problem({
        status: 401,
        reason: 'UNAUTHENTICATED',
        detail: message,
        headers: { 'www-authenticate': 'Bearer' },
      })
    case 'permission_denied':
      return new Problem({ status: 403, reason: 'PERMISSION_DENIED', detail: message })
    case 'unavailable':
      return new Problem({ status: 503, reason: 'KEYS_UNAVAILABLE', detail: message, headers: { 'retry-after': '5' } })
    default:
      return kind satisfies never
  }
}

/** What the parts shared with RPC refuse, as a Problem. */
export async function asHttp<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw asProblem(error) ?? error
  }
}

function asProblem(error: unknown): Problem | undefined {
  if (error instanceof ConnectError && error.code === Code.NotFound)
    return new Problem({ status: 404, reason: 'BUILD_NOT_FOUND', detail: error.rawMessage })
  if (isUnavailable(error))
    return new Problem({
      status: 503,
      reason: 'DATABASE_UNAVAILABLE',
      detail: 'The database is away; try again.',
      headers: { 'retry-after': '5' },
    })
  return undefined
}

const codeOfStatus: Readonly<Record<number, Code>> = {
  400: Code.InvalidArgument,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.NotFound,
  429: Code.ResourceExhausted,
  503: Code.Unavailable,
}

/** `{"error":{"code","message","details"}}` on the old GET aliases. */
export function formatOldError(problem: Problem, request: FastifyRequest, reply: FastifyReply): boolean {
  if (!request.url.startsWith('/builder.v1.BuilderService/')) return false
  const code = codeToString(codeOfStatus[problem.status] ?? Code.Internal)
  void reply
    .type('application/json')
    .send({ error: { code, message: problem.message, details: { reason: problem.reason } } })
  return true
}
