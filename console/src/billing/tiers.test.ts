import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { priceSchema } from '../../../services/billaged/rating/plan.ts'
import { rateLine } from '../../../services/billaged/rating/rate.ts'
import type { PriceInput } from '../api/billing-plans.ts'
import { amountAt, boundsOf, curveOf, reachOf } from './tiers.ts'

const amount = fc.bigInt(0n, 10_000_000_000n).map(String)
const per = fc.bigInt(1n, 5_000n).map(String)
const freeQuantity = fc.bigInt(0n, 50n).map(String)
const tiers = fc
  .tuple(fc.uniqueArray(fc.bigInt(1n, 10_000n), { maxLength: 4 }), fc.array(amount, { minLength: 10, maxLength: 10 }))
  .map(([bounds, amounts]) =>
    [...bounds.sort((a, b) => (a < b ? -1 : 1)), null].map((upTo, i) => ({
      upTo: upTo === null ? null : `${upTo}`,
      amountNano: amounts[i] ?? '0',
      flatNano: amounts[i + 5] ?? '0',
    })),
  )
const common = { id: fc.constant('p'), meter: fc.constant('m') }
const price: fc.Arbitrary<PriceInput> = fc.oneof(
  fc.record({ ...common, model: fc.constant('per_unit' as const), per, amountNano: amount, freeQuantity }),
  fc.record({ ...common, model: fc.constant('graduated' as const), per, tiers, freeQuantity }),
  fc.record({ ...common, model: fc.constant('volume' as const), per, tiers, freeQuantity }),
  fc.record({ ...common, model: fc.constant('package' as const), packageSize: per, amountNano: amount, freeQuantity }),
  fc.record({ ...common, model: fc.constant('cost_plus' as const), markupPpm: fc.nat(2_000_000) }),
)

test('the graph draws what an invoice line of a whole period would say', () => {
  const period = { from: 0, to: 720 }
  fc.assert(
    fc.property(price, fc.bigInt(0n, 20_000n), (one, quantity) => {
      const line = rateLine(priceSchema.parse(one), { id: 'p', version: 1 }, quantity * 1_000_000_000n, period, period)
      assert.equal(amountAt(one, quantity), line?.amountNano ?? 0n)
    }),
  )
})

test('a half typed price has no amount instead of a wrong one', () => {
  assert.equal(amountAt({ id: 'p', model: 'per_unit', meter: 'm', per: '', amountNano: '5' }, 10n), null)
  assert.equal(amountAt({ id: 'p', model: 'flat', amountNano: '1.5' }, 10n), null)
})

test('the curve has a point at every bound and one just above it', () => {
  const one: PriceInput = {
    id: 'p',
    model: 'volume',
    meter: 'm',
    per: '1',
    tiers: [
      { upTo: '100', amountNano: '2' },
      { upTo: null, amountNano: '1' },
    ],
  }
  const at = (quantity: bigint) => curveOf(one, 1000n).find(point => point.quantity === quantity)?.amount
  assert.deepEqual([at(100n), at(101n)], [200n, 101n])
  assert.deepEqual(boundsOf({ ...one, freeQuantity: '7' }), [7n, 107n])
  assert.equal(reachOf(one, 0n), 160n)
  assert.equal(reachOf(one, 10_000n), 12_500n)
})
