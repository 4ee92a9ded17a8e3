import assert from 'node:assert/strict'
import test from 'node:test'
import { forecastUsage, quietestAndBusiest, usageByDay } from './forecast.ts'

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

test('the band takes each meter at its quietest and its busiest day, and a day without it is the quietest', () => {
  const used = (meter: string, quantityE9: bigint, model = 'a') => ({ meter, group: { model }, quantityE9 })
  const { low, high } = quietestAndBusiest([
    [used('cpu', 5n), used('cpu', 2n), used('ai', 9n)],
    [used('cpu', 4n)],
    [used('cpu', 6n), used('ai', 1n, 'b')],
  ])
  const quantities = (list: readonly { quantityE9: bigint }[]) => list.map(({ quantityE9 }) => quantityE9)
  assert.deepEqual(quantities(low), [4n, 0n, 0n])
  assert.deepEqual(quantities(high), [7n, 9n, 1n])
  assert.deepEqual(quietestAndBusiest([]), { low: [], high: [] })
  // 36 of 48 hours are over; half a day at 8 a day is to come.
  const segment = { from: 1000, to: 1048 }
  const coming = usageByDay(segment, [used('cpu', 20n)], [used('cpu', 8n)], 1036 * 3_600_000)
  assert.equal(
    coming.reduce((sum, item) => sum + item.quantityE9, 0n),
    24n,
  )
})
