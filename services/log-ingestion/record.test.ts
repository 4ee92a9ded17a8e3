import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { levels } from './level.ts'
import { type Piece, protocols, RecordBuilder, RecordError, RowWalk, readRecord } from './record.ts'

const text = (maxBytes: number) =>
  fc
    .string({ unit: 'binary', maxLength: 100 })
    .filter(s => Buffer.byteLength(s.toWellFormed()) <= maxBytes)
    .map(s => s.toWellFormed())

const row = fc.record({
  seconds: fc.integer({ min: -62_135_596_800, max: 253_402_300_799 }),
  nanos: fc.nat({ max: 999_999_999 }),
  level: fc.nat({ max: levels.length - 1 }),
  service: text(255),
  message: fc.oneof(text(1_000), fc.constant('x'.repeat(5_000))),
  metadata: fc.option(fc.json()),
})

const header = fc.record({
  rowsBefore: fc.bigInt({ min: 0n, max: 2n ** 63n }),
  protocol: fc.constantFrom(...protocols),
  receivedUs: fc.bigInt({ min: 0n, max: 2n ** 62n }),
  tenant: text(63),
  key: text(100),
  idempotencyKey: text(255),
  dedupeHash: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  isSetAside: fc.boolean(),
})

/** As text or as a stretch of somebody's bytes: both must be written alike. */
function piece(value: string, asBytes: boolean): Piece {
  if (!asBytes) return value
  const bytes = Buffer.from(`<<${value}>>`)
  return { bytes, from: 2, to: bytes.length - 2 }
}

function build(head: Parameters<RecordBuilder['finish']>[0], rows: readonly Row[], asBytes: boolean): Buffer {
  const builder = new RecordBuilder(16)
  for (const r of rows)
    builder.row(
      r.seconds,
      r.nanos,
      r.level,
      piece(r.service, asBytes),
      piece(r.message, asBytes),
      r.metadata === null ? null : piece(r.metadata, asBytes),
    )
  return builder.finish(head)
}
type Row = { seconds: number; nanos: number; level: number; service: string; message: string; metadata: string | null }

test('what was written is read back, rows and header, from texts and from bytes', () => {
  fc.assert(
    fc.property(header, fc.array(row, { maxLength: 20 }), fc.boolean(), (head, rows, asBytes) => {
      const record = readRecord(build(head, rows, asBytes))
      const { rows: count, accountedBytes, payload, rowsAt, ...readHeader } = record
      assert.deepEqual({ ...readHeader, dedupeHash: Uint8Array.from(readHeader.dedupeHash) }, { ...head })
      assert.equal(count, rows.length)
      const walk = new RowWalk(record)
      const read: Row[] = []
      while (walk.next()) {
        const { seconds, nanos, level, service, message, metadata } = walk
        read.push({ seconds, nanos, level, service, message, metadata })
      }
      assert.deepEqual(
        read,
        rows.map(r => ({ ...r })),
      )
      const sum = rows.reduce(
        (n, r) => n + Buffer.byteLength(r.service + r.message + (r.metadata ?? '')) + (levels[r.level]?.length ?? 0),
        0,
      )
      assert.equal(accountedBytes, sum)
      assert.ok(rowsAt < payload.length || rows.length === 0)
    }),
  )
})

test('a damaged payload is refused or read, never read out of bounds', () => {
  fc.assert(
    fc.property(
      header,
      fc.array(row, { maxLength: 5 }),
      fc.nat(),
      fc.nat({ max: 255 }),
      fc.boolean(),
      (head, rows, seed, byte, isCut) => {
        const payload = Buffer.from(build(head, rows, false))
        payload[seed % payload.length] = byte
        try {
          const walk = new RowWalk(readRecord(isCut ? payload.subarray(0, seed % payload.length) : payload))
          while (walk.next())
            assert.ok(walk.message.length >= 0 && walk.service.length >= 0 && walk.metadata !== undefined)
        } catch (error) {
          assert.ok(error instanceof RecordError, String(error))
        }
      },
    ),
    { numRuns: 500 },
  )
})

test('a record of a newer version is refused by name', () => {
  const payload = build(
    {
      rowsBefore: 0n,
      protocol: 'native',
      receivedUs: 0n,
      tenant: 'public',
      key: 'k',
      idempotencyKey: '',
      dedupeHash: new Uint8Array(16),
    },
    [],
    false,
  )
  payload[1] = 2
  assert.throws(() => readRecord(payload), /version 2 was written by a newer program/)
})
