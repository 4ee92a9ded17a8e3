import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatOthers, formatOwn, openPlaces, othersMax, sealPlaces } from './tail-place.ts'

const key = Buffer.alloc(32, 1)
const id = fc.uuid()
const rows = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n })
const others = fc.option(
  fc
    .array(fc.tuple(id, fc.record({ segment: id, rows }, { noNullPrototype: true })), { maxLength: othersMax })
    .map(entries => new Map(entries)),
  { nil: undefined },
)

test('an id gives back what was seen of every replica, and fits a header', () => {
  fc.assert(
    fc.property(id, id, rows, fc.nat(2 ** 31), others, (replica, segment, seen, offset, of) => {
      const own = { segment, rows: seen, offset }
      const text = sealPlaces(key, formatOwn(replica, own) + (of ? formatOthers(of) : ''))
      assert.deepEqual(openPlaces(key, text), { replica, own, others: of })
      assert.ok(text.length <= 4_096 && /^[\w.~-]+$/.test(text))
    }),
  )
})

test('an id that was changed, made up, or sealed with another key is none', () => {
  const text = sealPlaces(key, formatOwn(crypto.randomUUID(), { segment: crypto.randomUUID(), rows: 7n, offset: 512 }))
  assert.ok(openPlaces(key, text))
  assert.equal(openPlaces(Buffer.alloc(32, 2), text), undefined)
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.constantFrom(...'0aZ~.-'), (at, character) => {
      const changed = text.slice(0, at) + character + text.slice(at + 1)
      assert.ok(changed === text || openPlaces(key, changed) === undefined)
    }),
  )
  fc.assert(fc.property(fc.string(), made => assert.equal(openPlaces(key, made), undefined)))
})
