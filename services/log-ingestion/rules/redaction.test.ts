import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { newTally } from '../json/metadata.ts'
import { noDedupe, RecordBuilder, RowWalk, readRecord } from '../record.ts'
import { type BuiltInPattern, builtInPatterns, candidateScan, compilePattern, findersInOrder } from './patterns.ts'
import { compileRedaction, type RedactionRule, redactRows } from './redaction.ts'

const all: RedactionRule = { name: 'settings', patterns: [...builtInPatterns] }

function redactEntry(rules: readonly RedactionRule[], message: string, metadata: string | null = null) {
  const builder = new RecordBuilder()
  builder.row(1, 0, 2, 'before', 'untouched', '{"a":1}')
  builder.row(2, 3, 2, 'shop', message, metadata)
  builder.row(4, 0, 2, 'after', 'untouched', null)
  const tally = newTally()
  const redaction = compileRedaction([], rules)
  assert.ok(redaction)
  for (const _ of redactRows(builder, redaction, tally));
  const accounted = builder.accountedBytes
  const payload = builder.finish({
    rowsBefore: 0n,
    protocol: 'native',
    receivedUs: 0n,
    tenant: 'public',
    key: 'k',
    idempotencyKey: '',
    dedupeHash: noDedupe,
  })
  const walk = new RowWalk(readRecord(payload))
  const rows = []
  let bytes = 0
  while (walk.next()) {
    rows.push({ at: [walk.seconds, walk.nanos], service: walk.service, message: walk.message, metadata: walk.metadata })
    bytes += walk.end - walk.serviceFrom + 'INFO'.length
  }
  assert.equal(rows.length, 3)
  assert.equal(accounted, bytes, 'usage counts what is stored')
  const [before, changed, after] = rows
  assert.deepEqual(before, { at: [1, 0], service: 'before', message: 'untouched', metadata: '{"a":1}' })
  assert.deepEqual(after, { at: [4, 0], service: 'after', message: 'untouched', metadata: null })
  return { ...changed, tally: Object.fromEntries(tally.redactions), payload }
}

const secrets: [string, string, string][] = [
  ['paid with 4111 1111 1111 1111 today', 'paid with [redacted:card] today', 'card'],
  ['5500-0000-0000-0004.', '[redacted:card].', 'card'],
  ['Authorization: Bearer abc.DEF-123_~+/==', 'Authorization: [redacted:bearer]', 'bearer'],
  ['jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_1 end', 'jwt [redacted:jwt] end', 'jwt'],
  ['id AKIAIOSFODNN7EXAMPLE', 'id [redacted:aws]', 'aws'],
  ['aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', 'aws_[redacted:aws]', 'aws'],
  ['mail jürgen+x@mail.example.com, thanks', 'mail [redacted:email], thanks', 'email'],
]
for (const [text, clean, name] of secrets)
  test(`redacted in a message and in a string value: ${clean}`, () => {
    const metadata = JSON.stringify({ 'a@b.de': [{ deep: text, n: 4111111111111111 }] })
    const entry = redactEntry([all], text, metadata)
    assert.equal(entry.message, clean)
    assert.deepEqual(JSON.parse(entry.metadata ?? ''), { 'a@b.de': [{ deep: clean, n: 4111111111111111 }] })
    assert.equal(entry.tally[name], 2)
  })

test('what only looks like a secret stays', () => {
  for (const text of [
    '4111 1111 1111 1112',
    'at 1768478400000 and 1768478400000000000',
    'took 0.4111111111111111 s',
    'the bearer of it',
    'eyJ.eyJ',
    'user@localhost',
    'AKIA',
  ])
    assert.equal(redactEntry([all], text).message, text)
})

test('a secret behind JSON escapes is found', () => {
  const entry = redactEntry([all], 'x', '{"to":"joe\\u0040example.com","b":"Bearer\\tabcdefghij"}')
  assert.equal(entry.metadata, '{"to":"[redacted:email]","b":"[redacted:bearer]"}')
})

test('own patterns and own keys of a rule act under its name', () => {
  const entry = redactEntry(
    [{ name: 'Order No', pattern: 'ORD-\\d+', keys: ['customer-pin'] }],
    'ORD-17 and ORD-18',
    '{"x":"ORD-19","Customer_Pin":{"a":1},"y":[1.50]}',
  )
  assert.equal(entry.message, '[redacted:order-no] and [redacted:order-no]')
  assert.equal(entry.metadata, '{"x":"[redacted:order-no]","y":[1.50]}')
  assert.deepEqual(entry.tally, { 'order-no': 3, customerpin: 1 })
})

test('a pattern must be RE2 and small', () => {
  assert.throws(() => compilePattern('(?=a)b'), /not a regular expression of RE2/)
  assert.throws(() => compilePattern('('), /not a regular expression of RE2/)
})

// A second opinion: the same definitions, looked for in every place of the text.

