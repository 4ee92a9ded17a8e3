import { z } from 'zod'
import { planSchema, versionSchema } from '../rating/plan.ts'
import { budgetBody } from './budgets.ts'
import { closeBody } from './close.ts'
import { creditBody } from './credits.ts'
import { customerBody } from './customers.ts'
import { voidBody as voidEventBody } from './event-list.ts'
import { finaliseBody, voidBody as voidInvoiceBody } from './invoices.ts'
import { querySchema as meterQueryBody } from './meter-query.ts'
import { meterBody, patchBody as meterPatchBody } from './meters.ts'
import { outageCreditBody } from './outages.ts'
import { endBody, subscriptionBody } from './plans.ts'
import { invalidateBody, openMeterBody as openMeterTokenBody, tokenBody } from './portal-tokens.ts'
import { decision } from './quarantine.ts'
import { reconcileBody } from './reconcile.ts'
import { previewBody, whatIfBody } from './spend.ts'
import { customerBody as stripeCustomerBody } from './stripe.ts'
import { subjectsBody } from './subjects.ts'
import { endpointBody, patchBody as endpointPatchBody } from './webhooks.ts'

// What each route takes and answers: the words, the schema that parses its body, and the type that its handler returns.

export interface RouteDoc {
  summary: string
  /** Names of `parameters`. */
  query?: string
  /** What parses the body. */
  body?: z.ZodType
  /** A type of the wire, several with `|` between them, or `[]` behind it for a list. Without one the answer is no JSON of ours. */
  answer?: string
  /** Other forms of the answer, or its only one. */
  media?: string
  /** 200 unless said. */
  status?: 201 | 204 | 303
}

const span = 'from to wait'
const documents = 'text/html application/pdf text/csv'
const page = 'cursor limit'

/** CloudEvents 1.0; what is parsed by hand, with every field named when it is wrong. */
const event = z.object({
  specversion: z.literal('1.0').optional(),
  id: z.string().min(1).max(1024),
  source: z.string().min(1).max(1024).optional(),
  type: z.string().min(1).max(1024),
  subject: z.string().max(1024).optional(),
  time: z.iso.datetime({ offset: true }).optional(),
  data: z.record(z.string(), z.unknown()).optional(),
})
const eventBody = z.union([event, z.array(event).max(10_000)])

