// What a call costs: whole tokens times whole prices, divided once, upward.
//
// A price is nano-dollars per 1 000 000 units, so 0.01875 USD per million is 18 750 000 and a token of it costs
// 18.75 nano, kept exactly. A multiplier (service tier, batch) is in parts per million. Units × price × ppm is
// therefore an integer of 10⁻²¹ USD; that integer goes into the ledger beside the booked nano-dollars.

import { mulDiv } from '#platform/money'

/** Prices differ by class; reasoning tokens are output. */
export const tokenClasses = ['input', 'cacheRead', 'cacheWrite5m', 'cacheWrite1h', 'output'] as const
export type TokenClass = (typeof tokenClasses)[number]

/** Disjoint counts: `input` excludes what was read from or written to the provider's prompt cache. */
export type Tokens = Readonly<Record<TokenClass, bigint>>

export interface Price {
  id: number
  provider: string
  model: string
  /** The dated name the provider also answers to, `gpt-4o-2024-08-06`. */
  versionTag: string
  /** Nano-dollars per 1 000 000 tokens. */
  perMillion: Readonly<Record<TokenClass, bigint>>
  isFree: boolean
}

export const noTokens: Tokens = { input: 0n, cacheRead: 0n, cacheWrite5m: 0n, cacheWrite1h: 0n, output: 0n }

/** Parts per million of "times one". */
export const onePpm = 1_000_000n

/** 10⁻²¹ USD. Linear in every class, so costs of parts add up to the cost of the whole. */
export function exactCost(tokens: Tokens, price: Price, ppm: bigint = onePpm): bigint {
  let sum = 0n
  for (const kind of tokenClasses) sum += tokens[kind] * price.perMillion[kind]
  return sum * ppm
}

/** The one division: 10⁻²¹ USD to whole nano-dollars, upward, so that what is booked never falls below what is owed. */
export function bookedNano(exact: bigint): bigint {
  return mulDiv(exact, 1n, exactPerNano, 'ceil')
}

const exactPerNano = 1_000_000_000_000n

export function costNano(tokens: Tokens, price: Price, ppm: bigint = onePpm): bigint {
  return bookedNano(exactCost(tokens, price, ppm))
}

/** An empty or all-zero price means nobody knows it; only an operator's word makes a model free. */
export function isKnown(price: Price): boolean {
  return price.isFree || tokenClasses.some(kind => price.perMillion[kind] > 0n)
}

const inputClasses = ['input', 'cacheRead', 'cacheWrite5m', 'cacheWrite1h'] as const

/** The dearest class an input token can fall into: providers decide after the fact what they cached. */
export function dearestInput(price: Price): bigint {
  let dearest = 0n
  for (const kind of inputClasses) if (price.perMillion[kind] > dearest) dearest = price.perMillion[kind]
  return dearest
}

/** Service tiers as the provider bills them. An unknown tier is billed like the standard one. */
export function tierPpm(tier: string | null): bigint {
  switch (tier) {
    case 'flex':
    case 'batch':
      return 500_000n
    case 'priority':
      return 2_000_000n
    default:
      return onePpm
  }
}
