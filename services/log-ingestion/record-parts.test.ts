import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { levelAt, levels } from './level.ts'
import { noDedupe, RecordBuilder, RowWalk, readRecord } from './record.ts'
import { cutRecord } from './record-parts.ts'

const header = {
  rowsBefore: 77n,
  protocol: 'loki',
  receivedUs: 5n,
  tenant: 'acme',
  key: '9',
  idempotencyKey: 'mark',
  dedupeHash: noDedupe,
} as const

const rowsOf = (payload: Buffer) => {
  const walk = new RowWalk(readRecord(payload))
  const rows: unknown[] = []
  while (walk.next())
    rows.push([walk.seconds, walk.nanos, levelAt(walk.level), walk.service, walk.message, walk.metadata])
  return rows
}

test('parts hold the rows of the whole, in order, within their bounds, and their counts sum up to its', () => {
  const row = fc.record({
    seconds: fc.integer(),
    level: fc.nat({ max: levels.length - 1 }),
    message: fc.string({ unit: 'grapheme', maxLength: 60 }),
    metadata: fc.option(fc.constant('{"a":1}')),
  })
  fc.assert(
    fc.property(
      fc.array(row, { minLength: 1, maxLength: 40 }),
      fc.nat({ max: 39 }),
      fc.array(fc.record({ rows: fc.integer({ min: 1, max: 20 }), bytes: fc.nat({ max: 800 }) }), { minLength: 1 }),
      (rows, skipMax, bounds) => {
        const builder = new RecordBuilder()
        for (const one of rows) builder.row(one.seconds, 7, one.level, 'shop', one.message, one.metadata)
        const whole = readRecord(builder.finish(header))
        const skip = Math.min(skipMax, rows.length - 1)
        const parts = cutRecord(whole, skip)
        const found: unknown[] = []
        let accountedBytes = 0
        for (let i = 0; parts.rowsLeft > 0; i++) {
          const { rows: rowsMax, bytes: bytesMax } = bounds[i % bounds.length] ?? { rows: 1, bytes: 0 }
          const before = skip + found.length
          const { record, rowsBefore } = parts.next(rowsMax, bytesMax)
          assert.deepEqual([rowsBefore, record.rowsBefore], [before, 77n + BigInt(before)])
          assert.ok(record.rows >= 1 && record.rows <= rowsMax)
          assert.ok(record.rows === 1 || record.payload.length - record.rowsAt <= bytesMax)
          const { tenant, key, idempotencyKey, protocol, receivedUs } = record
          assert.deepEqual([tenant, key, idempotencyKey, protocol, receivedUs], ['acme', '9', 'mark', 'loki', 5n])
          found.push(...rowsOf(record.payload))
          accountedBytes += record.accountedBytes
        }
        assert.equal(parts.bytesLeft, 0)
        assert.deepEqual(found, rowsOf(whole.payload).slice(skip))
        if (skip === 0) assert.equal(accountedBytes, whole.accountedBytes)
      },
    ),
  )
})
