// What an OpenAI-type answer says it used. Cached tokens are a part of the prompt, reasoning a part of the completion.

import { least } from '../../amount.ts'
import type { Tokens } from '../../price.ts'
import { isObject } from './chat.ts'

export interface Usage {
  tokens: Tokens
  reasoning: bigint
}

/** Null when there is no report, or one that cannot be true; the caller then falls back to its bound. */
export function decodeUsage(usage: unknown): Usage | null {
  if (!isObject(usage)) return null
  const prompt = counter(usage.prompt_tokens)
  const completion = counter(usage.completion_tokens)
  if (prompt === null || completion === null) return null
  const cached = detail(usage.prompt_tokens_details, 'cached_tokens')
  const cacheRead = least(cached, prompt)
  return {
    tokens: { input: prompt - cacheRead, cacheRead, cacheWrite5m: 0n, cacheWrite1h: 0n, output: completion },
    reasoning: detail(usage.completion_tokens_details, 'reasoning_tokens'),
  }
}

function detail(details: unknown, name: string): bigint {
  return (isObject(details) ? counter(details[name]) : null) ?? 0n
}

function counter(value: unknown): bigint | null {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : null
}
