// The built-in models: they repeat the last user text, so that budgets can be tried without a provider key.
//
// One token per started four bytes, on the way in and on the way out. They obey the output limit they are given, and
//   x-echo-tokens          produce exactly that many tokens, repeating or cutting the text (the limit still wins)
//   x-echo-delay-ms        wait before the first byte
//   x-echo-chunk-delay-ms  wait between the chunks of a stream

import { setTimeout as wait } from 'node:timers/promises'
import type { Clock } from '#platform/time'
import { isObject } from '../dialects/openai/chat.ts'
import { type Provider, type ProviderAnswer, type ProviderCall, UpstreamFailure } from './provider.ts'

const bytesPerToken = 4
const tokensMax = 1_000_000
const delayMsMax = 10 * 60_000

export function openEcho(clock: Clock): Provider {
  return {
    name: 'echo',
    limitMember: 'max_tokens',
    unconfigured: () => null,
    async chat(call) {
      await pause(number(call, 'x-echo-delay-ms', delayMsMax) ?? 0, call.signal)
      return call.request.isStream ? streamed(call, clock) : whole(call, clock)
    },
  }
}

interface Echo {
  text: string
  tokens: number
  isCut: boolean
  usage: { prompt_tokens: number; completion_tokens: number; total_tokens: number }
  id: string
  created: number
}

function echoOf(call: ProviderCall, clock: Clock): Echo {
  const messages = call.request.body.value.messages
  const texts = Array.isArray(messages) ? messages.map(textOf) : []
  const last = Array.isArray(messages) ? messages.findLastIndex(m => isObject(m) && m.role === 'user') : -1
  const source = texts[last] ?? ''
  const asked = number(call, 'x-echo-tokens', tokensMax)
  const wanted = asked ?? tokensOf(source)
  const limit = Number(call.outputLimit < BigInt(tokensMax) ? call.outputLimit : BigInt(tokensMax))
  const bytes = Math.min(wanted, limit) * bytesPerToken
  const text = cutTo(asked === null ? source : repeatTo(source === '' ? 'echo' : source, bytes), bytes)
  // A character of several bytes may not fit behind the last one; what was asked for by number counts as asked.
  const tokens = asked === null ? tokensOf(text) : Math.min(wanted, limit)
  const prompt = texts.reduce((total, part) => total + tokensOf(part), 0)
  return {
    text,
    tokens,
    isCut: wanted > limit,
    usage: { prompt_tokens: prompt, completion_tokens: tokens, total_tokens: prompt + tokens },
    id: `chatcmpl-echo-${call.requestId.slice(0, 64)}`,
    created: Math.floor(clock.now() / 1_000),
  }
}

function whole(call: ProviderCall, clock: Clock): ProviderAnswer {
  const echo = echoOf(call, clock)
  const body = {
    id: echo.id,
    object: 'chat.completion',
    created: echo.created,
    model: call.request.model,
    choices: Array.from({ length: Number(call.request.choices) }, (_, index) => ({
      index,
      message: { role: 'assistant', content: echo.text, refusal: null },
      logprobs: null,
      finish_reason: echo.isCut ? 'length' : 'stop',
    })),
    usage: timesChoices(echo, call),
  }
  return answer(
    'application/json',
    echo,
    (async function* () {
      yield Buffer.from(JSON.stringify(body))
    })(),
  )
}

function streamed(call: ProviderCall, clock: Clock): ProviderAnswer {
  const echo = echoOf(call, clock)
  const delayMs = number(call, 'x-echo-chunk-delay-ms', delayMsMax) ?? 0
  const event = (value: unknown) => Buffer.from(`data: ${JSON.stringify(value)}\n\n`)
  const chunk = (choices: unknown[], usage?: unknown) =>
    event({
      id: echo.id,
      object: 'chat.completion.chunk',
      created: echo.created,
      model: call.request.model,
      choices,
      usage: usage ?? null,
    })
  const delta = (index: number, value: unknown, finish: string | null = null) =>
    chunk([{ index, delta: value, logprobs: null, finish_reason: finish }])
  async function* events(): AsyncGenerator<Buffer> {
    const choices = Array.from({ length: Number(call.request.choices) }, (_, index) => index)
    for (const index of choices) yield delta(index, { role: 'assistant', content: '' })
    for (const index of choices)
      for (const piece of pieces(echo.text)) {
        await pause(delayMs, call.signal)
        yield delta(index, { content: piece })
      }
    for (const index of choices) yield delta(index, {}, echo.isCut ? 'length' : 'stop')
    yield chunk([], timesChoices(echo, call))
    yield Buffer.from('data: [DONE]\n\n')
  }
  return answer('text/event-stream; charset=utf-8', echo, events())
}

function answer(contentType: string, echo: Echo, body: AsyncIterable<Buffer>): ProviderAnswer {
  return { status: 200, contentType, upstreamId: echo.id, retryAfter: null, body }
}

function timesChoices(echo: Echo, call: ProviderCall) {
  const completion = echo.tokens * Number(call.request.choices)
  return {
    prompt_tokens: echo.usage.prompt_tokens,
    completion_tokens: completion,
    total_tokens: echo.usage.prompt_tokens + completion,
    prompt_tokens_details: { cached_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 0 },
  }
}

function textOf(message: unknown): string {
  if (!isObject(message)) return ''
  if (typeof message.content === 'string') return message.content
  if (!Array.isArray(message.content)) return ''
  return message.content.map(part => (isObject(part) && typeof part.text === 'string' ? part.text : '')).join('')
}

export function tokensOf(text: string): number {
  return Math.ceil(Buffer.byteLength(text) / bytesPerToken)
}

function repeatTo(text: string, bytes: number): string {
  return text.repeat(Math.max(1, Math.ceil(bytes / Buffer.byteLength(text))))
}

/** At most that many bytes, never half a character. */
function cutTo(text: string, bytes: number): string {
  const whole = Buffer.from(text)
  if (whole.length <= bytes) return text
  let end = bytes
  while (end > 0 && ((whole[end] ?? 0) & 0xc0) === 0x80) end -= 1
  return whole.toString('utf8', 0, end)
}

/** About a token each, whole characters. */
function* pieces(text: string): Generator<string> {
  let piece = ''
  let bytes = 0
  for (const character of text) {
    piece += character
    bytes += Buffer.byteLength(character)
    if (bytes < bytesPerToken) continue
    yield piece
    piece = ''
    bytes = 0
  }
  if (piece !== '') yield piece
}

function number(call: ProviderCall, name: string, max: number): number | null {
  const given = call.headers[name]
  if (typeof given !== 'string' || !/^\d{1,9}$/.test(given)) return null
  return Math.min(Number(given), max)
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms === 0 && !signal.aborted) return
  try {
    await wait(ms, undefined, { signal })
  } catch (error) {
    const isTimeout = signal.reason instanceof Error && signal.reason.name === 'TimeoutError'
    throw new UpstreamFailure(
      isTimeout ? 'timeout' : 'aborted',
      isTimeout ? 'the call took too long' : 'the caller went away',
      error,
    )
  }
}
