import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compareNumbers } from './decimal.ts'
import { type Candidate, compile, matchesPieces } from './evaluate.ts'
import { parseQuery, QueryError } from './parse.ts'
import type { Query } from './query.ts'

const entry: Candidate = {
  id: 42n,
  timestampNs: 1_768_478_400_000_000_000n,
  service: 'api-eu',
  level: 'WARNING',
  message: 'GET /cart failed: Connection RESET by "peer"',
  metadata:
    '{"status":500,"big":9007199254740993,"user":{"id":7,"tags":["a","b",3]},"http.status":404,"http":{"status":200},"ok":true,"none":null,"text":"500","price":1.50}',
}

const matching = [
  '',
  '   ',
  'failed',
  'FAILED reset',
  '"connection reset"',
  "'Connection RESET'",
  'failed AND reset',
  'nope OR reset',
  '(nope OR reset) failed',
  'NOT nope',
  '-nope',
  'NOT -reset',
  'service:api-eu',
  'service:api-*',
  'service:*eu',
  'service:*',
  'level:warn',
  'level>=warn',
  'level:>=debug level<error',
  'LEVEL:x OR level:WARNING',
  'id:42',
  'id>41 id<=42',
  'timestamp>=2026-01-15T12:00:00Z',
  'timestamp<2026-01-15T12:00:00.000001Z',
  'status:500',
  'status:5e2',
  'status>499 status<=500',
  'status:(404 OR 500)',
  'status:[500 TO 600]',
  'big:9007199254740993',
  'big>9007199254740992',
  'user.id:7',
  'user.tags:b',
  'user.tags>2',
  '"http.status":404',
  'http.status:404',
  'ok:true',
  'none:null',
  'none:*',
  'text:500',
  'price:1.5',
  '-missing:x',
  'NOT missing>5',
  'peer "\\"peer\\""',
  '"by \\"peer\\""',
  '- OR failed',
  '/RESET by "peer"$/',
  '/(?i)reset BY/',
  '/cart [a-z]+:/ failed',
  '-/cart$/',
  '(/nope/ OR /fail(ed)?/)',
  '/GET \\/cart/',
  'service:~"^api-(eu|us)$"',
  'service:~-eu$',
  'level:~"^WARN"',
  'text:~"^\\d{3}$"',
  "text:~'5.0'",
  'text:~/50+/',
  'user.tags:~"^b$"',
  '-missing:~"."',
]
for (const q of matching) test(`matches: ${q}`, () => assert.equal(compile(parseQuery(q))(entry), true))

const missing = [
  'nope',
  "'connection reset'",
  'failed nope',
  '-failed',
  'NOT (failed OR nope)',
  'service:api',
  'service:API-EU',
  'service:"api-*"',
  'level:error',
  'level>warn',
  'id:43',
  'big:9007199254740992',
  'big>9007199254740993',
  'http.status:200',
  'ok:True',
  'text>100',
  'missing:*',
  'user:7',
  'user.tags:c',
  '/reset/',
  'status:~"500"',
  'missing:~"."',
  'service:~"^eu"',
]
for (const q of missing) test(`does not match: ${q}`, () => assert.equal(compile(parseQuery(q))(entry), false))

/** Query, position, what the message says, and the query that is suggested instead. */
const wrong: [string, number, RegExp, string][] = [
  ['a )', 2, /found "\)" without "\("/, 'a ")"'],
  ['(a', 2, /parenthesis is not closed/, '(a)'],
  ['(a OR (b c)', 11, /parenthesis is not closed/, '(a OR (b c))'],
  ['a OR', 4, /ends too early/, 'a OR timeout'],
  ['OR a', 0, /found OR at/, '"OR" a'],
  ['level:loud', 6, /"loud" is not a level at position 6; expected one of TRACE, DEBUG/, 'level:warn'],
  ['level>=eror', 7, /is not a level/, 'level>=error'],
  ['status>high', 7, /"high" is not a number/, 'status>500'],
  ['id:x', 3, /is not an id/, 'id:1234'],
  ['timestamp>yesterday', 10, /RFC 3339/, 'timestamp>2026-01-02T00:00:00Z'],
  ['service>a', 7, /compared with ":" only/, 'service:a'],
  ['service:[a TO b]', 9, /compared with ":" only/, 'level>=warn service:api "connection reset"'],
  ['"open', 0, /quote is not closed/, '"open"'],
  ['"open\\', 0, /quote is not closed/, '"open"'],
  ["a 'open", 2, /quote is not closed/, "a 'open'"],
  ['/open', 0, /regular expression is not closed/, '/open/'],
  ['/a(b/', 0, /missing closing \)/, '/a\\(b/'],
  ['/api/v1 x', 0, /ends before the word does/, '"/api/v1" x'],
  ['// x', 0, /is empty/, '"//" x'],
  ['name:~"(?=x)"', 6, /no look-around/, 'name:~"\\(\\?=x\\)"'],
  ['name:~', 6, /is missing after name:~/, 'name:~"^a.*z$"'],
  ['id:~5', 2, /id is no text/, 'id:5'],
  ['name:', 5, /a value is missing after name:/, 'name:500'],
  ['level:', 6, /a value is missing after level:/, 'level:warn'],
  [':x', 0, /found : without a field name/, 'service:x'],
  ['>x', 0, /found > without a field name/, 'status>500'],
  ['a:[1 5]', 5, /no TO/, 'a:[1 TO 5]'],
  ['a:[1 TO 5', 9, /range is not closed/, 'a:[1 TO 5]'],
  ['a:(1 2)', 5, /joined by OR/, 'a:(1 OR 2)'],
  ['a:(1 OR 2', 9, /list of values is not closed/, 'a:(1 OR 2)'],
  ['a:(1 2) level:loud "x', 5, /joined by OR/, 'a:(1 OR 2) level:warn "x"'],
]
for (const [q, position, message, example] of wrong)
  test(`refused: ${q}`, () =>
    assert.throws(
      () => parseQuery(q),
      (error: unknown) => {
        assert.ok(error instanceof QueryError)
        assert.match(error.message, message)
        assert.equal(error.position, position)
        assert.equal(error.example, example)
        assert.ok(error.expected !== '' && error.message.endsWith(`; for example: ${example}`))
        return true
      },
    ))

