import assert from 'node:assert/strict'
import { test } from 'node:test'
import { periodOf, recentPeriods } from './periods.ts'

test('a period is a whole UTC month, half-open, also over the turn of the year', () => {
  const now = Date.UTC(2027, 0, 31, 23, 59)
  assert.deepEqual(periodOf('2026-12', now), {
    key: '2026-12',
    label: 'December 2026',
    from: '2026-12-01T00:00:00.000Z',
    to: '2027-01-01T00:00:00.000Z',
  })
  assert.equal(periodOf('', now).key, '2027-01')
  assert.equal(periodOf('2026-13', now).key, '2027-01')
  assert.deepEqual(
    recentPeriods(3, now).map(({ key }) => key),
    ['2027-01', '2026-12', '2026-11'],
  )
})
