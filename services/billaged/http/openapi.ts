import type { FastifyInstance } from 'fastify'
import { routeScopes } from './authorize.ts'

// GET /openapi.json, from the table of routes: it is never short of one. A route without words here is in it by method and path. Bodies and
// answers are the types of api.ts and alerts/api.ts.

interface RouteDoc {
  summary: string
  query?: string
  /** The type of the body in api.ts, or what it is. */
  body?: string
  answer?: string
}

const span = 'from to wait'
const page = 'cursor limit'

/** By method and path, as in routeScopes. OpenMeter's areas that are not here have none. */
export const routeDocs: Readonly<Record<string, RouteDoc>> = {
  'GET /health': { summary: 'Health in the guide’s shape.', answer: 'Health' },
  'GET /health/live': { summary: 'The process is alive.' },
  'GET /health/ready': { summary: 'Samples can be acknowledged.' },
  'GET /health/detailed': { summary: 'Every dependency; loopback, or scope billaged:read of an operator.' },
  'GET /ready': { summary: 'As /health/ready.' },
  'GET /stats': { summary: 'VMs alive, the aggregation interval, bytes that wait.', answer: 'Stats' },
  'GET /metrics': { summary: 'Prometheus text.' },
  'GET /openapi.json': { summary: 'This document.' },
  'POST /api/v1/events': {
    summary: 'Takes CloudEvents 1.0: structured, batched, binary, or plain JSON. 204 when durable.',
  },
  'GET /api/v1/events': {
    summary: 'Events, newest first, with what is wrong with them.',
    query: 'from to limit subject id hasError',
  },
  'POST /v1/events/void': { summary: 'An event that must not count.', body: '{ source, id, reason }' },
  'GET /api/v1/meters': { summary: 'All meters.' },
  'POST /api/v1/meters': { summary: 'A new meter; events that came before it count.', body: 'OpenMeter’s meter' },
  'GET /api/v1/meters/:id': { summary: 'One meter, by id or slug.' },
  'PUT /api/v1/meters/:id': { summary: 'Name, description, groups and metadata.', body: 'OpenMeter’s meter update' },
  'DELETE /api/v1/meters/:id': { summary: 'Ends a meter; its events stay.' },
  'GET /api/v1/meters/:id/query': {
    summary: 'What a meter makes of the usage between two instants; JSON or CSV.',
    query: 'from to windowSize windowTimeZone subject filterCustomerId groupBy filterGroupBy',
  },
  'POST /api/v1/meters/:id/query': { summary: 'The same, asked by a body.', body: 'OpenMeter’s query' },
  'GET /api/v1/meters/:id/subjects': { summary: 'Subjects of a meter’s events.' },
  'GET /api/v1/meters/:id/group-by/:key/values': { summary: 'Values of one group of a meter.' },
  'GET /api/v1/subjects': { summary: 'Customers, and other names that are mapped to them.' },
  'GET /api/v1/subjects/:id': { summary: 'One subject.' },
  'POST /api/v1/subjects': {
    summary: 'Names customers, or maps subjects to them with customerId; their events move along.',
    body: '[{ key, displayName, metadata, customerId }]',
  },
  'DELETE /api/v1/subjects/:id': { summary: 'Ends the mapping of a subject.' },
  'GET /api/v1/debug/metrics': { summary: 'Events since midnight UTC by subject, as Prometheus text.' },
  'GET /api/v1/portal/tokens': { summary: 'Portal tokens, in OpenMeter’s shape.', query: 'limit' },
  'POST /api/v1/portal/tokens': { summary: 'A portal token of a subject.', body: '{ subject, allowedMeterSlugs }' },
  'POST /api/v1/portal/tokens/invalidate': { summary: 'Ends portal tokens.', body: '{ id, subject }' },
  'GET /api/v1/portal/meters/:slug/query': {
    summary: 'A meter of the token’s subject.',
    query: 'from to windowSize windowTimeZone groupBy filterGroupBy',
  },
  'GET /v1/customers': { summary: 'Customers.', query: page, answer: 'CustomerList' },
  'GET /v1/customers/:id': { summary: 'A customer’s settings.', answer: 'Customer' },
  'PUT /v1/customers/:id': { summary: 'Changes a customer’s settings.', answer: 'Customer' },
  'GET /v1/customers/:id/usage': { summary: 'Usage, with the ledger’s seconds.', query: `${span} by`, answer: 'Usage' },
  'GET /v1/customers/:id/spend': {
    summary: 'The running period so far, its forecast, the budget.',
    query: 'wait',
    answer: 'Spend',
  },
  'PUT /v1/customers/:id/stripe': { summary: 'Who the customer is at Stripe.', body: '{ stripeCustomerId }' },
  'GET /v1/vms/:customer/:vm': {
    summary: 'Totals, lives and what lowered the bill of one VM.',
    query: span,
    answer: 'VmDetail',
  },
  'GET /v1/vms/:customer/:vm/timeline': { summary: 'How the VM’s time is known.', query: span, answer: 'VmTimeline' },
  'POST /v1/preview': {
    summary: 'Rates a period under the customer’s or another plan; nothing is stored.',
    body: 'PreviewRequest',
    answer: 'Priced',
  },
  'POST /v1/preview/compare': {
    summary: 'Customers under their own and another plan; JSON or CSV.',
    answer: 'Comparison',
  },
  'GET /v1/plans': { summary: 'Plans.', query: page },
  'POST /v1/plans': { summary: 'A new plan.', body: '{ id, name, currency }' },
  'GET /v1/plans/:id/versions': { summary: 'A plan’s versions.' },
  'POST /v1/plans/:id/versions': { summary: 'A version that follows all there are.' },
  'GET /v1/subscriptions': { summary: 'Who is on which plan.', query: `customerId ${page}` },
  'POST /v1/subscriptions': { summary: 'Puts a customer on a plan.', body: '{ customerId, planId, from, to }' },
  'POST /v1/subscriptions/:id/end': {
    summary: 'Ends a subscription, now, later or in the past; what closed periods said becomes corrections.',
    body: '{ at }',
  },
  'GET /v1/credits': { summary: 'Credits and what is left of them.', query: 'customerId' },
  'POST /v1/credits': { summary: 'Grants a credit; Idempotency-Key makes it once.', answer: 'CreditView' },
  'GET /v1/budgets': { summary: 'Budgets and the thresholds that fired.', query: page, answer: 'BudgetList' },
  'POST /v1/budgets': {
    summary: 'Sets a customer’s budget and its thresholds.',
    body: '{ customerId, budgetNano, alertPercents, stopRequestedAtFull }',
    answer: 'Budget',
  },
  'DELETE /v1/budgets/:id': { summary: 'Ends a customer’s budget.' },
  'GET /v1/alerts': { summary: 'Thresholds that fired, oldest first.', query: `customer ${page}`, answer: 'AlertList' },
  'GET /v1/webhooks': { summary: 'Endpoints that are told of things.', query: page },
  'POST /v1/webhooks': {
    summary: 'A new endpoint; its secret is shown this once.',
    body: '{ url, customerId, types, description, enabled }',
    answer: 'WebhookEndpoint',
  },
  'GET /v1/webhooks/:id': { summary: 'One endpoint.', answer: 'WebhookEndpoint' },
  'PUT /v1/webhooks/:id': {
    summary: 'Changes an endpoint, or its secret with rotateSecret.',
    answer: 'WebhookEndpoint',
  },
  'DELETE /v1/webhooks/:id': { summary: 'Ends an endpoint and what waits for it.' },
  'POST /v1/webhooks/:id/test': { summary: 'One attempt with a webhook.test, here and now.', answer: 'WebhookTest' },
  'GET /v1/webhooks/deliveries': {
    summary: 'What was told and how that went, newest first.',
    query: `webhook state ${page}`,
  },
  'GET /v1/webhooks/deliveries/:id': { summary: 'One delivery.', answer: 'WebhookDelivery' },
  'POST /v1/webhooks/deliveries/:id/replay': { summary: 'Tells it again.', answer: 'WebhookDelivery' },
  'GET /v1/stream/costs': {
    summary: 'Server-sent events cost, alert and gap; Last-Event-ID brings missed alerts.',
    query: 'customer lastEventId',
    answer: 'CostSnapshot',
  },
  'GET /v1/portal/tokens': { summary: 'Portal tokens, newest first.', query: 'customer limit' },
  'POST /v1/portal/tokens': { summary: 'A portal token and its link.', body: '{ customerId, ttl, allowedMeterSlugs }' },
  'POST /v1/portal/tokens/invalidate': { summary: 'Ends portal tokens.', body: '{ id, subject }' },
  'GET /v1/portal/me': { summary: 'Whose portal this is.' },
  'GET /v1/portal/spend': { summary: 'As /v1/customers/{id}/spend.', query: 'wait', answer: 'Spend' },
  'GET /v1/portal/usage': { summary: 'As /v1/customers/{id}/usage.', query: `${span} by`, answer: 'Usage' },
  'GET /v1/portal/vms/:vm': { summary: 'As /v1/vms/{customer}/{vm}.', query: span, answer: 'VmDetail' },
  'GET /v1/portal/vms/:vm/timeline': {
    summary: 'As /v1/vms/{customer}/{vm}/timeline.',
    query: span,
    answer: 'VmTimeline',
  },
  'GET /v1/portal/invoices': { summary: 'Invoices that are not drafts.' },
  'GET /v1/portal/invoices/:id': { summary: 'One of them; .html, .pdf, .csv, .json.', answer: 'Invoice' },
  'GET /v1/portal/invoices/:id/receipt': { summary: 'Its receipt.' },
  'GET /v1/portal/receipts/key': { summary: 'The key that receipts are signed with.' },
  'GET /v1/portal/stream/costs': { summary: 'As /v1/stream/costs.' },
  'GET /portal': { summary: 'The portal page, or a form for its token.' },
  'POST /portal/session': { summary: 'Takes a portal token into a cookie.' },
  'GET /portal/invoices/:id': { summary: 'A document of an invoice, by the cookie.' },
  'GET /portal/invoices/:id/receipt': { summary: 'A receipt, by the cookie.' },
  'GET /v1/invoices': { summary: 'Invoices, newest periods first.', query: `customer period state ${page}` },
  'GET /v1/invoices/draft': {
    summary: 'What a period’s invoice says now.',
    query: 'customer period',
    answer: 'Invoice',
  },
  'GET /v1/invoices/:id': { summary: 'An invoice; .html, .pdf, .csv, .json.', answer: 'Invoice' },
  'POST /v1/invoices/:id/finalise': { summary: 'Closes its period.', answer: 'Invoice' },
  'POST /v1/invoices/:id/void': { summary: 'Makes it void and opens a replacement.', body: '{ reason }' },
  'GET /v1/invoices/:id/lines/:line/explain': {
    summary: 'Where a line comes from.',
    query: 'vm',
    answer: 'Explanation',
  },
  'GET /v1/lines/:line/explain': { summary: 'The same, by the line alone.', query: 'vm', answer: 'Explanation' },
  'GET /v1/invoices/:id/receipt': { summary: 'The signed receipt.' },
  'GET /v1/invoices/:id/evidence': { summary: 'What the usage was made of, a line an hour.' },
  'GET /v1/receipts/key': { summary: 'The key that receipts are signed with.' },
  'GET /v1/exports/focus': { summary: 'FOCUS 1.2 as CSV.', query: 'period customer' },
  'POST /v1/reconcile': { summary: 'Compares with another biller’s amounts; nothing is stored.' },
  'GET /v1/unrated': {
    summary: 'What runs up unpriced in running periods.',
    query: `customer ${page}`,
    answer: 'UnratedList',
  },
  'GET /v1/conflicts': { summary: 'Instants with several different readings or contents; the least is billed.' },
  'GET /v1/close/:period': { summary: 'What is ready and what is not.', query: 'customer', answer: 'CloseReport' },
  'POST /v1/close/:period': {
    summary: 'Closes the periods that start in a month.',
    body: '{ customers, dryRun, force }',
    answer: 'CloseReport',
  },
  'GET /v1/quarantine': { summary: 'Doubtful samples and events.', query: `customer state ${page}` },
  'POST /v1/quarantine/:id/release': { summary: 'Takes one into the set.' },
  'POST /v1/quarantine/:id/discard': { summary: 'Leaves one out for good.' },
  'GET /v1/replicas': { summary: 'Replicas and how far they have folded.' },
  'POST /v1/replicas/:id/retire': { summary: 'Nobody waits for it any more.' },
  'POST /v1/verify': { summary: 'Recomputes what is stored and tells the differences.' },
  'GET /v1/stripe/pushes': { summary: 'What was brought to Stripe.', query: 'customer limit' },
  'POST /v1/stripe/webhook': { summary: 'Stripe’s notices, signed.' },
}

