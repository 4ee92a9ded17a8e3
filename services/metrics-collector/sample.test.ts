import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { gauge, seriesKey, toSeries, toValue } from './sample.ts'

const host = { device_id: 'd' }

test('any text becomes a name and labels that every receiver accepts', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary' }),
      fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary', maxLength: 2_000 }), { maxKeys: 50 }),
      (name, labels) => {
        const series = toSeries(gauge(name, 1, labels), host)
        assert.match(series.name, /^[a-zA-Z_:][a-zA-Z0-9_:]*$/)
        const names = Object.keys(series.labels)
        assert.ok(names.length <= 30)
        assert.equal(series.labels.device_id, 'd')
        assert.deepEqual(names, [...names].sort())
        for (const [label, value] of Object.entries(series.labels)) {
          assert.match(label, /^[a-zA-Z_][a-zA-Z0-9_]*$/)
          assert.ok(Buffer.byteLength(value) <= 1_024 && value !== '' && !value.includes('\0') && value.isWellFormed())
        }
        // Making valid what is valid changes nothing.
        assert.equal(seriesKey(toSeries({ ...series, value: 1 }, host)), seriesKey(series))
      },
    ),
  )
})

test('two long label values that differ late stay two series', () => {
  const long = 'é'.repeat(1_000)
  const a = toSeries(gauge('m', 1, { path: `${long}a` }), host)
  const b = toSeries(gauge('m', 1, { path: `${long}b` }), host)
  assert.notEqual(seriesKey(a), seriesKey(b))
})

test('numbers that receivers drop silently are not stored; minus zero is zero', () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
    assert.equal(toValue(value), undefined)
  assert.ok(Object.is(toValue(-0), 0))
  assert.equal(toValue(1.5), 1.5)
})
