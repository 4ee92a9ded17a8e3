import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { complete, wantedAt } from './completion.ts'
import { words } from './query.ts'

const at = (marked: string) => {
  const caret = marked.indexOf('|')
  return { query: marked.replace('|', ''), caret }
}
const wanted = (marked: string) => {
  const { query, caret } = at(marked)
  return wantedAt(query, caret)
}
const completed = (marked: string, choice: string) => {
  const { query, caret } = at(marked)
  const found = wantedAt(query, caret)
  if (!found) return null
  const after = complete(query, found, choice)
  return `${after.query.slice(0, after.caret)}|${after.query.slice(after.caret)}`
}

test('a word may become a field, and a field asks for its values', () => {
  assert.deepEqual(wanted('level:warn ser|'), { kind: 'field', prefix: 'ser', from: 11, to: 14 })
  assert.deepEqual(wanted('service:sh|'), { kind: 'value', name: 'service', prefix: 'sh', from: 8, to: 10 })
  assert.deepEqual(wanted('-service:|'), { kind: 'value', name: 'service', prefix: '', from: 9, to: 9 })
  assert.equal(wanted('|'), null)
  assert.equal(wanted('service:shop |'), null)
  assert.equal(wanted('"card dec|'), null)
  assert.equal(wanted('level>=wa|'), null)
})

test('a choice takes the place of the word, and the caret stands where the typing goes on', () => {
  assert.equal(completed('ser|', 'service'), 'service:|')
  assert.equal(completed('service:sh|', 'shop'), 'service:shop |')
  assert.equal(completed('service:sh| level:warn', 'shop web'), 'service:"shop web" |level:warn')
  assert.equal(completed('path:|', '/a b'), 'path:"/a b" |')
  assert.equal(completed('use|', 'user id'), '"user id":|')
})

test('whatever is typed and chosen, the words before stay as they were', () => {
  fc.assert(
    fc.property(fc.string(), fc.nat(40), fc.string({ minLength: 1 }), (query, place, choice) => {
      const caret = Math.min(place, query.length)
      const found = wantedAt(query, caret)
      if (!found) return
      assert.ok(found.from <= caret && caret <= found.to)
      const after = complete(query, found, choice)
      assert.ok(after.query.startsWith(query.slice(0, found.from)))
      assert.ok(words(after.query).length >= words(query.slice(0, found.from)).length)
    }),
  )
})
