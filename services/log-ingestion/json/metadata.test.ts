import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Cursor, noteKey } from './cursor.ts'
import { cleanMetadata, createRedaction, newTally, writtenOutDigits } from './metadata.ts'

const redaction = createRedaction(['customer-pin'])

function clean(text: string): unknown {
  return JSON.parse(cleanMetadata(text, redaction, newTally()))
}

test('values without anything sensitive come back equal, whatever their shape', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 5 }), text => {
      // -0 is numerically 0; JSON.parse of both texts agrees.
      assert.deepEqual(clean(text), JSON.parse(text))
    }),
  )
})

test('sensitive keys are removed at any depth, in any case, with and without - and _', () => {
  const text = `{"Password":"p","a":[{"API-Key":{"x":1},"keep":1},{"customer_pin":2}],"tok\\u0065n":"t","pass_word":"q",
    "credit_card":"4111","creditcard":1,"tokens":"kept","author":"kept"}`
  const tally = newTally()
  assert.deepEqual(JSON.parse(cleanMetadata(text, redaction, tally)), {
    a: [{ keep: 1 }, {}],
    tokens: 'kept',
    author: 'kept',
  })
  assert.deepEqual(Object.fromEntries(tally.redactions), {
    password: 2,
    apikey: 1,
    customerpin: 1,
    token: 1,
    creditcard: 2,
  })
})

test('the fast path never overlooks a key that is redacted', () => {
  const spelled = fc
    .constantFrom('password', 'api_key', 'apikey', 'ssn', 'social_security', 'customer_pin', 'auth')
    .chain(key =>
      fc
        .array(fc.constantFrom('', '-', '_', 'upper', '\\u'), { minLength: key.length, maxLength: key.length })
        .map(how => spell(key, how)),
    )
  fc.assert(
    fc.property(spelled, key => {
      const cursor = new Cursor(Buffer.from(`{"a":[{"${key}":1}]}`))
      cursor.skip(redaction.watch)
      assert.equal(cursor.notes & noteKey, noteKey, key)
      assert.deepEqual(clean(`{"a":[{"${key}":1}]}`), { a: [{}] }, key)
    }),
  )
})

function spell(key: string, how: readonly string[]): string {
  return [...key]
    .map((char, i) => {
      const style = how[i] ?? ''
      if (style === 'upper') return char.toUpperCase()
      if (style === '\\u') return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
      return style + char
    })
    .join('')
}

test('U+0000 becomes U+2400 and lone surrogates U+FFFD, in keys and values, and both are counted', () => {
  const tally = newTally()
  const text = '{"a\\u0000b":["\\uD800x","\\ud83d\\ude00","\\u0000"],"c":"\\\\u0000"}'
  assert.deepEqual(JSON.parse(cleanMetadata(text, redaction, tally)), {
    'a\u2400b': ['\ufffdx', '😀', '\u2400'],
    c: '\\u0000',
  })
  assert.equal(tally.nul, 2)
  assert.equal(tally.surrogate, 1)
})

test('a number of more than 400 digits when written out is kept as a text of itself', () => {
  assert.equal(writtenOutDigits('1e399'), 400)
  assert.equal(writtenOutDigits('1e400'), 401)
  assert.equal(writtenOutDigits('-0.5e-2'), 4)
  assert.equal(writtenOutDigits('12.50'), 4)
  assert.equal(writtenOutDigits('0e999999'), 1)
  assert.equal(
    cleanMetadata('[1e399, 1e400,-1E+400,1e-400,12345678901234567890.10]', redaction, newTally()),
    '[1e399,"1e400","-1E+400","1e-400",12345678901234567890.10]',
  )
})
