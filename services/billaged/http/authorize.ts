import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Problem } from '#platform/http'
import { actsFor, type Caller, may, type Recognised, type Scope } from '../access.ts'

/** Who may call which route. Every route is listed; one that is not fails the start, not the caller. `portal`: only a
 *  portal token, which no other route takes; the routes look it up themselves. */
export const routeScopes: Readonly<Record<string, Scope | 'open' | 'portal'>> = {
  'GET /health': 'open',
  'GET /health/live': 'open',
  'GET /health/ready': 'open',
  'GET /health/detailed': 'open', // decides by itself: loopback or billaged:read
  'GET /ready': 'open',
  'GET /stats': 'open',
  'GET /metrics': 'open',
  'GET /openapi.json': 'open',
  'POST /api/v1/events': 'billaged:ingest',
  'GET /api/v1/events': 'billaged:read',
  'POST /v1/events/void': 'billaged:bill',
  'GET /api/v1/meters': 'billaged:read',
  'POST /api/v1/meters': 'billaged:admin',
  'GET /api/v1/meters/:id': 'billaged:read',
  'PUT /api/v1/meters/:id': 'billaged:admin',
  'DELETE /api/v1/meters/:id': 'billaged:admin',
  'GET /api/v1/meters/:id/query': 'billaged:read',
  'POST /api/v1/meters/:id/query': 'billaged:read',
  'GET /api/v1/meters/:id/subjects': 'billaged:read',
  'GET /api/v1/meters/:id/group-by/:key/values': 'billaged:read',
  'GET /api/v1/portal/tokens': 'billaged:admin',
  'POST /api/v1/portal/tokens': 'billaged:admin',
  'POST /api/v1/portal/tokens/invalidate': 'billaged:admin',
  'GET /v1/portal/tokens': 'billaged:admin',
  'POST /v1/portal/tokens': 'billaged:admin',
  'POST /v1/portal/tokens/invalidate': 'billaged:admin',
  'GET /api/v1/portal/meters/:slug/query': 'portal',
  'GET /v1/portal/me': 'portal',
  'GET /v1/portal/spend': 'portal',
  'GET /v1/portal/usage': 'portal',
  'GET /v1/portal/vms/:vm': 'portal',
  'GET /v1/portal/vms/:vm/timeline': 'portal',
  'GET /v1/portal/invoices': 'portal',
  'GET /v1/portal/invoices/:id': 'portal',
  'GET /v1/portal/invoices/:id/receipt': 'portal',
  'GET /v1/portal/receipts/key': 'portal',
  'GET /v1/portal/stream/costs': 'portal',
  'GET /portal/invoices/:id': 'portal',
  'GET /portal/invoices/:id/receipt': 'portal',
  'GET /portal': 'open', // without a token: a form for one
  'POST /portal/session': 'open',
  'GET /api/v1/subjects': 'billaged:read',
  'GET /api/v1/subjects/:id': 'billaged:read',
  'POST /api/v1/subjects': 'billaged:admin',
  'DELETE /api/v1/subjects/:id': 'billaged:admin',
  'GET /api/v1/debug/metrics': 'billaged:read',
  'GET /api/v1/*': 'billaged:read',
  'GET /api/v2/*': 'billaged:read',
  'POST /api/v1/*': 'billaged:read',
  'POST /api/v2/*': 'billaged:read',
  'PUT /api/v1/*': 'billaged:read',
  'PUT /api/v2/*': 'billaged:read',
  'PATCH /api/v1/*': 'billaged:read',
  'PATCH /api/v2/*': 'billaged:read',
  'DELETE /api/v1/*': 'billaged:read',
  'DELETE /api/v2/*': 'billaged:read',
  'GET /v1/customers': 'billaged:read',
  'GET /v1/customers/:id': 'billaged:read',
  'PUT /v1/customers/:id': 'billaged:admin',
  'GET /v1/customers/:id/usage': 'billaged:read',
  'GET /v1/customers/:id/spend': 'billaged:read',
  'GET /v1/customers/:id/ledger': 'billaged:read',
  'GET /v1/vms/:customer/:vm': 'billaged:read',
  'GET /v1/vms/:customer/:vm/timeline': 'billaged:read',
  'POST /v1/preview': 'billaged:read',
  'GET /v1/plans': 'billaged:read',
  'POST /v1/plans': 'billaged:bill',
  'GET /v1/plans/:id/versions': 'billaged:read',
  'POST /v1/plans/:id/versions': 'billaged:bill',
  'GET /v1/subscriptions': 'billaged:read',
  'POST /v1/subscriptions': 'billaged:bill',
  'POST /v1/subscriptions/:id/end': 'billaged:bill',
  'POST /v1/preview/compare': 'billaged:bill',
  'GET /v1/exports/focus': 'billaged:read',
  'POST /v1/reconcile': 'billaged:bill',
  'GET /v1/unrated': 'billaged:read',
  'GET /v1/credits': 'billaged:read',
  'POST /v1/credits': 'billaged:bill',
  'GET /v1/outages': 'billaged:bill',
  'POST /v1/outages/credit': 'billaged:bill',
  'GET /v1/budgets': 'billaged:read',
  'POST /v1/budgets': 'billaged:bill',
  'DELETE /v1/budgets/:id': 'billaged:bill',
  'GET /v1/alerts': 'billaged:read',
  // Addresses of webhooks are often secrets themselves; what they were told is not.
  'GET /v1/webhooks': 'billaged:admin',
  'POST /v1/webhooks': 'billaged:admin',
  'GET /v1/webhooks/:id': 'billaged:admin',
  'PUT /v1/webhooks/:id': 'billaged:admin',
  'DELETE /v1/webhooks/:id': 'billaged:admin',
  'POST /v1/webhooks/:id/test': 'billaged:admin',
  'GET /v1/webhooks/deliveries': 'billaged:read',
  'GET /v1/webhooks/deliveries/:id': 'billaged:read',
  'POST /v1/webhooks/deliveries/:id/replay': 'billaged:admin',
  'GET /v1/stream/costs': 'billaged:read',
  'PUT /v1/customers/:id/stripe': 'billaged:bill',
  'GET /v1/stripe/pushes': 'billaged:bill',
  'POST /v1/stripe/webhook': 'open', // signed by Stripe
  'GET /v1/invoices': 'billaged:read',
  'GET /v1/invoices/draft': 'billaged:read',
  'GET /v1/invoices/:id': 'billaged:read',
  'POST /v1/invoices/:id/finalise': 'billaged:bill',
  'POST /v1/invoices/:id/void': 'billaged:bill',
  'GET /v1/invoices/:id/lines/:line/explain': 'billaged:read',
  'GET /v1/lines/:line/explain': 'billaged:read',
  'GET /v1/invoices/:id/receipt': 'billaged:read',
  'GET /v1/invoices/:id/evidence': 'billaged:read',
  'GET /v1/receipts/key': 'billaged:read',
  'GET /v1/close/:period': 'billaged:bill',
  'POST /v1/close/:period': 'billaged:bill',
  'GET /v1/conflicts': 'billaged:bill',
  'GET /v1/quarantine': 'billaged:bill',
  'POST /v1/quarantine/:id/release': 'billaged:bill',
  'POST /v1/quarantine/:id/discard': 'billaged:bill',
  'GET /v1/replicas': 'billaged:bill',
  'POST /v1/replicas/:id/retire': 'billaged:admin',
  'POST /v1/verify': 'billaged:bill',
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by `authorize` on every route that is not open. */
    billagedCaller: Caller | null
  }
}