/** By method and path, as in routeScopes. OpenMeter's areas that are not here have none. */
export const routeDocs: Readonly<Record<string, RouteDoc>> = {
  'GET /health': { summary: 'Health in the guide’s shape.', answer: 'Health' },
  'GET /health/live': { summary: 'The process is alive.', answer: 'State' },
  'GET /health/ready': { summary: 'Samples can be acknowledged.', answer: 'State' },
  'GET /health/detailed': {
    summary: 'Every dependency; loopback, or scope billaged:read of an operator.',
    answer: 'Any',
  },
  'GET /ready': { summary: 'As /health/ready.', answer: 'State' },
  'GET /stats': { summary: 'VMs alive, the aggregation interval, bytes that wait.', answer: 'Stats' },
  'GET /metrics': { summary: 'Prometheus text.', media: 'text/plain' },
  'GET /openapi.json': { summary: 'This document.', answer: 'Any' },
  'POST /api/v1/events': {
    summary: 'Takes CloudEvents 1.0: structured, batched, binary, or plain JSON. 204 when durable.',
    body: eventBody,
    status: 204,
  },
  'GET /api/v1/events': {
    summary: 'Events, newest first, with what is wrong with them.',
    query: `from to ${page} subject id hasError`,
    answer: 'IngestedEvent[]',
  },
  'POST /v1/events/void': { summary: 'An event that must not count.', body: voidEventBody, answer: 'VoidedEvent' },
  'GET /api/v1/meters': { summary: 'All meters.', query: page, answer: 'MeterView[]' },
  'POST /api/v1/meters': {
    summary: 'A new meter; events that came before it count.',
    body: meterBody,
    answer: 'MeterView',
    status: 201,
  },
  'GET /api/v1/meters/:id': { summary: 'One meter, by id or slug.', answer: 'MeterView' },
  'PUT /api/v1/meters/:id': {
    summary: 'Name, description, groups and metadata.',
    body: meterPatchBody,
    answer: 'MeterView',
  },
  'DELETE /api/v1/meters/:id': { summary: 'Ends a meter; its events stay.', status: 204 },
  'GET /api/v1/meters/:id/query': {
    summary: 'What a meter makes of the usage between two instants; JSON or CSV.',
    query: 'from to windowSize windowTimeZone subject filterCustomerId groupBy filterGroupBy',
    answer: 'MeterResult',
    media: 'text/csv',
  },
  'POST /api/v1/meters/:id/query': {
    summary: 'The same, asked by a body.',
    body: meterQueryBody,
    answer: 'MeterResult',
    media: 'text/csv',
  },
  'GET /api/v1/meters/:id/subjects': { summary: 'Subjects of a meter’s events.', answer: 'Text[]' },
  'GET /api/v1/meters/:id/group-by/:key/values': { summary: 'Values of one group of a meter.', answer: 'Text[]' },
  'GET /api/v1/subjects': {
    summary: 'Customers, and other names that are mapped to them.',
    query: page,
    answer: 'SubjectView[]',
  },
  'GET /api/v1/subjects/:id': { summary: 'One subject.', answer: 'SubjectView' },
  'POST /api/v1/subjects': {
    summary: 'Names customers, or maps subjects to them with customerId; their events move along.',
    body: subjectsBody,
    answer: 'SubjectView[]',
  },
  'DELETE /api/v1/subjects/:id': { summary: 'Ends the mapping of a subject.', status: 204 },
  'GET /api/v1/debug/metrics': {
    summary: 'Events since midnight UTC by subject, as Prometheus text.',
    media: 'text/plain',
  },
  'GET /api/v1/portal/tokens': {
    summary: 'Portal tokens, in OpenMeter’s shape.',
    query: page,
    answer: 'PortalTokenView[]',
  },
  'POST /api/v1/portal/tokens': {
    summary: 'A portal token of a subject.',
    body: openMeterTokenBody,
    answer: 'PortalTokenView',
  },
  'POST /api/v1/portal/tokens/invalidate': { summary: 'Ends portal tokens.', body: invalidateBody, status: 204 },
  'GET /api/v1/portal/meters/:slug/query': {
    summary: 'A meter of the token’s subject.',
    query: 'from to windowSize windowTimeZone groupBy filterGroupBy',
    answer: 'MeterResult',
    media: 'text/csv',
  },
  'GET /v1/customers': { summary: 'Customers.', query: page, answer: 'CustomerList' },
  'GET /v1/customers/:id': { summary: 'A customer’s settings.', answer: 'Customer' },
  'PUT /v1/customers/:id': {
    summary: 'Changes a customer’s settings; an operator makes it by them.',
    body: customerBody,
    answer: 'Customer',
  },
  'GET /v1/customers/:id/usage': {
    summary: 'Usage, with the ledger’s seconds.',
    query: `${span} by vm asOf ${page}`,
    answer: 'Usage',
  },
  'GET /v1/customers/:id/spend': {
    summary: 'The running period so far, its forecast, the budget.',
    query: 'wait band',
    answer: 'Spend',
  },
  'GET /v1/customers/:id/ledger': {
    summary: 'What was not seen: seconds of all VMs, gaps and oddities VM by VM, and corrections.',
    query: `${span} ${page}`,
    answer: 'CustomerLedger',
  },
  'PUT /v1/customers/:id/stripe': {
    summary: 'Who the customer is at Stripe.',
    body: stripeCustomerBody,
    answer: 'StripeCustomer',
  },
  'GET /v1/vms/:customer/:vm': {
    summary: 'Totals, lives and what lowered the bill of one VM.',
    query: span,
    answer: 'VmDetail',
  },
  'GET /v1/vms/:customer/:vm/timeline': { summary: 'How the VM’s time is known.', query: span, answer: 'VmTimeline' },
  'POST /v1/preview': {
    summary:
      'Rates a period under the customer’s or another plan, or of several customers (all without a name) as compare does; nothing is stored.',
    body: z.union([previewBody, whatIfBody]),
    media: 'text/csv',
    answer: 'Priced|Comparison',
  },
  'POST /v1/preview/compare': {
    summary: 'Customers under their own and another plan; JSON or CSV.',
    body: whatIfBody,
    media: 'text/csv',
    answer: 'Comparison',
  },
  'GET /v1/plans': { summary: 'Plans.', query: page, answer: 'PlanList' },
  'POST /v1/plans': { summary: 'A new plan.', body: planSchema, answer: 'PlanView', status: 201 },
  'GET /v1/plans/:id/versions': { summary: 'A plan’s versions.', query: page, answer: 'PlanVersionList' },
  'POST /v1/plans/:id/versions': {
    summary: 'A version that follows all there are.',
    body: versionSchema,
    answer: 'PlanVersionView',
    status: 201,
  },
  'GET /v1/subscriptions': {
    summary: 'Who is on which plan.',
    query: `customerId ${page}`,
    answer: 'SubscriptionList',
  },
  'POST /v1/subscriptions': {
    summary: 'Puts a customer on a plan.',
    body: subscriptionBody,
    answer: 'SubscriptionView',
    status: 201,
  },
  'POST /v1/subscriptions/:id/end': {
    summary: 'Ends a subscription, now, later or in the past; what closed periods said becomes corrections.',
    body: endBody,
    answer: 'SubscriptionView',
  },
  'GET /v1/credits': {
    summary: 'Credits and what is left of them.',
    query: `customerId ${page}`,
    answer: 'CreditList',
  },
  'POST /v1/credits': {
    summary: 'Grants a credit; Idempotency-Key makes it once.',
    body: creditBody,
    answer: 'CreditView',
    status: 201,
  },
  'GET /v1/outages': {
    summary: 'Time that hosts were down by customer, at list price, and what of it is credited.',
    query: `customer period ${page}`,
    answer: 'OutageList',
  },
  'POST /v1/outages/credit': {
    summary: 'Credits what a period’s outages are worth and is not credited yet.',
    body: outageCreditBody,
    answer: 'CreditView',
    status: 201,
  },
  'GET /v1/budgets': { summary: 'Budgets and the thresholds that fired.', query: page, answer: 'BudgetList' },
  'POST /v1/budgets': {
    summary: 'Sets a customer’s budget and its thresholds.',
    body: budgetBody,
    answer: 'Budget',
    status: 201,
  },
  'DELETE /v1/budgets/:id': { summary: 'Ends a customer’s budget.', status: 204 },
  'GET /v1/alerts': { summary: 'Thresholds that fired, oldest first.', query: `customer ${page}`, answer: 'AlertList' },
  'GET /v1/webhooks': { summary: 'Endpoints that are told of things.', query: page, answer: 'WebhookList' },
  'POST /v1/webhooks': {
    summary: 'A new endpoint; its secret is shown this once.',
    body: endpointBody,
    answer: 'WebhookEndpoint',
    status: 201,
  },
  'GET /v1/webhooks/:id': { summary: 'One endpoint.', answer: 'WebhookEndpoint' },
  'PUT /v1/webhooks/:id': {
    summary: 'Changes an endpoint, or its secret with rotateSecret.',
    body: endpointPatchBody,
    answer: 'WebhookEndpoint',
  },
  'DELETE /v1/webhooks/:id': { summary: 'Ends an endpoint and what waits for it.', status: 204 },
  'POST /v1/webhooks/:id/test': { summary: 'One attempt with a webhook.test, here and now.', answer: 'WebhookTest' },
  'GET /v1/webhooks/deliveries': {
    summary: 'What was told and how that went, newest first.',
    query: `webhook state ${page}`,
    answer: 'DeliveryList',
  },
  'GET /v1/webhooks/deliveries/:id': { summary: 'One delivery.', answer: 'WebhookDelivery' },
  'POST /v1/webhooks/deliveries/:id/replay': { summary: 'Tells it again.', answer: 'WebhookDelivery' },
  'GET /v1/stream/costs': {
    summary: 'Server-sent events cost, alert and gap; Last-Event-ID brings missed alerts.',
    query: 'customer lastEventId',
    media: 'text/event-stream',
  },
  'GET /v1/portal/tokens': {
    summary: 'Portal tokens, newest first.',
    query: `customer ${page}`,
    answer: 'PortalTokenList',
  },
  'POST /v1/portal/tokens': {
    summary: 'A portal token and its link.',
    body: tokenBody,
    answer: 'PortalTokenView',
    status: 201,
  },
  'POST /v1/portal/tokens/invalidate': { summary: 'Ends portal tokens.', body: invalidateBody, answer: 'Invalidated' },
  'GET /v1/portal/me': { summary: 'Whose portal this is.', answer: 'PortalIdentity' },
  'GET /v1/portal/spend': { summary: 'As /v1/customers/{id}/spend.', query: 'wait', answer: 'Spend' },
  'GET /v1/portal/usage': { summary: 'As /v1/customers/{id}/usage.', query: `${span} by`, answer: 'Usage' },
  'GET /v1/portal/vms/:vm': { summary: 'As /v1/vms/{customer}/{vm}.', query: span, answer: 'VmDetail' },
  'GET /v1/portal/vms/:vm/timeline': {
    summary: 'As /v1/vms/{customer}/{vm}/timeline.',
    query: span,
    answer: 'VmTimeline',
  },
  'GET /v1/portal/invoices': { summary: 'Invoices that are not drafts.', answer: 'PortalInvoiceList' },
  'GET /v1/portal/invoices/:id': {
    summary: 'One of them; .html, .pdf, .csv, .json.',
    answer: 'Invoice',
    media: documents,
  },
  'GET /v1/portal/invoices/:id/receipt': { summary: 'Its receipt.', answer: 'Receipt' },
  'GET /v1/portal/receipts/key': { summary: 'The key that receipts are signed with.', answer: 'ReceiptKey' },
  'GET /v1/portal/stream/costs': { summary: 'As /v1/stream/costs.', media: 'text/event-stream' },
  'GET /portal': { summary: 'The portal page, or a form for its token.', media: 'text/html' },
  'POST /portal/session': { summary: 'Takes a portal token into a cookie.', status: 303 },
  'GET /portal/invoices/:id': {
    summary: 'A document of an invoice, by the cookie.',
    answer: 'Invoice',
    media: documents,
  },
  'GET /portal/invoices/:id/receipt': { summary: 'A receipt, by the cookie.', answer: 'Receipt' },
  'GET /v1/invoices': {
    summary: 'Invoices, newest periods first.',
    query: `customer period state asOf ${page}`,
    answer: 'InvoiceList',
  },
  'GET /v1/invoices/draft': {
    summary: 'What a period’s invoice says now.',
    query: 'customer period',
    answer: 'Invoice',
  },
  'GET /v1/invoices/:id': {
    summary: 'An invoice; .html, .pdf, .csv, .json.',
    query: 'asOf',
    answer: 'Invoice|InvoiceAsOf',
    media: documents,
  },
  'POST /v1/invoices/:id/finalise': { summary: 'Closes its period.', body: finaliseBody, answer: 'Invoice' },
  'POST /v1/invoices/:id/void': {
    summary: 'Makes it void and opens a replacement.',
    body: voidInvoiceBody,
    answer: 'Voided',
  },
  'GET /v1/invoices/:id/lines/:line/explain': {
    summary: 'Where a line comes from.',
    query: 'vm',
    answer: 'Explanation',
  },
  'GET /v1/lines/:line/explain': { summary: 'The same, by the line alone.', query: 'vm', answer: 'Explanation' },
  'GET /v1/invoices/:id/receipt': { summary: 'The signed receipt.', answer: 'Receipt' },
  'GET /v1/invoices/:id/evidence': {
    summary: 'What the usage was made of, a line an hour.',
    media: 'application/x-ndjson',
  },
  'GET /v1/receipts/key': { summary: 'The key that receipts are signed with.', answer: 'ReceiptKey' },
  'GET /v1/exports/focus': { summary: 'FOCUS 1.2 as CSV.', query: 'period customer', media: 'text/csv' },
  'POST /v1/reconcile': {
    summary: 'Compares with another biller’s amounts; nothing is stored.',
    body: reconcileBody,
    answer: 'Reconciliation',
  },
  'GET /v1/unrated': {
    summary: 'What runs up unpriced in running periods.',
    query: `customer ${page}`,
    answer: 'UnratedList',
  },
  'GET /v1/conflicts': {
    summary: 'Instants with several different readings or contents; the least is billed.',
    query: `customer ${span} ${page}`,
    answer: 'Conflicts',
  },
  'GET /v1/close/:period': { summary: 'What is ready and what is not.', query: 'customer', answer: 'CloseReport' },
  'POST /v1/close/:period': {
    summary: 'Closes the periods that start in a month.',
    body: closeBody,
    answer: 'CloseReport',
  },
  'GET /v1/quarantine': {
    summary: 'Doubtful samples and events.',
    query: `customer state ${page}`,
    answer: 'QuarantineList',
  },
  'POST /v1/quarantine/:id/release': { summary: 'Takes one into the set.', body: decision, answer: 'QuarantineItem' },
  'POST /v1/quarantine/:id/discard': { summary: 'Leaves one out for good.', body: decision, answer: 'QuarantineItem' },
  'GET /v1/replicas': { summary: 'Replicas and how far they have folded.', query: page, answer: 'ReplicaList' },
  'POST /v1/replicas/:id/retire': { summary: 'Nobody waits for it any more.', answer: 'Retired' },
  'POST /v1/verify': { summary: 'Recomputes what is stored and tells the differences.', answer: 'Verification' },
  'GET /v1/stripe/pushes': {
    summary: 'What was brought to Stripe.',
    query: `customer ${page}`,
    answer: 'StripePushList',
  },
  'POST /v1/stripe/webhook': { summary: 'Stripe’s notices, signed.', status: 204 },
}

