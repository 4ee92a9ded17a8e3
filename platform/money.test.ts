import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { allocate, formatUsd, mulDiv, nanoPerUsd, parseUsd } from './money.ts'

const amount = fc.bigInt({ min: 0n, max: 9_000_000_000n * nanoPerUsd })
const anyInt = fc.bigInt({ min: -(10n ** 40n), max: 10n ** 40n })

test('parse ∘ format is identity for every amount we take', () => {
  fc.assert(fc.property(amount, n => parseUsd(formatUsd(n)) === n))
})

test('amounts are refused with their bound, never rounded', () => {
  for (const text of ['', '-1', '1e3', '0x1', '1.', '.5', ' 1', '1,5', 'NaN', '0.0000000001', '9000000000.000000001'])
    assert.throws(() => parseUsd(text), RangeError, text)
  assert.equal(parseUsd('0.0000000010000'), 1n)
})

test('allocated parts sum to the whole, are within one unit of the exact share, and keep the order of equal weights', () => {
  fc.assert(
    fc.property(
      anyInt,
      fc.array(fc.bigInt({ min: 0n, max: 10n ** 18n }), { minLength: 1, maxLength: 20 }),
      (total, weights) => {
        const sum = weights.reduce((a, b) => a + b, 0n)
        fc.pre(sum > 0n)
        const parts = allocate(total, weights)
        assert.equal(
          parts.reduce((a, b) => a + b, 0n),
          total,
        )
        parts.forEach((part, i) => {
          const off = part * sum - total * (weights[i] ?? 0n)
          assert.ok(off > -sum && off < sum)
        })
      },
    ),
  )
})

test('mulDiv: floor ≤ exact ≤ ceil, one apart unless exact, and half goes to even', () => {
  fc.assert(
    fc.property(
      anyInt,
      anyInt,
      anyInt.filter(c => c !== 0n),
      (a, b, c) => {
        const floor = mulDiv(a, b, c, 'floor')
        const ceil = mulDiv(a, b, c, 'ceil')
        const half = mulDiv(a, b, c, 'halfEven')
        const exact = (a * b) % c === 0n
        assert.equal(ceil - floor, exact ? 0n : 1n)
        assert.ok(half === floor || half === ceil)
        const abs = (n: bigint) => (n < 0n ? -n : n)
        assert.ok(abs(floor * c - a * b) < abs(c) && abs(half * c - a * b) * 2n <= abs(c))
      },
    ),
  )
  assert.deepEqual(
    [1n, 3n, 5n, -1n, -3n].map(n => mulDiv(n, 1n, 2n, 'halfEven')),
    [0n, 2n, 2n, 0n, -2n],
  )
})
