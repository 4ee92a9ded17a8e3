import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { depthMax, parseObject, StrictJsonError, withMembers } from './strict-json.ts'

const parse = (text: string) => parseObject(Buffer.from(text))

test('whatever JSON.stringify writes is read as the same value, with the place of every member', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.constantFrom(undefined, 1, '\t'), (value, indent) => {
      const text = JSON.stringify(value, null, indent)
      const object = parse(text)
      assert.deepEqual(object.value, JSON.parse(text))
      assert.deepEqual([...object.spans.keys()].sort(), Object.keys(JSON.parse(text)).sort())
      for (const [name, { start, end }] of object.spans)
        assert.deepEqual(JSON.parse(object.bytes.toString('utf8', start, end)), object.value[name])
    }),
  )
})

test('it takes nothing that JSON.parse refuses, and refuses nothing but for a reason of its own', () => {
  const bits = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ':',
    ',',
    '"a"',
    '"b"',
    '"\\u0061"',
    '1',
    '-0.5e3',
    'true',
    'null',
    ' ',
    '"',
    '\\',
    'x',
    '01',
  )
  fc.assert(
    fc.property(fc.array(bits, { maxLength: 14 }), parts => {
      const text = `{"k":${parts.join('')}}`
      const [ours, theirs] = [attempt(() => parse(text).value), attempt(() => JSON.parse(text))]
      if (ours.ok) assert.deepEqual(ours.value, theirs.ok ? theirs.value : 'JSON.parse refused it')
      else if (theirs.ok) assert.match(String(ours.error), /is given twice|follows the JSON object/)
    }),
    { numRuns: 2_000 },
  )
})

test('a member given twice is refused at any depth, also when one is spelt with escapes', () => {
  for (const text of [
    '{"model":"cheap","model":"dear"}',
    '{"model":"cheap","mod\\u0065l":"dear"}',
    '{"messages":[{"role":"user","a":{"b":1,"b":2}}]}',
    '{"__proto__":1,"__proto__":2}',
  ])
    assert.throws(() => parse(text), /given twice \(at byte \d+\)/)
  assert.throws(() => parse('{"messages":[{},{"a":{"b":1,"b":2}}]}'), /"messages\[1\]\.a\.b" is given twice/)
})

test('depth, encoding and shape are bounded, and the error names the place', () => {
  const nested = (levels: number) => `{"a":${'['.repeat(levels)}${']'.repeat(levels)}}`
  parse(nested(depthMax - 1))
  assert.throws(() => parse(nested(depthMax)), /nested deeper than 128/)
  assert.throws(() => parse(`{"a":${'['.repeat(100_000)}`), StrictJsonError)
  assert.throws(() => parseObject(Buffer.from([0xef, 0xbb, 0xbf, 0x7b, 0x7d])), /byte order mark/)
  const bad = Buffer.concat([Buffer.from('{"text":"caf'), Buffer.from([0xff]), Buffer.from('"}')])
  assert.throws(() => parseObject(bad), /not valid UTF-8 \(at byte 1[12]\)/)
  for (const text of ['', '[]', '"x"', '{', '{"a":1', '{"a" 1}', '{"a":1} x', '{"a":01}', "{'a':1}", '{"a":1,}'])
    assert.throws(() => parse(text), StrictJsonError, text)
})

test('setting members changes those and not one byte of the others', () => {
  const text = '{ "model" : "a", "big": 12345678901234567890, "s":"\\u00e9" }'
  const out = withMembers(
    parse(text),
    new Map([
      ['model', '"b"'],
      ['max_tokens', '5'],
    ]),
  ).toString()
  assert.equal(out, '{ "model" : "b", "big": 12345678901234567890, "s":"\\u00e9" ,"max_tokens":5}')
  assert.equal(withMembers(parse('{}'), new Map([['a', '1']])).toString(), '{"a":1}')
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue()),
      fc.dictionary(fc.string(), fc.jsonValue()),
      (value, patch) => {
        const members = new Map(Object.entries(patch).map(([name, inner]) => [name, JSON.stringify(inner)]))
        const edited = JSON.parse(withMembers(parse(JSON.stringify(value)), members).toString())
        assert.deepEqual(edited, JSON.parse(JSON.stringify({ ...value, ...patch })))
      },
    ),
  )
})

test('__proto__ and constructor are plain data', () => {
  const { value } = parse('{"__proto__":{"polluted":true},"constructor":1}')
  assert.equal(Reflect.get({}, 'polluted'), undefined)
  assert.deepEqual(Object.keys(value), ['__proto__', 'constructor'])
})

function attempt<T>(work: () => T): { ok: true; value: T } | { ok: false; error: unknown } {
  try {
    return { ok: true, value: work() }
  } catch (error) {
    return { ok: false, error }
  }
}