export function openapiRoute(app: FastifyInstance, o: { version: string }) {
  const document = openapi(o.version)
  app.get('/openapi.json', async () => document)
}

function openapi(version: string) {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const [route, scope] of Object.entries(routeScopes)) {
    const [method = '', pattern = ''] = route.split(' ')
    if (pattern.includes('*')) continue
    const path = pattern.replace(/:(\w+)/g, '{$1}')
    const doc = routeDocs[route] ?? { summary: route }
    paths[path] = { ...paths[path], [method.toLowerCase()]: operation(doc, pattern, scope) }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'billaged',
      version,
      description:
        'Times are RFC 3339 UTC; money and quantities are decimal strings in base units. Lists take cursor and limit (1000 at most).',
    },
    paths,
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer' }, portal: { type: 'http', scheme: 'bearer' } },
      schemas: {
        Problem: {
          type: 'object',
          required: ['type', 'title', 'status', 'detail', 'reason', 'requestId'],
          properties: {
            type: { type: 'string' },
            title: { type: 'string' },
            status: { type: 'integer' },
            detail: { type: 'string' },
            reason: { type: 'string', description: 'Stable; see docs/errors.md.' },
            requestId: { type: 'string' },
          },
        },
      },
    },
  }
}

function operation(doc: RouteDoc, pattern: string, scope: string) {
  const parameters = [
    ...[...pattern.matchAll(/:(\w+)/g)].map(([, name]) => ({
      name,
      in: 'path',
      required: true,
      schema: { type: 'string' },
    })),
    ...(doc.query?.split(' ') ?? []).map(name => ({ name, in: 'query', schema: { type: 'string' } })),
  ]
  return {
    summary: doc.summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(doc.body === undefined
      ? {}
      : { requestBody: { description: doc.body, content: { 'application/json': { schema: {} } } } }),
    security: scope === 'open' ? [] : [scope === 'portal' ? { portal: [] } : { key: [scope] }],
    responses: {
      '2XX': { description: doc.answer === undefined ? 'Done.' : `The type ${doc.answer} of api.ts.` },
      default: {
        description: 'A refusal, with what to do about it.',
        content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
      },
    },
  }
}
