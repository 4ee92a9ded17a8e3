// Watches a streamed chat completion go by: what it reports, how it ends, and a bound on what it has produced.

import { isObject } from './chat.ts'
import type { Usage } from './usage.ts'
import { decodeUsage } from './usage.ts'

/** What the relay does with an event. */
export type EventKind =
  /** Goes through at once. */
  | 'relay'
  /** The usage chunk that only we asked for. */
  | 'withhold'
  /** `[DONE]`: goes through when the call is settled. */
  | 'terminal'

export class ChatMeter {
  readonly #wantsUsage: boolean
  usage: Usage | null = null
  serviceTier: string | null = null
  upstreamId: string | null = null
  isFinished = false
  isDone = false
  hasError = false
  /** UTF-8 bytes of everything the model is known to have produced; tokens are never more. */
  producedBytes = 0

  constructor(wantsUsage: boolean) {
    this.#wantsUsage = wantsUsage
  }

  /** `data` is an event's data, null for a comment. */
  see(data: string | null): EventKind {
    if (data === null) return 'relay'
    if (data.trim() === '[DONE]') {
      this.isDone = true
      return 'terminal'
    }
    let chunk: unknown
    try {
      chunk = JSON.parse(data)
    } catch {
      // Not ours to judge: the client gets what the provider sent.
      this.producedBytes += Buffer.byteLength(data)
      return 'relay'
    }
    return isObject(chunk) ? this.#seeChunk(chunk) : 'relay'
  }

  #seeChunk(chunk: Record<string, unknown>): EventKind {
    if (isObject(chunk.error)) this.hasError = true
    if (typeof chunk.id === 'string') this.upstreamId = chunk.id
    if (typeof chunk.service_tier === 'string') this.serviceTier = chunk.service_tier
    const usage = decodeUsage(chunk.usage)
    // The last report wins; reports are never summed.
    if (usage) this.usage = usage
    const choices = Array.isArray(chunk.choices) ? chunk.choices : []
    for (const choice of choices) {
      if (!isObject(choice)) continue
      if (typeof choice.finish_reason === 'string') this.isFinished = true
      this.producedBytes += textBytes(choice.delta)
    }
    return usage && choices.length === 0 && !this.#wantsUsage ? 'withhold' : 'relay'
  }
}

/** Bytes of all text in a delta: content, refusal, reasoning, names and arguments of tool calls. */
export function textBytes(value: unknown, depth = 0): number {
  if (typeof value === 'string') return Buffer.byteLength(value)
  if (typeof value !== 'object' || value === null || depth > 8) return 0
  let bytes = 0
  for (const inner of Object.values(value)) bytes += textBytes(inner, depth + 1)
  return bytes
}
