// The data plane: one scope of routes that speak dialects, know their caller before anything else, and leave a row for
// every call of a known tenant.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from '#platform/telemetry'
import type { Tenant } from '#platform/tenancy/tenancy'
import type { Clock } from '#platform/time'
import type { Config } from '../config.ts'
import { type Dialect, renderError } from '../dialects/errors.ts'
import { bodyTooLarge, invalidRequest, notImplemented, Refusal } from '../errors.ts'
import type { Admission } from '../holds/admission.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Provider } from '../providers/provider.ts'
import type { CallFacts } from '../record.ts'
import type { CatalogWatch } from '../store/watch-catalog.ts'
import type { Authenticate, Caller } from './caller.ts'
import { chatCompletions } from './chat-completions.ts'
import { answerBudget, answerModel, answerModels } from './models.ts'
import type { Rates } from './rates.ts'
import { storable } from './storable.ts'

export interface Gateway {
  config: Config
  clock: Clock
  log: Logger
  metrics: Metrics
  authenticate: Authenticate
  rates: Rates
  catalog: CatalogWatch
  admission: Admission
  /** By the provider of a model row. */
  providers: ReadonlyMap<string, Provider>
  /** A tenant that another service made a moment ago has its implicit budgets when this resolves. */
  ensureBudgets(tenant: Tenant): Promise<void>
}

/** A call under way. `facts` fills up as more is known. */
export interface CallContext {
  caller: Caller
  facts: CallFacts
  startedMs: number
  /** Its row is written, or will be with its hold's end. */
  isRecorded: boolean
}

declare module 'fastify' {
  interface FastifyRequest {
    call: CallContext | null
  }
  interface FastifyContextConfig {
    dialect?: Dialect
  }
}

export function registerGateway(app: FastifyInstance, gateway: Gateway): void {
  app.register(async scope => {
    scope.decorateRequest('call', null)
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: gateway.config.bodyLimit }, (_, body, done) =>
      done(null, body),
    )
    scope.addHook('onRequest', async (request, reply) => {
      reply.header('x-budgetguard-request-id', request.id)
      const caller = gateway.authenticate(request)
      request.call = newCall(gateway, request, caller)
    })
    scope.setErrorHandler((error, request, reply) => answerError(gateway, error, request, reply))

    const openai = { config: { dialect: 'openai' as const } }
    scope.post('/v1/chat/completions', openai, (request, reply) => chatCompletions(gateway, request, reply))
    scope.get('/v1/models', openai, (request, reply) => answerModels(gateway, request, reply))
    scope.get('/v1/models/*', openai, (request, reply) => answerModel(gateway, request, reply))
    scope.get('/v1/budget', openai, (request, reply) => answerBudget(gateway, request, reply))
    registerNotYet(scope)
  })
}

/** Routes of the contract that this release does not serve: known, refused in their dialect, with what works instead. */
function registerNotYet(scope: FastifyInstance): void {
  const refuse = (what: string) => async () => {
    throw notImplemented(`${what} is not served by this release; use POST /v1/chat/completions`)
  }
  const openai = { config: { dialect: 'openai' as const } }
  const anthropic = { config: { dialect: 'anthropic' as const } }
  const gemini = { config: { dialect: 'gemini' as const } }
  scope.post('/v1/responses', openai, refuse('The responses dialect'))
  scope.post('/v1/embeddings', openai, refuse('The embeddings endpoint'))
  scope.get('/v1/budget/requests/:id', openai, refuse('The cost of one call'))
  scope.post('/v1/messages', anthropic, refuse('The Anthropic dialect'))
  scope.post('/v1/messages/count_tokens', anthropic, refuse('The Anthropic dialect'))
  scope.post('/v1/models/*', gemini, refuse('The Gemini dialect'))
  scope.post('/v1beta/models/*', gemini, refuse('The Gemini dialect'))
  scope.get('/v1beta/models', gemini, refuse('The Gemini model list'))
  scope.get('/v1beta/models/*', gemini, refuse('The Gemini model list'))
}

function newCall(gateway: Gateway, request: FastifyRequest, caller: Caller): CallContext {
  return {
    caller,
    startedMs: gateway.clock.monotonicMs(),
    isRecorded: false,
    facts: {
      atMs: gateway.admission.now(),
      requestId: request.id,
      tenantId: caller.tenant.id,
      tenantSlug: caller.tenant.slug,
      keyId: caller.keyId,
      keyPrefix: storable(caller.keyPrefix),
      route: request.routeOptions.url ?? 'unknown',
      provider: null,
      model: '',
      priceId: null,
      sessionId: headerText(request, 'x-session-id', 200),
      endUser: headerText(request, 'x-end-user', 200),
      isStream: false,
    },
  }
}

function headerText(request: FastifyRequest, name: string, charsMax: number): string | null {
  const value = request.headers[name]
  if (typeof value !== 'string' || value.trim() === '') return null
  if (value.length > charsMax) throw invalidRequest(`${name} is longer than ${charsMax} characters`, name)
  return storable(value.trim())
}

async function answerError(
  gateway: Gateway,
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const refusal = toRefusal(gateway, error, request)
  if (request.call && !request.call.isRecorded && request.method === 'POST') {
    request.call.isRecorded = true
    await gateway.admission
      .refuse(request.call.facts, isBlocked(refusal) ? 'blocked' : 'failed', refusal.reason)
      // The answer says what the caller must know; without a journal there is nowhere to put the row.
      .catch((cause: unknown) => gateway.log.warn({ err: cause, requestId: request.id }, 'a refusal has no row'))
  }
  if (reply.raw.headersSent) return void reply.raw.destroy()
  const dialect = request.routeOptions.config.dialect ?? 'openai'
  reply
    .code(refusal.status)
    .headers({ ...refusal.headers })
    .type('application/json; charset=utf-8')
    .send(JSON.stringify(renderError(dialect, refusal, request.id)))
}

/** Refused by a rule of this gateway, as opposed to failed on its way. */
function isBlocked({ status, reason }: Refusal): boolean {
  return status === 402 || status === 403 || reason === 'RATE_LIMIT_EXCEEDED'
}

function toRefusal(gateway: Gateway, error: unknown, request: FastifyRequest): Refusal {
  if (error instanceof Refusal) return error
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return bodyTooLarge(gateway.config.bodyLimit)
  if (code === 'FST_ERR_CTP_INVALID_CONTENT_LENGTH')
    return invalidRequest('The body is not as long as Content-Length says')
  gateway.log.error(
    { err: error, requestId: request.id, route: request.routeOptions.url },
    'BUG: a data-plane request failed',
  )
  return new Refusal({
    status: 500,
    reason: 'INTERNAL',
    message: 'Something failed on our side; the log line with this request id says what',
  })
}
