import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeShape, decodeValues, encodeShape, encodeValues, frameChecksum, pickValues } from './frame.ts'

const storable = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(value => (value === 0 ? 0 : value)),
  fc.integer({ min: 0, max: 300 }),
  fc.maxSafeInteger(),
  fc.constantFrom(2 ** 28 - 1, 2 ** 28, 2 ** 31, 2 ** 32, 2 ** 48 - 1, 2 ** 48, 2 ** 53 - 1, Number.MIN_VALUE, -1),
)
const frame = fc.array(fc.option(storable, { nil: undefined, freq: 8 }), { maxLength: 300 })

test('what a frame is made of is read back bit for bit, absent values as absent', () => {
  fc.assert(
    fc.property(frame, values => {
      const read = [...decodeValues(encodeValues(values), values.length)]
      assert.deepEqual(
        read,
        values.map(value => value ?? Number.NaN),
      )
    }),
  )
})

test('picking some values of a frame gives the same numbers as reading all of it', () => {
  fc.assert(
    fc.property(frame, fc.array(fc.nat(299)), (values, wanted) => {
      const ordinals = [...new Set(wanted)].filter(i => i < values.length).sort((a, b) => a - b)
      const picked: number[] = []
      pickValues(encodeValues(values), ordinals, (slot, value) => {
        picked[slot] = value
      })
      assert.deepEqual(
        picked,
        ordinals.map(i => values[i] ?? Number.NaN),
      )
    }),
  )
})

test('arbitrary bytes are read as a frame or refused, never read past their end', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(40), (bytes, count) => {
      try {
        const values = decodeValues(bytes, count)
        assert.equal(values.length, count)
      } catch (error) {
        assert.match(String(error), /frame/)
      }
    }),
  )
})

test('the series of a shape are read back in order', () => {
  const ids = fc
    .uniqueArray(fc.integer({ min: 1, max: 2 ** 40 }), { maxLength: 500 })
    .map(list => list.sort((a, b) => a - b))
  fc.assert(fc.property(ids, list => assert.deepEqual(decodeShape(encodeShape(list)), list)))
})

test('a shape cut short is refused', () => {
  const body = encodeShape([5, 1_000_000])
  assert.throws(() => decodeShape(body.subarray(0, -1)), /ends inside/)
})

test('the checksum notices any changed byte of the body and any changed column', () => {
  const head = { epoch: 1, monoMs: 1_000, shape: 2, count: 3, kind: 0 }
  const body = encodeValues([1, 2.5, 3])
  const sum = frameChecksum(head, body)
  for (let i = 0; i < body.length; i++) {
    const changed = Buffer.from(body)
    changed[i] = (changed[i] ?? 0) ^ 1
    assert.notEqual(frameChecksum(head, changed), sum)
  }
  assert.notEqual(frameChecksum({ ...head, monoMs: 1_001 }, body), sum)
  assert.notEqual(frameChecksum({ ...head, shape: 3 }, body), sum)
})

test('counters of a machine cost one to seven bytes each, other numbers nine', () => {
  assert.equal(encodeValues([0]).length, 1)
  assert.equal(encodeValues([63, 64]).length, 1 + 2)
  assert.equal(encodeValues([2 ** 48 - 1]).length, 7)
  assert.equal(encodeValues([0.5]).length, 9)
  assert.equal(encodeValues([undefined]).length, 1)
})