const oracles: Record<'card' | 'jwt' | 'email', (text: string) => [number, number][]> = {
  card(text) {
    const found: [number, number][] = []
    for (let from = 0; from < text.length; from++) {
      for (let to = text.length; to > from; to--) {
        const part = text.slice(from, to)
        const digits = part.replaceAll(/[ -]/g, '')
        if (!/^[2-6]\d*(?:[ -]\d+)*$/.test(part) || digits.length < 13 || digits.length > 19) continue
        if (/\d$/.test(text.slice(0, from)) || /\d\.$/.test(text.slice(0, from)) || /^\d/.test(text.slice(to))) continue
        if (luhn(digits) % 10 !== 0) continue
        found.push([from, to])
        from = to - 1
        break
      }
    }
    return found
  },
  jwt: text => matches(text, /eyJ[\w-]*\.eyJ[\w-]*\.[\w-]*/g),
  email: text => matches(text, /[A-Za-z0-9._%+'\-\u0080-\uffff]+@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}/g),
}

function luhn(digits: string): number {
  return [...digits]
    .reverse()
    .map((digit, i) => [...String(Number(digit) * (1 + (i % 2)))].reduce((sum, d) => sum + Number(d), 0))
    .reduce((sum, d) => sum + d, 0)
}

function matches(text: string, expression: RegExp): [number, number][] {
  return [...text.matchAll(expression)].map(match => [match.index, match.index + match[0].length])
}

const pieces: Record<string, fc.Arbitrary<string>> = {
  card: fc.constantFrom(
    '4',
    '1',
    '11',
    '111',
    '1111',
    '0',
    '5',
    ' ',
    '-',
    '.',
    'x',
    '4111 1111 1111 1111',
    '2',
    '378282246310005',
  ),
  jwt: fc.constantFrom('eyJ', 'ey', '.', 'a', '-', '_', ' ', '.eyJ', 'é'),
  email: fc.constantFrom('a', 'b1', '.', '@', '-', 'com', ' ', 'ü', "'", '%', 'x.de', '😀'),
  bearer: fc.constantFrom('bearer', 'BEARER ', 'Bearer\t', ' ', 'abcdefgh', '=', '/', '.', '"'),
  aws: fc.constantFrom(
    'AKIA',
    'asia',
    'IOSFODNN7EXAMPLE',
    'secret',
    '_access_key',
    '=',
    ' ',
    'A'.repeat(20),
    'b/'.repeat(20),
  ),
}

for (const [name, oracle] of Object.entries(oracles))
  test(`finding ${name} agrees with looking everywhere`, () => {
    const find = findersInOrder.find(([known]) => known === name)?.[1]
    assert.ok(find)
    fc.assert(
      fc.property(fc.array(pieces[name] ?? fc.string(), { maxLength: 14 }), parts => {
        const text = parts.join('')
        assert.deepEqual([...find(text)], oracle(text), JSON.stringify(text))
      }),
      { numRuns: 2_000 },
    )
  })

test('the byte scan never overlooks what a pattern would change, in messages and in escaped JSON', () => {
  for (const [name, find] of findersInOrder) {
    const scan = candidateScan(new Set<BuiltInPattern>([name]))
    fc.assert(
      fc.property(fc.array(pieces[name] ?? fc.string(), { maxLength: 14 }), fc.boolean(), (parts, isEscaped) => {
        const text = parts.join('')
        if ([...find(text)].length === 0) return
        const plain = Buffer.from(text)
        assert.ok(scan(plain, 0, plain.length), text)
        const json = Buffer.from(isEscaped ? escapeAll(text) : JSON.stringify(text))
        assert.ok(scan(json, 0, json.length), json.toString())
      }),
      { numRuns: 1_000 },
    )
  }
})

function escapeAll(text: string): string {
  return `"${[...Array(text.length).keys()].map(i => `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`).join('')}"`
}

test('nothing of a found secret is left in the bytes for the journal, and redacting twice changes nothing more', () => {
  const secret = fc.constantFrom(
    '4111111111111111',
    'Bearer s3cr3ts3cr3t',
    'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln',
    'AKIAIOSFODNN7EXAMPLE',
    'joe@example.com',
  )
  const noise = fc.string({ unit: fc.constantFrom('ä', ' ', '"', '\\', '\n', '}', ',', '😀', '('), maxLength: 10 })
  fc.assert(
    fc.property(noise, secret, noise, (left, hidden, right) => {
      const text = `${left} ${hidden} ${right}`
      const entry = redactEntry([all], text, JSON.stringify({ list: [text], [left]: right }))
      assert.equal(entry.payload.includes(hidden), false)
      assert.deepEqual(redactEntry([all], entry.message ?? '', entry.metadata).message, entry.message)
    }),
  )
})

test('the scanners take time in proportion to the text', () => {
  // Each of these made a backtracking expression start anew at every position; a quadratic one would not come back.
  for (const text of [
    'eyJ'.repeat(100_000),
    '@'.repeat(300_000),
    'a'.repeat(300_000),
    `${'4 '.repeat(150_000)}`,
    'bearer '.repeat(40_000),
  ])
    for (const [, find] of findersInOrder) assert.ok([...find(text)].length >= 0)
})
