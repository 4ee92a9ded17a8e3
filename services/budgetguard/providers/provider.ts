// A provider: one attempt at one call. It never retries and never decides what an attempt costs; it says how it ended.

import type { ChatRequest } from '../dialects/openai/chat.ts'

export interface ProviderCall {
  request: ChatRequest
  /** What is sent: the caller's bytes with our few members set. */
  body: Buffer
  /** The output limit that the hold covers, per choice. */
  outputLimit: bigint
  requestId: string
  /** A caller's own key for this call; otherwise the configured one. */
  ownKey: string | null
  /** `x-echo-*` and what else a provider of ours listens to. */
  headers: Readonly<Record<string, string | string[] | undefined>>
  signal: AbortSignal
}

export interface ProviderAnswer {
  status: number
  contentType: string
  /** The provider's name for this call. */
  upstreamId: string | null
  /** Seconds, or a date, when the provider asks for patience. */
  retryAfter: string | null
  /** @throws UpstreamFailure while being read */
  body: AsyncIterable<Buffer>
}

export interface Provider {
  name: string
  /** Where an output limit goes when the caller gave none. */
  limitMember: 'max_tokens' | 'max_completion_tokens'
  /** Null when it cannot be called: what to set. */
  unconfigured(ownKey: string | null): { label: string; variable: string } | null
  /** @throws UpstreamFailure */
  chat(call: ProviderCall): Promise<ProviderAnswer>
}

/**
 * `refused`: no connection, so nothing was sent. `timeout`, `cut`: it was sent and may have been billed.
 * `aborted`: we gave up because our caller did.
 */
export type FailureKind = 'refused' | 'timeout' | 'cut' | 'aborted'

export class UpstreamFailure extends Error {
  readonly kind: FailureKind
  constructor(kind: FailureKind, message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'UpstreamFailure'
    this.kind = kind
  }
}
