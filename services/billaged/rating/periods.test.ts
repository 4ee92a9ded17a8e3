import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { hourMs, monthOf, nextPeriod, periodAt, periodStartingIn } from './periods.ts'

const cycles = fc.record({ anchorDay: fc.integer({ min: 1, max: 31 }), intervalMonths: fc.constantFrom(1, 3, 12) })
const days = (period: { from: number; to: number }) =>
  [period.from, period.to].map(hour => new Date(hour * hourMs).toISOString().slice(0, 10))

test('G34: periods follow one another without hole or overlap, begin on the anchor day and at 00:00 UTC', () => {
  fc.assert(
    fc.property(cycles, fc.integer({ min: 31_536_000_000, max: 4_000_000_000_000 }), (cycle, atMs) => {
      const period = periodAt(cycle, atMs)
      assert.ok(period.from * hourMs <= atMs && atMs < period.to * hourMs)
      assert.deepEqual(periodAt(cycle, period.from * hourMs), period)
      assert.deepEqual(periodAt(cycle, period.to * hourMs - 1), period)
      assert.equal(nextPeriod(cycle, period).from, period.to)
      assert.equal(period.from % 24, 0)
      const first = Temporal.PlainDate.from(days(period)[0] ?? '')
      assert.equal(first.day, Math.min(cycle.anchorDay, first.daysInMonth))
      assert.equal((first.month - 1) % cycle.intervalMonths, 0)
      const last = Temporal.PlainDate.from(days(period)[1] ?? '')
      assert.equal(
        first.toPlainYearMonth().add({ months: cycle.intervalMonths }).toString(),
        last.toPlainYearMonth().toString(),
      )
      assert.deepEqual(periodStartingIn(cycle, monthOf(period)), period)
    }),
  )
  // By hand: short months, leap days, years.
  const at = (anchorDay: number, intervalMonths: number, text: string) =>
    days(periodAt({ anchorDay, intervalMonths }, Date.parse(text)))
  assert.deepEqual(at(31, 1, '2026-02-28T00:00:00Z'), ['2026-02-28', '2026-03-31'])
  assert.deepEqual(at(31, 1, '2026-02-27T23:59:59Z'), ['2026-01-31', '2026-02-28'])
  assert.deepEqual(at(30, 1, '2028-02-29T12:00:00Z'), ['2028-02-29', '2028-03-30'])
  assert.deepEqual(at(1, 3, '2026-12-31T23:59:59Z'), ['2026-10-01', '2027-01-01'])
  assert.deepEqual(at(15, 3, '2026-01-14T00:00:00Z'), ['2025-10-15', '2026-01-15'])
  assert.deepEqual(at(15, 12, '2026-01-14T00:00:00Z'), ['2025-01-15', '2026-01-15'])
  assert.equal(periodStartingIn({ anchorDay: 1, intervalMonths: 3 }, '2026-11'), null)
})
