// The one line a shipper says about itself.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createProgress, progressLine } from './progress.ts'

const totals = { files: 1, bytesShipped: 0, bytesTotal: 9_000_000, rowsAcknowledged: 0, rowsRejected: 0 }

test('the speed is that of the last seconds, of less when it took less; what earlier lives shipped is no speed', () => {
  let nowMs = 1_000
  const measure = createProgress(() => nowMs)
  nowMs += 500
  const done = measure({ ...totals, bytesShipped: 9_000_000, rowsAcknowledged: 30_000 })
  assert.deepEqual([done.rowsPerS, done.etaS, done.lagS], [60_000, 0, 0])
  assert.match(
    progressLine(done),
    /^ 1 file {3}9\.0 MB of 9\.0 MB {3}60 000 rows\/s {3}acknowledged on disk 30 000 {3}lag 0\.0 s$/,
  )

  const again = createProgress(() => nowMs)
  nowMs += 1_000
  // Half of it was shipped by an earlier life.
  assert.equal(again({ ...totals, bytesShipped: 4_500_000 }).etaS, null)
  nowMs += 1_000
  const moving = again({ ...totals, bytesShipped: 5_500_000, rowsAcknowledged: 4_000 })
  assert.deepEqual([moving.rowsPerS, moving.etaS], [2_000, 7])
  for (let i = 0; i < 10; i++) {
    nowMs += 1_000
    again({ ...totals, bytesShipped: 5_500_000, rowsAcknowledged: 4_000 })
  }
  const stuck = again({ ...totals, bytesShipped: 5_500_000, rowsAcknowledged: 4_000 })
  assert.deepEqual([stuck.rowsPerS, stuck.etaS, stuck.lagS], [0, null, 12])
})
