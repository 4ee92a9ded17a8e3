import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Candidate, compile } from './evaluate.ts'
import { LogqlError, parseLogql } from './logql.ts'

const entry: Candidate = {
  id: 1n,
  timestampNs: 0n,
  service: 'api-eu',
  level: 'WARN',
  message: 'GET /cart 500 "slow"',
  metadata: '{"status":500,"pod":"web-1","http.method":"GET"}',
}
const labels = new Map([['http_method', 'http.method']])
const matches = (text: string) => {
  const selection = parseLogql(text, labels)
  assert.equal(selection.kind, 'log')
  return selection.kind === 'log' && compile(selection.query)(entry)
}

const cases: [string, boolean][] = [
  ['{}', true],
  ['{service="api-eu"}', true],
  ['{service_name=~"api-.*", level="warn"}', true],
  ['{service=~"api"}', false],
  ['{service!="db"}', true],
  ['{level=~"warn|error"}', true],
  ['{detected_level!~"WARN"}', false],
  ['{pod="web-1"}', true],
  ['{missing=""}', true],
  ['{missing!=""}', false],
  ['{missing=~".*"}', true],
  ['{missing=~".+"}', false],
  ['{http_method="GET"}', true],
  ['{service="api-eu"} |= "/cart"', true],
  ['{service="api-eu"} |= "/CART"', false],
  ['{service="api-eu"} |= `"slow"` != "fast"', true],
  ['{service="api-eu"} |= "\\"slow\\"" |~ "5\\\\d\\\\d"', true],
  ['{service="api-eu"} !~ `(?i)get`', false],
  ['{service="api-eu"} |= "nope" or "GET"', true],
  ['{service="api-eu"} | json | status >= 500', true],
  ['{service="api-eu"} | json | status=400 or pod="web-1"', true],
  ['{service="api-eu"} | json | status=500, pod="web-2"', false],
  ['{service="api-eu"} | drop __error__, x |= ""', true],
]
for (const [text, expected] of cases)
  test(`${expected ? 'matches' : 'does not match'}: ${text}`, () => assert.equal(matches(text), expected))

test('metrics, and the question whether anybody is there', () => {
  assert.deepEqual(parseLogql('vector(1)+vector(1)', labels), { kind: 'vector', value: 2 })
  for (const text of [
    'sum by (level, detected_level) (count_over_time({service="a"} | drop __error__ [1m]))',
    'sum(count_over_time({service="a"} [1m])) by (level, detected_level)',
  ]) {
    const selection = parseLogql(text, labels)
    assert.ok(selection.kind === 'metric' && !selection.isRate)
    assert.deepEqual([selection.by, selection.range], [['level', 'detected_level'], '1m'])
  }
  const rate = parseLogql('rate({service="a"}[5m])', labels)
  assert.ok(rate.kind === 'metric' && rate.isRate && rate.by === undefined)
})

test('any other word is refused by its name', () => {
  for (const [text, message] of [
    ['{a="b"} | logfmt', /\| logfmt is not supported here/],
    ['{a="b"} | pattern `<x>`', /\| pattern is not supported/],
    ['topk(5, rate({a="b"}[1m]))', /^topk is not supported here; sum, rate and count_over_time are$/],
    ['bytes_over_time({a="b"}[1m])', /^bytes_over_time is not supported/],
    ['rate({a="b"}[1m]) / 2', /^\/ is not supported here/],
    ['{a="b"', /expected ,/],
    ['{a=~"("}', /missing closing \)/],
    ['{a>"x"}', /compares numbers/],
  ] as const)
    assert.throws(() => parseLogql(text, labels), { message })
})

test('any text is a selection or a LogqlError', () => {
  const piece = fc.constantFrom(
    '{',
    '}',
    'a',
    '="b"',
    '|',
    '|=',
    '"x"',
    'json',
    '[',
    '5m',
    ']',
    'sum',
    '(',
    ')',
    'by',
    'rate',
    ' ',
    ',',
    '!=',
    '`',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(piece, { maxLength: 20 }).map(parts => parts.join('')),
      ),
      text => {
        try {
          parseLogql(text, labels)
        } catch (error) {
          assert.ok(error instanceof LogqlError, String(error))
        }
      },
    ),
    { numRuns: 1_000 },
  )
})
