// A chat completion request, read once: what decides its route, its bound and its relay. Everything else is the
// provider's business and goes through as it came.

import { invalidRequest, unboundedCost } from '../../errors.ts'
import type { JsonObject } from '../../strict-json.ts'

export interface ChatRequest {
  body: JsonObject
  model: string
  isStream: boolean
  /** The caller asked for the usage chunk; otherwise we ask for it and keep it. */
  wantsUsage: boolean
  /** `n` */
  choices: bigint
  /** The caller's own output limit, per choice, and the members that carry it. */
  outputLimit: bigint | null
  limitMembers: readonly string[]
  serviceTier: string | null
  endUser: string | null
  input: InputFacts
}

/** What the input bound is made of; see bound.ts. */
export interface InputFacts {
  bodyBytes: bigint
  /** Data URLs inside the body: they are priced as images, not as text. */
  inlineMediaBytes: bigint
  messages: bigint
  tools: bigint
  images: bigint
  /** A member whose size nobody can see from here; it counts as the whole context window. */
  wholeContext: string | null
  /** A predicted output is billed as output where the model departs from it. */
  predictionBytes: bigint
}

/** @throws Refusal INVALID_REQUEST or UNBOUNDED_COST naming the member */
export function decodeChat(body: JsonObject): ChatRequest {
  const value = body.value
  if (typeof value.model !== 'string' || value.model === '')
    throw invalidRequest('model is required and must be a string', 'model')
  if (value.model.length > 256) throw invalidRequest('model is longer than 256 characters', 'model')
  const messages = value.messages
  if (!Array.isArray(messages)) throw invalidRequest('messages is required and must be an array', 'messages')
  if (messages.length === 0) throw invalidRequest('messages must hold at least one message', 'messages')
  refuseUnbounded(value)
  const limitMembers = ['max_completion_tokens', 'max_tokens'].filter(name => isGiven(value[name]))
  const limits = limitMembers.map(name => wholeNumber(value[name], name, 10_000_000))
  const isStream = optionalBool(value.stream, 'stream') ?? false
  const streamOptions = optionalObject(value.stream_options, 'stream_options')
  return {
    body,
    model: value.model,
    isStream,
    wantsUsage: isStream && streamOptions?.include_usage === true,
    choices: isGiven(value.n) ? BigInt(wholeNumber(value.n, 'n', 128)) : 1n,
    outputLimit: limits.length === 0 ? null : BigInt(Math.max(...limits)),
    limitMembers,
    serviceTier: typeof value.service_tier === 'string' ? value.service_tier : null,
    endUser: firstText(value.user, value.safety_identifier),
    input: inputFacts(body, messages, value),
  }
}

function inputFacts(body: JsonObject, messages: unknown[], value: Record<string, unknown>): InputFacts {
  let images = 0
  let inlineMediaBytes = 0
  let wholeContext: string | null = null
  for (const [i, message] of messages.entries()) {
    if (!isObject(message)) throw invalidRequest(`messages[${i}] must be an object`, `messages[${i}]`)
    if (!Array.isArray(message.content)) continue
    for (const [j, part] of message.content.entries()) {
      const path = `messages[${i}].content[${j}]`
      if (!isObject(part)) throw invalidRequest(`${path} must be an object`, path)
      if (part.type === 'text' || part.type === 'refusal') continue
      if (part.type === 'image_url') {
        images += 1
        inlineMediaBytes += dataUrlBytes(part.image_url)
      } else if (part.type === 'input_audio') {
        throw unboundedCost(path, 'audio is priced in a class of its own, which is not known here')
      } else wholeContext ??= path
    }
  }
  const prediction = body.spans.get('prediction')
  const tools = Array.isArray(value.tools) ? value.tools.length : 0
  const functions = Array.isArray(value.functions) ? value.functions.length : 0
  return {
    bodyBytes: BigInt(body.bytes.length),
    inlineMediaBytes: BigInt(inlineMediaBytes),
    messages: BigInt(messages.length),
    tools: BigInt(tools + functions),
    images: BigInt(images),
    wholeContext,
    predictionBytes: prediction && isGiven(value.prediction) ? BigInt(prediction.end - prediction.start) : 0n,
  }
}

function refuseUnbounded(value: Record<string, unknown>): void {
  if (isGiven(value.web_search_options))
    throw unboundedCost('web_search_options', 'the provider decides how often it searches')
  if (isGiven(value.audio)) throw unboundedCost('audio', 'audio output is priced in a class of its own')
  if (Array.isArray(value.modalities) && value.modalities.some(m => m !== 'text'))
    throw unboundedCost('modalities', 'only text output is priced')
  if (!isGiven(value.tools)) return
  if (!Array.isArray(value.tools)) throw invalidRequest('tools must be an array', 'tools')
  for (const [i, tool] of value.tools.entries()) {
    const kind = isObject(tool) ? tool.type : undefined
    if (kind !== 'function' && kind !== 'custom')
      throw unboundedCost(`tools[${i}].type`, 'a tool run by the provider has no declared maximum of uses')
  }
}

function dataUrlBytes(image: unknown): number {
  const url = isObject(image) ? image.url : image
  return typeof url === 'string' && url.startsWith('data:') ? url.length : 0
}

function wholeNumber(value: unknown, name: string, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > max)
    throw invalidRequest(`${name} must be a whole number from 1 to ${max}`, name)
  return value
}

function optionalBool(value: unknown, name: string): boolean | null {
  if (!isGiven(value)) return null
  if (typeof value !== 'boolean') throw invalidRequest(`${name} must be true or false`, name)
  return value
}

function optionalObject(value: unknown, name: string): Record<string, unknown> | null {
  if (!isGiven(value)) return null
  if (!isObject(value)) throw invalidRequest(`${name} must be an object`, name)
  return value
}

function firstText(...values: unknown[]): string | null {
  for (const value of values) if (typeof value === 'string' && value !== '') return value.slice(0, 200)
  return null
}

/** Providers read null as "not given". */
function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
