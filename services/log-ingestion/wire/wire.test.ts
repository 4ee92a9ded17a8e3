import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import snappy from 'snappy'
import { encodeFields, WireError, WireReader } from './protobuf.ts'
import { SnappyError, snappyDecode, snappyLength } from './snappy.ts'

const repetitive = fc
  .array(fc.tuple(fc.uint8Array({ maxLength: 40 }), fc.nat({ max: 200 })), { maxLength: 20 })
  .map(parts => Buffer.concat(parts.flatMap(([bytes, times]) => Array.from({ length: times }, () => bytes))))

function unpack(block: Uint8Array): Buffer {
  const steps = snappyDecode(block)
  let step = steps.next()
  while (!step.done) step = steps.next()
  return step.value
}

test('what the reference implementation compresses comes back the same', () => {
  fc.assert(
    fc.property(repetitive, bytes => {
      assert.deepEqual(unpack(snappy.compressSync(bytes)), bytes)
    }),
  )
})

test('a broken block is an error, never more memory than it says', () => {
  fc.assert(
    fc.property(repetitive, fc.nat(), fc.nat({ max: 255 }), fc.nat(), (bytes, at, byte, cut) => {
      const block = Buffer.from(snappy.compressSync(bytes))
      block[at % block.length] = byte
      const broken = block.subarray(0, cut % 3 === 0 ? cut % (block.length + 1) : block.length)
      try {
        // Whoever calls checks this first.
        if (snappyLength(broken).length > 100_000) return
        assert.ok(unpack(broken).length <= 100_000)
      } catch (error) {
        assert.ok(error instanceof SnappyError, String(error))
      }
    }),
    { numRuns: 500 },
  )
})

test('fields are read as they were written', () => {
  const field = fc.tuple(
    fc.integer({ min: 1, max: 536_870_911 }),
    fc.oneof(fc.bigInt(0n, 2n ** 64n - 1n), fc.string({ unit: 'binary' })),
  )
  fc.assert(
    fc.property(fc.array(field, { maxLength: 10 }), fields => {
      const reader = new WireReader(encodeFields(fields))
      const read: [number, bigint | string][] = []
      while (reader.next()) read.push([reader.field, reader.type === 0 ? reader.value : reader.text()])
      assert.deepEqual(
        read,
        fields.map(([number, value]) => [number, typeof value === 'string' ? value.toWellFormed() : value]),
      )
    }),
  )
})

test('any bytes are read to their end or refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
      const reader = new WireReader(Buffer.from(bytes))
      try {
        while (reader.next()) assert.ok(reader.at <= bytes.length && reader.to <= bytes.length)
      } catch (error) {
        assert.ok(error instanceof WireError, String(error))
      }
    }),
    { numRuns: 1_000 },
  )
})
