import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseUsd } from '#platform/money'
import { guideModels } from './guide-prices.ts'
import {
  bookedNano,
  costNano,
  exactCost,
  isKnown,
  noTokens,
  onePpm,
  type Price,
  tierPpm,
  tokenClasses,
} from './price.ts'

const nanoPer1M = fc.bigInt(0n, 200_000_000_000n)
const price: fc.Arbitrary<Price> = fc
  .tuple(nanoPer1M, nanoPer1M, nanoPer1M, nanoPer1M, nanoPer1M)
  .map(([input, cacheRead, cacheWrite5m, cacheWrite1h, output]) => ({
    id: 1,
    provider: 'p',
    model: 'm',
    versionTag: 'm',
    isFree: false,
    perMillion: { input, cacheRead, cacheWrite5m, cacheWrite1h, output },
  }))
const count = fc.bigInt(0n, 2_000_000n)
const tokens = fc
  .tuple(count, count, count, count, count)
  .map(([input, cacheRead, cacheWrite5m, cacheWrite1h, output]) => ({
    input,
    cacheRead,
    cacheWrite5m,
    cacheWrite1h,
    output,
  }))
const ppm = fc.constantFrom(onePpm, tierPpm('flex'), tierPpm('priority'))

test('a cost is units × price × multiplier, divided once and upward, and never off by a nano-dollar', () => {
  fc.assert(
    fc.property(tokens, price, ppm, (units, prices, multiplier) => {
      // The oracle adds fractions over one denominator, 10¹² per nano-dollar.
      let numerator = 0n
      for (const kind of tokenClasses) numerator += units[kind] * prices.perMillion[kind] * multiplier
      const exact = exactCost(units, prices, multiplier)
      assert.equal(exact, numerator)
      const booked = bookedNano(exact)
      assert.ok(booked * 10n ** 12n >= exact)
      assert.ok((booked - 1n) * 10n ** 12n < exact)
    }),
  )
})

test('more tokens of any class never cost less', () => {
  fc.assert(
    fc.property(
      tokens,
      price,
      fc.constantFrom(...tokenClasses),
      fc.bigInt(0n, 10_000n),
      (units, prices, kind, more) => {
        const grown = { ...units, [kind]: units[kind] + more }
        assert.ok(costNano(grown, prices) >= costNano(units, prices))
      },
    ),
  )
})

test('18.75 nano-dollars a token stay 18.75', () => {
  const input = parseUsd('0.01875')
  assert.equal(input, 18_750_000n)
  const prices: Price = {
    id: 1,
    provider: 'p',
    model: 'm',
    versionTag: 'm',
    isFree: false,
    perMillion: { input, cacheRead: 0n, cacheWrite5m: 0n, cacheWrite1h: 0n, output: 0n },
  }
  assert.equal(exactCost({ ...noTokens, input: 1n }, prices), 18_750_000_000_000n)
  assert.equal(costNano({ ...noTokens, input: 1n }, prices), 19n)
  assert.equal(costNano({ ...noTokens, input: 4n }, prices), 75n)
})

test('an all-zero price is unknown unless somebody said free', () => {
  const zero: Price = {
    id: 1,
    provider: 'p',
    model: 'm',
    versionTag: 'm',
    isFree: false,
    perMillion: noTokens,
  }
  assert.equal(isKnown(zero), false)
  assert.equal(isKnown({ ...zero, isFree: true }), true)
})

test('every guide price parses to whole nano-dollars per million', () => {
  for (const model of guideModels)
    for (const usd of [model.input, model.cacheRead, model.output]) assert.ok(parseUsd(usd) > 0n, model.model)
})
