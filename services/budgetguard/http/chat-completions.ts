// POST /v1/chat/completions: decode → rate → model and price → hold → provider → meter → settle.
//
// How an attempt ends decides what it costs:
//   usage reported                      what was reported
//   no connection, or an error answer   nothing: the hold is released
//   the caller left a stream            the input bound and what was produced so far, never more than the hold
//   sent, then timeout, cut, or the     the whole hold: it may all have been produced, and billed
//   caller left before the answer

import type { FastifyReply, FastifyRequest } from 'fastify'
import { formatUsd } from '#platform/money'
import { least, most } from '../amount.ts'
import { type Bound, defaultOutputLimit, inputBound, unknownFacts } from '../bound.ts'
import { type ChatRequest, decodeChat } from '../dialects/openai/chat.ts'
import {
  modelNotFound,
  modelNotPriced,
  notImplemented,
  providerNotConfigured,
  tagsNotFound,
  unboundedCost,
} from '../errors.ts'
import type { Admitted, Quote } from '../holds/admission.ts'
import { type Model, priceAt, upstreamName } from '../model.ts'
import type { Terms } from '../outcome.ts'
import { isKnown, onePpm, type Price, tierPpm } from '../price.ts'
import type { Provider } from '../providers/provider.ts'
import { withMembers } from '../strict-json.ts'
import { readObject, requireJson } from './body.ts'
import { endForgotten, forwardStreamed, forwardWhole } from './forward.ts'
import type { CallContext, Gateway } from './gateway.ts'
import { storable } from './storable.ts'

/** A call that may be sent: its money is held, durably. */
export interface ReadyCall {
  call: CallContext
  chat: ChatRequest
  provider: Provider
  model: string
  /** The caller's bytes with the few members that are ours. */
  body(): Buffer
  admitted: Admitted
  /** Its end is booked, or being booked. */
  isEnded: boolean
  terms: Terms
  ownKey: string | null
  headers: FastifyRequest['headers']
}

/** Least output a default limit shrinks to, and least a caller's own limit is clamped to. */
const defaultLimitLeast = 1_024n
const clampLimitLeast = 64n

export async function chatCompletions(
  gateway: Gateway,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const call = request.call
  if (!call) throw new Error('BUG: a call without a caller')
  requireJson(request)
  const chat = decodeChat(await readObject(request, gateway.config.bodyLimit))
  const { facts } = call
  facts.model = storable(chat.model)
  facts.isStream = chat.isStream
  facts.endUser ??= chat.endUser === null ? null : storable(chat.endUser)
  facts.atMs = gateway.admission.now()

  const limit =
    gateway.catalog.current.settings.get(facts.tenantId)?.rateLimitPerMin ?? gateway.config.requestsPerMinute
  const giveBack = gateway.rates.take(facts.tenantId, limit, reply)
  const ready = await prepare(gateway, request, call, chat).catch((error: unknown) => {
    // Only admitted calls count against a rate.
    giveBack()
    throw error
  })
  try {
    reply.headers(factsOf(gateway, ready))
    return await (chat.isStream ? forwardStreamed : forwardWhole)(gateway, request, reply, ready)
  } finally {
    await endForgotten(gateway, ready)
  }
}

async function prepare(
  gateway: Gateway,
  request: FastifyRequest,
  call: CallContext,
  chat: ChatRequest,
): Promise<ReadyCall> {
  const { admission, catalog, config } = gateway
  const { facts, caller } = call
  refuseTags(request)
  const route = findRoute(gateway, chat, call)
  facts.provider = route.provider.name
  facts.priceId = route.price.id === 0 ? null : route.price.id

  await gateway.ensureBudgets(caller.tenant)
  const budgets = catalog.current.budgets.get(facts.tenantId) ?? []
  const accounts = await admission.accountsAt(
    budgets,
    caller.tenant.timezone,
    facts.atMs,
    `tenant ${caller.tenant.slug}`,
  )
  admission.refuseSpent(accounts)
  const quote = quoteFor(gateway, request, chat, route)
  const authorisedMs = gateway.clock.monotonicMs()
  const admitted = await admission.admit(facts, accounts, quote, config.requestTimeoutMs)
  // From here on the hold's end writes the row.
  call.isRecorded = true
  gateway.metrics.overheadSeconds.labels('auth').observe((authorisedMs - call.startedMs) / 1_000)
  gateway.metrics.overheadSeconds.labels('hold').observe((gateway.clock.monotonicMs() - authorisedMs) / 1_000)
  const terms: Terms = {
    price: route.price,
    bound: quote.bound,
    limit: admitted.limit,
    held: admitted.held,
    serviceTier: chat.serviceTier,
  }
  return {
    call,
    chat,
    provider: route.provider,
    model: route.label,
    body: () => bodyFor(chat, route, admitted.limit),
    admitted,
    isEnded: false,
    terms,
    ownKey: route.ownKey,
    headers: request.headers,
  }
}

interface Route {
  provider: Provider
  price: Price
  model: Model
  /** For metrics: a name of the catalogue, or "other". */
  label: string
  ownKey: string | null
}

