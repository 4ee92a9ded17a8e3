// The most a call can cost, known before it is made. The hold is this bound, so a budget can be promised.
//
// Input: a byte-level vocabulary never makes more tokens than there are bytes, so bytes bound tokens, plus what a chat
// template adds around messages and tools. Output: the provider is given a limit, and the hold covers that limit.

import { mulDiv } from '#platform/money'
import { least } from './amount.ts'
import type { InputFacts } from './dialects/openai/chat.ts'
import { bookedNano, dearestInput, onePpm, type Price } from './price.ts'

/** What is known about a model beside its price; null is unknown. */
export interface ModelFacts {
  contextWindow: bigint | null
  outputMax: bigint | null
  imageTokensMax: bigint | null
  /** Raised when a provider was seen to exceed the bound, in parts per million. */
  learnedPpm: bigint
}

export const unknownFacts: ModelFacts = {
  contextWindow: null,
  outputMax: null,
  imageTokensMax: null,
  learnedPpm: onePpm,
}

/** One image on gpt-4o-mini can be 48 k tokens. */
const imageTokensUnknown = 50_000n

/** Tokens of input at most; null when a member counts as a context window that nobody knows. */
export function inputBound(input: InputFacts, facts: ModelFacts): bigint | null {
  if (input.wholeContext !== null) return facts.contextWindow
  const tokens =
    input.bodyBytes -
    input.inlineMediaBytes +
    8n * input.messages +
    64n * input.tools +
    (input.tools > 0n ? 1_024n : 0n) +
    64n +
    input.images * (facts.imageTokensMax ?? imageTokensUnknown)
  const learned = mulDiv(tokens, facts.learnedPpm, onePpm, 'ceil')
  return facts.contextWindow === null ? learned : least(learned, facts.contextWindow)
}

/** The limit of a call that names none. */
export function defaultOutputLimit(facts: ModelFacts, outputTokensMax: bigint): bigint {
  return least(facts.outputMax ?? facts.contextWindow ?? outputTokensMax, outputTokensMax)
}

export interface Bound {
  inputTokens: bigint
  /** All choices together, without the prediction. */
  choices: bigint
  /** Billed as output on top of the limit. */
  predictionTokens: bigint
  price: Price
  ppm: bigint
}

/** Nano-dollars to hold for `limit` output tokens per choice. */
export function holdNano(bound: Bound, limit: bigint): bigint {
  return bookedNano(inputExact(bound) + limit * outputExactPerToken(bound))
}

/** The largest output limit per choice whose hold is at most `headroomNano`; negative when not even the input fits. */
export function limitThatFits(bound: Bound, headroomNano: bigint): bigint {
  const left = headroomNano * exactPerNano - inputExact(bound)
  if (left < 0n) return -1n
  const perToken = outputExactPerToken(bound)
  return perToken === 0n ? limitWithoutPrice : mulDiv(left, 1n, perToken, 'floor')
}

const exactPerNano = 1_000_000_000_000n
/** Output is free: no headroom limits it. Above any limit a request may name. */
const limitWithoutPrice = 1n << 40n

function inputExact({ inputTokens, predictionTokens, price, ppm }: Bound): bigint {
  return (inputTokens * dearestInput(price) + predictionTokens * price.perMillion.output) * ppm
}

function outputExactPerToken({ choices, price, ppm }: Bound): bigint {
  return choices * price.perMillion.output * ppm
}
