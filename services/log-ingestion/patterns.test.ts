import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createPatternBook, wordsOf } from './patterns.ts'

const at = (message: string, timestampNs = 1n) => ({ message, service: 'shop', level: 'INFO', timestampNs })

test('what varies becomes a placeholder', () => {
  for (const [message, template] of [
    ['GET /cart/123 200 12ms user=42', 'GET /cart/<num> <num> <num>ms user=<num>'],
    ['from 10.0.0.7:5432 to [::1]', 'from <ip> to [::<num>]'],
    ['at 2026-01-02T03:04:05.678Z id 0xdeadBEEF', 'at <time> id <hex>'],
    ['trace 4bf92f3577b34da6a3ce929d0e0e4736 of a@b.example', 'trace <hex> of <email>'],
    ['key "a \\" b" or \'c\'', 'key <text> or <text>'],
    ['request 3d594650-3436-11e5-bf21-0800200c9a66 failed', 'request <uuid> failed'],
    ['v2 of sha1 stays', 'v2 of sha1 stays'],
    ['first line 1\nsecond line', 'first line <num>'],
  ] as const)
    assert.equal(wordsOf(message).join(' '), template)
})

test('messages that differ in a word or two are one pattern, with its count, times and services', () => {
  const book = createPatternBook()
  for (const [i, user] of ['ann', 'bob', 'cleo'].entries())
    book.add(at(`user ${user} signed in from mobile`, BigInt(i)))
  book.add({ ...at('disk full', 9n), service: 'db', level: 'ERROR' })
  const [signedIn, disk] = book.list()
  assert.deepEqual(
    [signedIn?.template, signedIn?.count, signedIn?.firstSeenNs, signedIn?.lastSeenNs, signedIn?.sample],
    ['user <*> signed in from mobile', 3, 0n, 2n, 'user ann signed in from mobile'],
  )
  assert.deepEqual(
    [disk?.template, [...(disk?.services ?? [])], [...(disk?.levels ?? [])]],
    ['disk full', ['db'], ['ERROR']],
  )
  assert.ok(book.has('user dora signed in from mobile') && !book.has('disk broken beyond repair'))
})

test('counts add up to the messages, however they are, and memory is bounded', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 100 }), messages => {
      const book = createPatternBook()
      for (const message of messages) book.add(at(message))
      assert.equal(
        book.list().reduce((sum, { count }) => sum + count, 0),
        messages.length,
      )
    }),
  )
  const book = createPatternBook()
  const word = (n: number) => n.toString(26).replaceAll(/\d/g, digit => 'qrstuvwxyz'[Number(digit)] ?? '')
  for (let i = 0; i < 5_000; i++) book.add(at(`${word(i)}k`))
  assert.ok(book.list().length <= 2_000 && !book.isComplete)
})