test('a regular expression is bounded in bytes and in what it unrolls to', () => {
  parseQuery(`/${'a'.repeat(1_024)}/`)
  for (const [q, message] of [
    [`/${'a'.repeat(1_025)}/`, /has 1025 bytes, at most 1024/],
    [`/${'é'.repeat(513)}/`, /has 1026 bytes, at most 1024/],
    ['/a{900}b{900}c{900}/', /unrolls to \d+ steps, at most 2000/],
    ['x:~"(a{1000}){1000}"', /invalid repeat count/],
  ] as const)
    assert.throws(() => parseQuery(q), { message })
})

test('numbers compare by value as integers of any size do', () => {
  const decimal = fc.tuple(fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }), fc.integer({ min: 0, max: 25 }))
  const spell = ([n, scale]: [bigint, number]) => (scale === 0 ? `${n}` : `${n}e-${scale}`)
  fc.assert(
    fc.property(decimal, decimal, (a, b) => {
      const [x, y] = [a[0] * 10n ** BigInt(25 - a[1]), b[0] * 10n ** BigInt(25 - b[1])]
      assert.equal(Math.sign(compareNumbers(spell(a), spell(b))), x < y ? -1 : x > y ? 1 : 0)
    }),
  )
})

test('wildcards mean what the regular expression for them means', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '-'), maxLength: 8 })
  fc.assert(
    fc.property(text, fc.array(text, { minLength: 1, maxLength: 4 }), (name, pieces) => {
      assert.equal(matchesPieces(name, pieces), new RegExp(`^${pieces.join('.*')}$`).test(name))
    }),
    { numRuns: 1_000 },
  )
})

/** A second opinion on AND, OR and NOT, straight from the definition, over terms whose truth is known. */
test('any nesting of AND, OR, NOT and parentheses follows the tables of truth', () => {
  const { tree } = fc.letrec<{ tree: [string, boolean] }>(tie => ({
    tree: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom<[string, boolean]>(
        ['failed', true],
        ['nope', false],
        ['level>=info', true],
        ['status:404', false],
      ),
      fc.tuple(tie('tree'), tie('tree')).map(([[a, x], [b, y]]): [string, boolean] => [`(${a}) ${b}`, x && y]),
      fc.tuple(tie('tree'), tie('tree')).map(([[a, x], [b, y]]): [string, boolean] => [`((${a}) AND (${b}))`, x && y]),
      fc.tuple(tie('tree'), tie('tree')).map(([[a, x], [b, y]]): [string, boolean] => [`(${a} OR ${b})`, x || y]),
      tie('tree').map(([a, x]): [string, boolean] => [`NOT (${a})`, !x]),
      tie('tree').map(([a, x]): [string, boolean] => [`-(${a})`, !x]),
    ),
  }))
  fc.assert(
    fc.property(tree, ([text, truth]) => {
      assert.equal(compile(parseQuery(text))(entry), truth, text)
    }),
  )
})

test('any text is a query or a QueryError, and evaluates without trouble', () => {
  const piece = fc.constantFrom(
    'a',
    '"',
    "'",
    '(',
    ')',
    ':',
    '>',
    '<=',
    ' ',
    'OR',
    'NOT',
    '-',
    'level',
    'x.y',
    '[',
    'TO',
    ']',
    '*',
    '\\',
    '5',
    'é',
    '/',
    '~',
    '{',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(piece).map(parts => parts.join('')),
      ),
      text => {
        let query: Query
        try {
          query = parseQuery(text)
        } catch (error) {
          assert.ok(error instanceof QueryError, String(error))
          assert.ok(error.position >= 0 && error.position <= text.length)
          assert.doesNotThrow(() => parseQuery(error.example), error.example)
          return
        }
        assert.equal(typeof compile(query)(entry), 'boolean')
      },
    ),
    { numRuns: 2_000 },
  )
})
