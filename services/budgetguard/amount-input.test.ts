import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatUsd } from '#platform/money'
import { parseAmount, plainDecimal } from './amount-input.ts'

test('a JSON number means the decimal it was written as', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 999_999_999 }), fc.integer({ min: 0, max: 9 }), (digits, places) => {
      const text = (digits / 10 ** places).toString()
      const nano = parseAmount(JSON.parse(text))
      assert.equal(nano, (BigInt(digits) * 10n ** 9n) / 10n ** BigInt(places))
      assert.equal(parseAmount(formatUsd(nano)), nano)
    }),
  )
})

test('a number with more digits than a float carries must come as a string', () => {
  assert.throws(() => parseAmount(0.30000000000000004), /17 significant digits.*send it as a string/)
  assert.throws(() => parseAmount(12345678.123456789), /send it as a string/)
  assert.equal(parseAmount('12345678.123456789'), 12_345_678_123_456_789n)
})

test('what is no amount says so', () => {
  for (const value of [
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    '-1',
    '1e3',
    '',
    '1.0000000001',
    null,
    {},
    9_000_000_001,
  ])
    assert.throws(() => parseAmount(value), RangeError, String(value))
})

test('no exponent survives', () => {
  assert.equal(plainDecimal(1e-7), '0.0000001')
  assert.equal(plainDecimal(2.5e-9), '0.0000000025')
  assert.equal(plainDecimal(1e21), '1000000000000000000000')
  assert.equal(plainDecimal(0.5), '0.5')
})