export function authorizeRoutes(app: FastifyInstance, recognise: (authorization: string | undefined) => Recognised) {
  app.decorateRequest('billagedCaller', null)
  app.addHook('onRoute', ({ method, url }) => {
    for (const verb of [method].flat())
      if (verb !== 'HEAD' && routeScopes[`${verb} ${url}`] === undefined)
        throw new Error(`BUG: ${verb} ${url} is not in routeScopes`)
  })
  app.addHook('onRequest', async request => {
    const { url } = request.routeOptions
    if (url === undefined) return
    const scope = routeScopes[`${request.method === 'HEAD' ? 'GET' : request.method} ${url}`]
    if (scope === 'open' || scope === 'portal') return
    request.billagedCaller = mustBeAllowed(recognise(request.headers.authorization), scope)
  })
}

export function mustBeAllowed(caller: Recognised, scope: Scope | undefined): Caller {
  if (caller === 'none' || caller === 'unknown')
    throw new Problem({
      status: 401,
      reason: caller === 'none' ? 'KEY_REQUIRED' : 'KEY_UNKNOWN',
      detail:
        caller === 'none'
          ? 'Send Authorization: Bearer <key>. The operator key is BILLAGED_API_KEY, or lies in admin.key in the data folder.'
          : 'This key is unknown, revoked or expired.',
      headers: { 'www-authenticate': 'Bearer' },
    })
  if (caller === 'unavailable')
    throw new Problem({
      status: 503,
      reason: 'DATABASE_AWAY',
      detail: 'This key cannot be checked while the database is away; try again.',
      headers: { 'retry-after': '5' },
    })
  if (scope === undefined || !may(caller, scope))
    throw new Problem({ status: 403, reason: 'SCOPE_MISSING', detail: `This key lacks the scope ${scope}.` })
  return caller
}

export function callerOf(request: FastifyRequest): Caller {
  if (request.billagedCaller === null) throw new Error('BUG: an open route asks who calls')
  return request.billagedCaller
}

/** Not yours and not there look the same. */
export function mustActFor(request: FastifyRequest, customerId: string) {
  if (!actsFor(callerOf(request), customerId))
    throw new Problem({ status: 404, reason: 'NOT_FOUND', detail: `There is no customer ${customerId}.` })
}

/** Plans and subscriptions belong to the installation. */
export function mustBeOperator(request: FastifyRequest, what = 'do this') {
  if (callerOf(request).tenant !== null)
    throw new Problem({ status: 403, reason: 'OPERATOR_ONLY', detail: `Only an operator may ${what}.` })
}
