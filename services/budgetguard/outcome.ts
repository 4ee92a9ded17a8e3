// What a call is booked at, by how it ended. Pure; the one place that turns an ending into money.

import { least, most } from './amount.ts'
import type { CallStatus } from './api.ts'
import type { Bound } from './bound.ts'
import type { Usage } from './dialects/openai/usage.ts'
import { bookedNano, exactCost, noTokens, onePpm, type Price, tierPpm } from './price.ts'
import type { Outcome } from './record.ts'

/** Everything about the call that its cost depends on. */
export interface Terms {
  price: Price
  bound: Bound
  /** Output limit per choice that the hold covers. */
  limit: bigint
  held: bigint
  /** As asked; what the provider answers wins. */
  serviceTier: string | null
}

export interface Ending {
  status: CallStatus
  reason: string | null
  upstreamId: string | null
  latencyMs: number
}

/** The provider said what it used. A cost above the hold is booked in full and flagged. */
export function reportedOutcome(terms: Terms, ending: Ending, usage: Usage, answeredTier: string | null): Outcome {
  const ppm = answeredTier === null ? most(tierPpm(terms.serviceTier), onePpm) : tierPpm(answeredTier)
  const exact = exactCost(usage.tokens, terms.price, ppm)
  const settled = bookedNano(exact)
  return {
    ...ending,
    input: usage.tokens.input,
    cacheRead: usage.tokens.cacheRead,
    cacheWrite: usage.tokens.cacheWrite5m + usage.tokens.cacheWrite1h,
    output: usage.tokens.output,
    reasoning: usage.reasoning,
    usageSource: 'reported',
    settled,
    exact,
    flags: settled > terms.held ? ['hold_overrun'] : [],
  }
}

/** Nobody reported: the input bound and what was seen of the output, a token per byte, never more than the hold. */
export function estimatedOutcome(terms: Terms, ending: Ending, producedBytes: number): Outcome {
  const { bound, price } = terms
  const output = least(BigInt(producedBytes), terms.limit * bound.choices)
  const exact = exactCost({ ...noTokens, input: bound.inputTokens, output }, price, bound.ppm)
  return {
    ...ending,
    ...unseen,
    input: bound.inputTokens,
    output,
    usageSource: 'estimated',
    settled: least(bookedNano(exact), terms.held),
    exact: least(exact, terms.held * exactPerNano),
  }
}

/** It may all have been produced and billed; what is not known is not given away. */
export function wholeHoldOutcome(terms: Terms, ending: Ending, source: 'hold' | 'estimated' = 'hold'): Outcome {
  return {
    ...ending,
    ...unseen,
    input: terms.bound.inputTokens,
    output: terms.limit * terms.bound.choices,
    usageSource: source,
    settled: terms.held,
    exact: terms.held * exactPerNano,
  }
}

/** Nothing was sent, or what was sent was refused unbilled. */
export function freeOutcome(ending: Ending): Outcome {
  return { ...ending, ...unseen, input: 0n, output: 0n, usageSource: 'none', settled: 0n, exact: 0n }
}

const unseen = { cacheRead: 0n, cacheWrite: 0n, reasoning: 0n, flags: [] }
const exactPerNano = 1_000_000_000_000n
