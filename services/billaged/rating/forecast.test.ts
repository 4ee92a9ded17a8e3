import assert from 'node:assert/strict'
import test from 'node:test'
import { forecastUsage } from './forecast.ts'

test('a forecast keeps what was measured and gives each hour to come the average so far', () => {
  const period = { from: 1000, to: 1100 }
  const at = (hour: number) => hour * 3_600_000
  const used = (quantityE9: bigint) => [{ meter: 'm', group: {}, quantityE9 }]
  const total = (list: { quantityE9: bigint }[]) => list.reduce((sum, item) => sum + item.quantityE9, 0n)
  // 40 hours over, 80 used: 2 an hour, 60 hours to come.
  assert.equal(total(forecastUsage(period, used(80n), used(80n), period, at(1040))), 200n)
  // Cut at hour 60: the first part is to run 20 more, the second all of its 40.
  const [a, b] = [
    { from: 1000, to: 1060 },
    { from: 1060, to: 1100 },
  ]
  assert.equal(total(forecastUsage(a, used(80n), used(80n), period, at(1040))), 120n)
  assert.equal(total(forecastUsage(b, [], used(80n), period, at(1040))), 80n)
  // Over, or not begun: as measured.
  assert.equal(total(forecastUsage(period, used(80n), used(80n), period, at(1100))), 80n)
  assert.equal(total(forecastUsage(period, [], [], period, at(990))), 0n)
})
