import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { openGrid } from './grid.ts'

test('ticks stay on the grid whatever the delays; a missed one is counted, never made up', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 1e9 }),
      fc.integer({ min: 1_000, max: 60_000 }),
      fc.array(fc.integer({ min: 0, max: 200_000 }), { maxLength: 30 }),
      (startMs, intervalMs, delaysMs) => {
        const grid = openGrid(startMs, new Map([['s', intervalMs]]))
        let nowMs = startMs
        let ticks = 0
        let missed = 0
        for (const delayMs of [0, ...delaysMs]) {
          nowMs = Math.max(nowMs, grid.nextMs()) + delayMs
          const due = grid.due(nowMs)
          assert.deepEqual(due.names, ['s'])
          ticks++
          missed += due.missed
          assert.equal((grid.nextMs() - startMs) % intervalMs, 0)
          assert.ok(grid.nextMs() > nowMs && grid.nextMs() - nowMs <= intervalMs)
        }
        // Every grid point up to now was either a tick or counted.
        assert.equal(ticks + missed, Math.floor((nowMs - startMs) / intervalMs) + 1)
      },
    ),
  )
})

test('sources of different intervals meet on common grid points', () => {
  const grid = openGrid(
    0,
    new Map([
      ['fast', 1_000],
      ['slow', 3_000],
    ]),
  )
  assert.deepEqual(grid.due(0).names, ['fast', 'slow'])
  assert.deepEqual(grid.due(999), { names: [], missed: 0 })
  assert.deepEqual(grid.due(1_000).names, ['fast'])
  assert.deepEqual(grid.due(2_000).names, ['fast'])
  assert.deepEqual(grid.due(3_004).names, ['fast', 'slow'])
  assert.equal(grid.nextMs(), 4_000)
})
