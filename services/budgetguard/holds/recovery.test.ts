import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { orphanCost } from './recovery.ts'

test('an orphan is booked whole, at its input and half its output bound, or at nothing, never above its hold', () => {
  assert.equal(orphanCost({ amount: 100n, amountOfOutput: 60n }, 'hold'), 100n)
  assert.equal(orphanCost({ amount: 100n, amountOfOutput: 60n }, 'estimate'), 70n)
  assert.equal(orphanCost({ amount: 100n, amountOfOutput: 60n }, 'release'), 0n)
  fc.assert(
    fc.property(
      fc.bigInt(0n, 1n << 62n),
      fc.bigInt(0n, 1n << 62n),
      fc.constantFrom('hold' as const, 'estimate' as const, 'release' as const),
      (input, amountOfOutput, policy) => {
        const amount = input + amountOfOutput
        const cost = orphanCost({ amount, amountOfOutput }, policy)
        assert.ok(cost >= 0n && cost <= amount)
      },
    ),
  )
})