const text = { type: 'string' }
const time = { type: 'string', format: 'date-time' }
const many = { type: 'array', items: text }

/** Of every route that has one of the name. */
export const parameters: Readonly<
  Record<string, { description?: string; style?: 'deepObject'; explode?: true; schema: object }>
> = {
  from: { description: 'The beginning, RFC 3339.', schema: time },
  to: { description: 'The end, which is not in it.', schema: time },
  wait: {
    description: 'First waits, for so long at most, until all that this replica acknowledged is counted.',
    schema: { type: 'string', default: '0s', examples: ['5s'] },
  },
  by: {
    description: 'What a row is about.',
    schema: { type: 'string', enum: ['meter', 'vm', 'day', 'hour'], default: 'meter' },
  },
  asOf: { description: 'What was known then, RFC 3339; `now` beside it.', schema: time },
  band: { schema: { type: 'string', enum: ['true', 'false'], default: 'false' } },
  cursor: {
    description: '`nextCursor` of the page before; of an answer that is an array, `cursor` of its Link header.',
    schema: text,
  },
  limit: { schema: { type: 'integer', minimum: 1, maximum: 1000 } },
  customer: { schema: text },
  customerId: { schema: text },
  vm: { schema: text },
  period: { description: 'The month in which it starts.', schema: { type: 'string', pattern: '^\\d{4}-\\d{2}$' } },
  state: { schema: text },
  webhook: { schema: text },
  subject: { schema: { anyOf: [text, many] } },
  filterCustomerId: { schema: many },
  groupBy: { schema: many },
  filterGroupBy: {
    description: '`filterGroupBy[name]=value`, repeated.',
    style: 'deepObject',
    explode: true,
    schema: { type: 'object', additionalProperties: { anyOf: [text, many] } },
  },
  windowSize: { schema: { type: 'string', enum: ['MINUTE', 'HOUR', 'DAY', 'MONTH'] } },
  windowTimeZone: { schema: { type: 'string', default: 'UTC' } },
  id: { schema: text },
  hasError: { schema: { type: 'string', enum: ['true', 'false'] } },
  lastEventId: { schema: text },
}
