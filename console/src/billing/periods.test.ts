import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { periodAt } from '../../../services/billaged/rating/periods.ts'
import { elapsedShare, monthPeriod, periodLabel, periodOf, recentMonths, runningPeriod } from './periods.ts'

test('a calendar month is half-open in UTC, also over the turn of the year', () => {
  const now = Date.UTC(2027, 0, 31, 23, 59)
  assert.deepEqual(monthPeriod('2026-12', now), {
    key: '2026-12',
    label: 'December 2026',
    from: '2026-12-01T00:00:00.000Z',
    to: '2027-01-01T00:00:00.000Z',
  })
  assert.equal(monthPeriod('', now).key, '2027-01')
  assert.equal(monthPeriod('2026-13', now).key, '2027-01')
  assert.deepEqual(
    recentMonths(3, now).map(({ key }) => key),
    ['2027-01', '2026-12', '2026-11'],
  )
})

test('every period is the one that billaged cuts', () => {
  const cycle = fc.record({ anchorDay: fc.integer({ min: 1, max: 31 }), intervalMonths: fc.constantFrom(1, 3, 12) })
  const instant = fc.integer({ min: Date.UTC(2020, 0, 1), max: Date.UTC(2040, 0, 1) })
  fc.assert(
    fc.property(cycle, instant, (one, atMs) => {
      const theirs = periodAt(one, atMs)
      const ours = runningPeriod(one, atMs)
      assert.deepEqual([Date.parse(ours.from), Date.parse(ours.to)], [theirs.from * 3_600_000, theirs.to * 3_600_000])
      assert.deepEqual(periodOf(one, ours.key, 0), ours)
    }),
  )
})

test('a period that is no calendar month is named by its first and last day', () => {
  const cycle = { anchorDay: 15, intervalMonths: 1 }
  const period = runningPeriod(cycle, Date.UTC(2026, 11, 20))
  assert.equal(period.label, '15 Dec – 14 Jan 2027')
  assert.equal(periodLabel({ from: '2026-10-01T00:00:00Z', to: '2027-01-01T00:00:00Z' }), '1 Oct – 31 Dec 2026')
  assert.equal(elapsedShare(period, Date.parse(period.from)), 0)
  assert.equal(elapsedShare(period, Date.parse(period.to) + 1), 1)
})