function findRoute(gateway: Gateway, chat: ChatRequest, { caller, facts }: CallContext): Route {
  const { config, providers, catalog } = gateway
  const known = catalog.current.modelByName.get(chat.model)
  if (known && (known.provider === 'anthropic' || known.provider === 'google'))
    throw notImplemented(
      `${known.model} is served by ${known.provider === 'google' ? 'Google' : 'Anthropic'}, to which this release does not translate chat completions; choose an OpenAI-compatible or echo model`,
    )
  const model = known ?? unknownModel(gateway, chat.model)
  const provider = model && providers.get(model.provider)
  if (!model || !provider) throw modelNotFound(chat.model)
  const price = priceAt(model, facts.atMs) ?? model.prices[0]
  if (!price || !isKnown(price)) {
    gateway.metrics.priceUnknown.labels(provider.name).inc()
    throw modelNotPriced(chat.model)
  }
  const ownKey = provider.name === 'openai' ? caller.ownKeys.openai : null
  const missing = provider.unconfigured(ownKey)
  if (missing) throw providerNotConfigured(missing.label, missing.variable)
  const isListed = config.unknownPrice === 'deny' || known !== undefined
  return { provider, price, model, label: isListed ? model.model : 'other', ownKey }
}

/** With BUDGETGUARD_UNKNOWN_PRICE=fallback a name nobody lists goes to the OpenAI-compatible provider at that price. */
function unknownModel({ config }: Gateway, name: string): Model | undefined {
  if (config.unknownPrice === 'deny') return undefined
  const { input, output } = config.unknownPrice
  const price = {
    id: 0,
    provider: 'openai',
    model: name,
    versionTag: name,
    perMillion: { input, cacheRead: input, cacheWrite5m: input, cacheWrite1h: input, output },
    isFree: false,
    effectiveFromMs: 0,
    source: 'operator' as const,
  }
  return {
    id: 0,
    provider: 'openai',
    model: name,
    versionTag: name,
    facts: unknownFacts,
    prices: [price],
    createdAtMs: 0,
    updatedAtMs: 0,
  }
}

function quoteFor({ config }: Gateway, request: FastifyRequest, chat: ChatRequest, route: Route): Quote {
  const { facts } = route.model
  const inputTokens = inputBound(chat.input, facts)
  if (inputTokens === null)
    throw unboundedCost(
      chat.input.wholeContext ?? 'messages',
      `the context window of ${route.model.model} is not known`,
    )
  const bound: Bound = {
    inputTokens,
    choices: chat.choices,
    predictionTokens: chat.input.predictionBytes,
    price: route.price,
    // A cheaper tier is only what we hope for.
    ppm: most(tierPpm(chat.serviceTier), onePpm),
  }
  if (chat.outputLimit === null) {
    const limit = defaultOutputLimit(facts, BigInt(config.defaultMaxOutputTokens))
    return { bound, limit, limitLeast: least(limit, defaultLimitLeast) }
  }
  const mayClamp = request.headers['x-budgetguard-clamp'] === 'allow'
  const limit = chat.outputLimit
  return { bound, limit, limitLeast: mayClamp ? least(limit, clampLimitLeast) : limit }
}

/** The caller's bytes with the few members that are ours: model name, output limit, and asking for the usage. */
function bodyFor(chat: ChatRequest, route: Route, limit: bigint): Buffer {
  const members = new Map<string, string>()
  const name = upstreamName(chat.model, route.model)
  if (name !== chat.model) members.set('model', JSON.stringify(name))
  if (limit !== chat.outputLimit) {
    const names = chat.limitMembers.length > 0 ? chat.limitMembers : [route.provider.limitMember]
    for (const member of names) members.set(member, limit.toString())
  }
  if (chat.isStream && !chat.wantsUsage) {
    const given = chat.body.value.stream_options
    members.set('stream_options', JSON.stringify({ ...(typeof given === 'object' ? given : {}), include_usage: true }))
  }
  return withMembers(chat.body, members)
}

function refuseTags(request: FastifyRequest): void {
  const header = request.headers['x-tags']
  if (typeof header !== 'string') return
  const names = [...new Set(header.split(',').map(name => name.trim()))].filter(name => name !== '')
  // No tenant has tags in this release, so every name is unknown; ignoring one would charge the wrong budget.
  if (names.length > 0) throw tagsNotFound(names.slice(0, 20).map(name => name.slice(0, 100)))
}

function factsOf({ admission }: Gateway, { admitted, call, chat, provider }: ReadyCall): Record<string, string> {
  const clamped =
    chat.outputLimit !== null && admitted.limit !== chat.outputLimit
      ? { 'x-budgetguard-clamped': `${chat.limitMembers[0] ?? 'max_tokens'}=${chat.outputLimit}->${admitted.limit}` }
      : {}
  return {
    'x-budgetguard-hold-usd': formatUsd(admitted.held),
    ...headroomOf(admission.tightest(admitted.accounts)),
    ...clamped,
    'x-budgetguard-provider': provider.name,
    'x-budgetguard-model': encodeURI(call.facts.model),
    'x-budgetguard-attempts': '1',
  }
}

export function headroomOf(tightest: { scope: string; remaining: bigint } | null): Record<string, string> {
  if (tightest === null) return {}
  return {
    'x-budgetguard-remaining-usd': formatUsd(tightest.remaining),
    'x-budgetguard-scope': tightest.scope,
  }
}
