import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { countsByTone, levelOf } from './levels.ts'
import { removeTerm, term, withTerm, words } from './query.ts'
import { barIntervalMs, spanOf } from './range.ts'
import { metadataSummary } from './summary.ts'

test('"filter for" adds a term once, quoted where the language needs it', () => {
  assert.equal(withTerm('', 'service', 'shop'), 'service:shop')
  assert.equal(withTerm('timeout', 'http.status', 500), 'timeout http.status:500')
  assert.equal(withTerm('service:shop', 'service', 'shop'), 'service:shop')
  assert.equal(term('user id', 'a "b" \\c'), '"user id":"a \\"b\\" \\\\c"')
  assert.equal(term('ok', true), 'ok:true')
  assert.equal(term('ok', 'true'), 'ok:"true"')
  assert.equal(term('path', '/a b'), 'path:"/a b"')
})

test('"filter out" replaces "filter for" and the other way round', () => {
  assert.equal(withTerm('service:shop level:warn', 'service', 'shop', true), 'level:warn -service:shop')
  assert.equal(withTerm('level:warn -service:shop', 'service', 'shop'), 'level:warn service:shop')
})

test('a term added to alternatives binds all of them', () => {
  assert.equal(withTerm('level:warn OR level:error', 'service', 'shop'), '(level:warn OR level:error) service:shop')
  assert.equal(withTerm('(a OR b) c', 'service', 'shop'), '(a OR b) c service:shop')
})

test('words are split outside quotes and groups only', () => {
  assert.deepEqual(words(`"a b"  c:'d e' (f OR "g)") -h`), ['"a b"', `c:'d e'`, '(f OR "g)")', '-h'])
  assert.equal(removeTerm('a "b c" d', '"b c"'), 'a d')
  fc.assert(
    fc.property(fc.string(), fc.string({ minLength: 1 }), fc.string(), (query, name, value) => {
      const added = withTerm('', name, value)
      assert.deepEqual(words(added), [added])
      assert.equal(removeTerm(added, added), '')
      assert.ok(words(query).every(word => query.includes(word)))
    }),
  )
})

test('levels are counted by severity whatever they are called', () => {
  assert.equal(levelOf('warning').tone, 'warn')
  assert.equal(levelOf('CRITICAL').tone, 'fatal')
  assert.equal(levelOf('Notice').name, 'NOTICE')
  assert.deepEqual(countsByTone({ INFO: '2', WARNING: '1', WARN: '3', odd: '1' }, 7), {
    debug: 0,
    info: 3,
    warn: 4,
    error: 0,
    fatal: 0,
  })
  assert.equal(countsByTone(undefined, 7).info, 7)
})

test('a span is what was asked for, and never empty or backwards', () => {
  const now = Date.UTC(2026, 10, 21)
  assert.deepEqual(spanOf({ range: '15m', from: '', to: '' }, now), {
    fromMs: now - 900_000,
    toMs: now,
    isRelative: true,
  })
  assert.equal(
    spanOf({ range: '15m', from: '2026-11-20T00:00:00Z', to: '2026-11-20T01:00:00Z' }, now).isRelative,
    false,
  )
  assert.equal(spanOf({ range: 'x', from: 'b', to: 'a' }, now).fromMs, now - 3_600_000)
  assert.equal(spanOf({ range: '', from: '2026-11-20T02:00:00Z', to: '2026-11-20T01:00:00Z' }, now).isRelative, true)
})

test('a histogram never needs more bars than it was given room for', () => {
  assert.equal(barIntervalMs({ fromMs: 0, toMs: 3_600_000 }, 60), 60_000)
  assert.equal(barIntervalMs({ fromMs: 0, toMs: 900_000 }, 90), 10_000)
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10 ** 12 }), fc.integer({ min: 1, max: 200 }), (toMs, bars) => {
      assert.ok(toMs / barIntervalMs({ fromMs: 0, toMs }, bars) <= bars)
    }),
  )
})

test('metadata is summed up behind the message, in order, on one line and never without end', () => {
  assert.equal(metadataSummary(null), '')
  assert.equal(
    metadataSummary({
      child: 'builderd',
      n: 2,
      ok: true,
      none: null,
      err: { message: 'not yet', stack: 'a\n  b' },
      list: ['x', 1],
      mixed: [{}],
    }),
    'child=builderd n=2 ok=true err.message="not yet" list=x,1',
  )
  assert.equal(metadataSummary({ child: 'builderd', restart: 2 }, 'builderd is starting'), 'restart=2')
  assert.equal(metadataSummary({ text: 'x'.repeat(500) }).length, 65)
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), metadata => {
      const text = metadataSummary(metadata as Record<string, unknown>)
      assert.ok(text.length <= 240)
    }),
  )
})
