import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { versionJson, versionSchema } from '../../../services/billaged/rating/plan.ts'
import type { PlanVersion, PriceInput } from '../api/billing-plans.ts'
import { draftFrom, newPrice, problemOf, unitsFrom, unitsText, versionFrom } from './plan-form.ts'

const prices: PriceInput[] = [
  { id: 'base', model: 'flat', amountNano: '20000000000' },
  {
    id: 'cpu',
    model: 'per_unit',
    meter: 'vm_cpu',
    match: {},
    per: '3600000000000',
    amountNano: '1',
    freeQuantity: '7',
  },
  {
    id: 'net',
    model: 'graduated',
    meter: 'vm_net_tx',
    match: {},
    per: '1073741824',
    freeQuantity: '0',
    tiers: [
      { upTo: '107374182400', amountNano: '0', flatNano: '5' },
      { upTo: null, amountNano: '150000000', flatNano: '0' },
    ],
  },
  {
    id: 'ai',
    model: 'cost_plus',
    meter: 'ai_cost',
    match: { provider: 'openai', model: 'gpt-4o' },
    markupPpm: 123_456,
  },
  {
    id: 'runs',
    model: 'package',
    meter: 'build_count',
    match: {},
    packageSize: '25',
    amountNano: '990000000',
    freeQuantity: '50',
  },
]
const stored: PlanVersion = {
  version: 3,
  effectiveFrom: '2026-10-01T00:00:00.000Z',
  gapPolicy: 'floor',
  minimumNano: '1000000001',
  unbilled: ['vm_disk_read', 'vm_net_rx'],
  prices,
}

test('a version that is read into the form and sent again is the same to the last unit', () => {
  const { version, problems } = versionFrom({ ...draftFrom(stored, 0), effectiveFrom: stored.effectiveFrom })
  assert.deepEqual(problems, {})
  const { version: _, ...body } = stored
  assert.deepEqual(versionJson(versionSchema.parse(version)), versionJson(versionSchema.parse(body)))
})

test('the next version begins with the next month, the first one with this', () => {
  const now = Date.UTC(2026, 11, 31, 23)
  assert.equal(draftFrom(stored, now).effectiveFrom, '2027-01-01T00:00:00Z')
  assert.equal(draftFrom(undefined, now).effectiveFrom, '2026-12-01T00:00:00Z')
})

test('what cannot be read is said at its field, by the name that billaged uses for it', () => {
  const draft = draftFrom(stored, 0)
  const price = { ...newPrice('vm_cpu', 'ns'), amount: '0,10', free: 'some' }
  const { version, problems } = versionFrom({ ...draft, effectiveFrom: 'soon', prices: [...draft.prices, price] })
  assert.equal(version, null)
  assert.deepEqual(Object.keys(problems).sort(), ['effectiveFrom', 'prices.5.amountNano', 'prices.5.freeQuantity'])
  assert.deepEqual(problemOf('prices.2.tiers.0.upTo: must be above 0.'), {
    field: 'prices.2.tiers.0.upTo',
    message: 'must be above 0.',
  })
  assert.equal(problemOf('There is no plan std.'), null)
})

test('every number of base units survives the form, whatever the unit', () => {
  const base = fc.bigInt(0n, 10n ** 29n).map(String)
  const per = fc.constantFrom('1', '1073741824', '3600000000000', '3865470566400000000000', '7')
  fc.assert(fc.property(base, per, (one, unit) => assert.equal(unitsFrom(unitsText(one, unit), unit), one)))
  assert.equal(unitsText('107374182400', '1073741824'), '100')
  assert.equal(unitsText('536870912', '1073741824'), '0.5')
  assert.throws(() => unitsFrom('0.3', '7'), /base/)
})
