import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Spend } from '../api/billaged.ts'
import { type CostSnapshot, movedOn } from './costs.ts'

const segment = { from: '2026-11-01T00:00:00Z', to: '2026-12-01T00:00:00Z' }
const line = (priceId: string, amountNano: string) => ({
  kind: 'usage' as const,
  priceId,
  meter: 'vm_cpu',
  model: 'per_unit',
  group: {},
  segment,
  quantity: '1',
  freeQuantity: '0',
  tiers: [],
  amountNano,
  dividend: amountNano,
  divisor: '1',
  remainder: '0',
})
const spend: Spend = {
  customerId: 'acme',
  planId: 'std',
  currency: 'USD',
  ...segment,
  asOf: '2026-11-21T12:00:00Z',
  complete: true,
  totalNano: '12',
  lines: [line('cpu', '5'), line('memory', '7')],
  unrated: [],
  forecastNano: '20',
  budgetNano: null,
}
const cost: CostSnapshot = {
  customerId: 'acme',
  period: segment,
  asOf: '2026-11-21T12:00:05Z',
  currency: 'USD',
  planId: 'std',
  totalNano: '13',
  forecastNano: '21',
  nanoPerHour: null,
  budgetNano: null,
  lines: [
    { kind: 'usage', priceId: 'cpu', meter: 'vm_cpu', quantity: '2', amountNano: '6' },
    { kind: 'usage', priceId: 'memory', meter: 'vm_cpu', quantity: '1', amountNano: '7' },
  ],
  vms: [],
  otherVms: { count: 0, amountNano: '0' },
}

test('the stream moves totals and lines together, and a line that moved has no old division beside it', () => {
  const moved = movedOn(spend, cost)
  assert.equal(moved?.totalNano, '13')
  assert.deepEqual(
    moved?.lines.map(({ amountNano, dividend }) => [amountNano, dividend]),
    [
      ['6', ''],
      ['7', '7'],
    ],
  )
})

test('what is older than what was read changes nothing, and other lines ask for a new reading', () => {
  assert.equal(movedOn(spend, { ...cost, asOf: spend.asOf }), spend)
  assert.equal(movedOn(spend, null), spend)
  assert.equal(movedOn(spend, { ...cost, lines: cost.lines.slice(1) }), null)
  assert.equal(movedOn(spend, { ...cost, planId: 'other' }), null)
})
