// The admin API: one scope, authorised before anything is read, errors in the guide's shape.

import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Tenancy, Tenant } from '#platform/tenancy/tenancy'
import type { Clock } from '#platform/time'
import type { Config } from '../../config.ts'
import { renderError } from '../../dialects/errors.ts'
import { bodyTooLarge, invalidRequest, notImplemented, Refusal } from '../../errors.ts'
import type { Admission } from '../../holds/admission.ts'
import type { Leases } from '../../holds/leases.ts'
import type { LiveHub } from '../../observe/live.ts'
import type { ImplicitBudgets } from '../../store/budgets.ts'
import type { CatalogWatch } from '../../store/watch-catalog.ts'
import { parseObject, StrictJsonError } from '../../strict-json.ts'
import type { Need, Operator, Operators } from '../operator.ts'
import { unauthorized } from '../operator.ts'
import { registerBudgets } from './budgets.ts'
import { registerHolds } from './holds.ts'
import { idOf, notFound } from './input.ts'
import { registerKeys } from './keys.ts'
import { registerLive } from './live.ts'
import { registerPrices } from './prices.ts'
import { registerSession } from './session.ts'
import { registerTenants } from './tenants.ts'
import { registerUsage } from './usage.ts'

export interface Admin {
  config: Config
  sql: Sql
  clock: Clock
  log: Logger
  version: string
  tenancy: Tenancy
  operators: Operators
  catalog: CatalogWatch
  admission: Admission
  leases: Leases
  live: LiveHub
  nodeId: string
  /** What configuration gives this tenant where nothing is stored. */
  implicitFor(tenant: Tenant): ImplicitBudgets
  /** After a change of budgets or settings: memory is current and slices fit it when this resolves. */
  changed(): Promise<void>
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `public`: no sign-in needed. */
    need?: Need | 'public'
  }
}

const bodyBytesMax = 1024 * 1024

export function registerAdmin(app: FastifyInstance, admin: Admin): void {
  app.register(async scope => {
    scope.decorateRequest('operator', null)
    readJson(scope)
    scope.addHook('onRequest', async (request, reply) => {
      reply.header('cache-control', 'no-store')
      const need = request.routeOptions.config.need ?? (request.method === 'GET' ? 'read' : 'administer')
      if (need !== 'public') request.operator = await admin.operators.authorize(request, need)
    })
    answerAdminErrors(scope, admin.log)
    registerSession(scope, admin)
    registerTenants(scope, admin)
    registerBudgets(scope, admin)
    registerKeys(scope, admin)
    registerUsage(scope, admin)
    registerPrices(scope, admin)
    registerHolds(scope, admin)
    registerLive(scope, admin)
    registerNotYet(scope)
  })
}

/** Strict JSON; an empty body is no body, because several POSTs need none. */
export function readJson(scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('application/json', { parseAs: 'buffer', bodyLimit: bodyBytesMax }, (_, body, done) => {
    const bytes = Buffer.isBuffer(body) ? body : Buffer.from(body)
    if (bytes.length === 0) return done(null, undefined)
    try {
      done(null, parseObject(bytes).value)
    } catch (error) {
      done(error instanceof StrictJsonError ? invalidRequest(error.message) : (error as Error))
    }
  })
}

export function answerAdminErrors(scope: FastifyInstance, log: Logger): void {
  scope.setErrorHandler((error, request, reply) => {
    const refusal = toRefusal(error, request, log)
    if (reply.raw.headersSent) return void reply.raw.destroy()
    reply
      .code(refusal.status)
      .headers({ ...refusal.headers })
      .type('application/json; charset=utf-8')
      .send(JSON.stringify(renderError('admin', refusal, request.id)))
  })
}

function toRefusal(error: unknown, request: FastifyRequest, log: Logger): Refusal {
  if (error instanceof Refusal) return error
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return bodyTooLarge(bodyBytesMax)
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE')
    return new Refusal({
      status: 415,
      reason: 'UNSUPPORTED_MEDIA_TYPE',
      message: 'This Content-Type is not taken here; send application/json',
    })
  if (code === 'FST_ERR_CTP_INVALID_CONTENT_LENGTH')
    return invalidRequest('The body is not as long as Content-Length says')
  log.error({ err: error, requestId: request.id, route: request.routeOptions.url }, 'an admin request failed')
  return new Refusal({
    status: 503,
    reason: 'INTERNAL',
    message: 'This could not be done now; the log line with this request id says why',
    headers: { 'retry-after': '5' },
  })
}

/** Guide routes that this release does not serve. */
function registerNotYet(scope: FastifyInstance): void {
  const routes: readonly (readonly [methods: string[], url: string, what: string])[] = [
    [['GET', 'POST'], '/admin/tenant/:id/tags', 'Tags'],
    [['GET', 'PUT', 'DELETE'], '/admin/tenant/:id/tags/:tagId', 'Tags'],
    [['PATCH'], '/admin/tenant/:id/tags/:tagId/deactivate', 'Tags'],
    [['PATCH'], '/admin/tenant/:id/tags/:tagId/activate', 'Tags'],
    [['GET', 'POST'], '/admin/tenant/:id/tags/:tagId/budgets', 'Tag budgets'],
    [['PUT', 'DELETE'], '/admin/budget/tag/:id', 'Tag budgets'],
    [['GET'], '/admin/tenant/:id/tag-analytics', 'Tag analytics'],
    [['GET'], '/admin/tenant/:id/sessions', 'Sessions'],
    [['GET'], '/admin/sessions/:sessionId/usage', 'Sessions'],
    [['GET', 'PUT', 'DELETE'], '/admin/tenant/:id/sessions/:sid/budget', 'Session budgets'],
    [['GET', 'PUT', 'DELETE'], '/admin/tenant/:id/default-session-budget', 'Session budgets'],
    [['GET'], '/admin/providers/status', 'Provider status'],
    [['GET'], '/admin/providers/:p/health', 'Provider status'],
    [['POST'], '/admin/providers/:p/test', 'Provider tests'],
    [['POST'], '/admin/holds/:id/settle', 'Ending a hold by hand'],
    [['POST'], '/admin/holds/:id/release', 'Ending a hold by hand'],
  ]
  for (const [methods, url, what] of routes)
    scope.route({
      method: methods,
      url,
      handler: async () => {
        throw notImplemented(`${what}: not served by this release`)
      },
    })
}

/** @throws Refusal 400 or 404 */
export function tenantOf(admin: Admin, request: FastifyRequest): Tenant {
  const tenant = admin.tenancy.tenants.byId(idOf(request, 'id', 'tenant'))
  if (!tenant) throw notFound('Tenant')
  return tenant
}

export function operatorOf(request: FastifyRequest): Operator {
  if (!request.operator) throw unauthorized()
  return request.operator
}
