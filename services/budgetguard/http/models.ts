// GET /v1/models and /v1/models/{id}: what this key may call now, in the shape of the client that asks.
// GET /v1/budget: what it may still spend.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { rfc3339 } from '#platform/time'
import type { BudgetOfKey } from '../api.ts'
import { Refusal } from '../errors.ts'
import { type Model, priceAt } from '../model.ts'
import { isKnown } from '../price.ts'
import type { Gateway } from './gateway.ts'

export async function answerModels(gateway: Gateway, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const models = callable(gateway, request)
  if (request.headers['anthropic-version'] !== undefined) {
    const data = models.map(anthropicModel)
    return { data, has_more: false, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null }
  }
  if (request.headers['x-goog-api-key'] !== undefined) return { models: models.map(geminiModel) }
  reply.type('application/json; charset=utf-8')
  return { object: 'list', data: models.map(openAiModel) }
}

export async function answerModel(gateway: Gateway, request: FastifyRequest, _: FastifyReply): Promise<unknown> {
  const name = wildcard(request)
  const wanted = gateway.catalog.current.modelByName.get(name)
  const model = callable(gateway, request).find(candidate => candidate === wanted)
  if (!model)
    throw new Refusal({
      status: 404,
      reason: 'MODEL_NOT_FOUND',
      message: `No model named ${name.slice(0, 256)} can be called with this key; GET /v1/models lists them`,
      param: 'model',
    })
  if (request.headers['anthropic-version'] !== undefined) return anthropicModel(model)
  if (request.headers['x-goog-api-key'] !== undefined) return geminiModel(model)
  return openAiModel(model)
}

export async function answerBudget(gateway: Gateway, request: FastifyRequest, _: FastifyReply): Promise<BudgetOfKey> {
  if (!request.call) throw new Error('BUG: a call without a caller')
  const { caller, facts } = request.call
  const { admission, catalog, config } = gateway
  const budgets = catalog.current.budgets.get(caller.tenant.id) ?? []
  const accounts = await admission.accountsAt(
    budgets,
    caller.tenant.timezone,
    facts.atMs,
    `tenant ${caller.tenant.slug}`,
  )
  const limit = catalog.current.settings.get(caller.tenant.id)?.rateLimitPerMin ?? config.requestsPerMinute
  return {
    tenant: caller.tenant.slug,
    scopes: accounts.map(account => admission.state(account)),
    limits: { rpm: limit === 0 ? null : limit, tpm: null },
  }
}

/** Priced, and served by a provider that this process can call for this caller. */
function callable({ catalog, providers, clock }: Gateway, request: FastifyRequest): Model[] {
  const ownKey = request.call?.caller.ownKeys.openai ?? null
  return catalog.current.models.filter(model => {
    const provider = providers.get(model.provider)
    const price = priceAt(model, clock.now())
    return provider !== undefined && provider.unconfigured(ownKey) === null && price !== undefined && isKnown(price)
  })
}

function wildcard(request: FastifyRequest): string {
  const params = request.params
  return typeof params === 'object' && params !== null && '*' in params ? String(params['*']) : ''
}

function openAiModel(model: Model) {
  return {
    id: model.model,
    object: 'model',
    created: Math.floor(model.createdAtMs / 1_000),
    owned_by: model.provider,
  }
}

function anthropicModel(model: Model) {
  return { type: 'model', id: model.model, display_name: model.model, created_at: rfc3339(model.createdAtMs) }
}

function geminiModel(model: Model) {
  const { contextWindow, outputMax } = model.facts
  return {
    name: `models/${model.model}`,
    displayName: model.model,
    ...(contextWindow === null ? {} : { inputTokenLimit: Number(contextWindow) }),
    ...(outputMax === null ? {} : { outputTokenLimit: Number(outputMax) }),
    supportedGenerationMethods: [],
  }
}
