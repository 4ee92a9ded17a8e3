import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { bandsOf, measuredWithin, stretchesOf, stripKinds, totalsOf } from './life-strip.ts'

const iso = (ms: number) => new Date(ms).toISOString()
const part = (fromMs: number, toMs: number, kind: string) => ({ from: iso(fromMs), to: iso(toMs), kind })

test('stretches are cut to the span, and a kind we do not know is never shown as measured', () => {
  const stretches = stretchesOf([part(0, 100, 'measured'), part(100, 200, 'gap'), part(300, 400, 'host_down')], 50, 350)
  assert.deepEqual(stretches, [
    { kind: 'measured', fromMs: 50, toMs: 100 },
    { kind: 'unmeasured', fromMs: 100, toMs: 200 },
    { kind: 'host_down', fromMs: 300, toMs: 350 },
  ])
  assert.deepEqual(totalsOf(stretches), [
    { kind: 'measured', ms: 50 },
    { kind: 'unmeasured', ms: 100 },
    { kind: 'host_down', ms: 50 },
  ])
  assert.equal(measuredWithin(stretches)(0, 80), 30)
})

test('under a plan that estimates, a gap is estimated up to ten minutes and not from there on', () => {
  const parts = [part(0, 599_999, 'gap'), part(600_000, 1_200_000, 'gap'), part(1_200_000, 1_200_001, 'unmeasured')]
  const kinds = (isEstimating: boolean) => stretchesOf(parts, 0, 2_000_000, isEstimating).map(({ kind }) => kind)
  assert.deepEqual(kinds(true), ['estimated', 'unmeasured', 'unmeasured'])
  assert.deepEqual(kinds(false), ['unmeasured', 'unmeasured', 'unmeasured'])
})

test('a gap of a second is seen in a strip of a month', () => {
  const month = 30 * 86_400_000
  const stretches = stretchesOf([part(0, 999_000, 'measured'), part(999_000, 1_000_000, 'unmeasured')], 0, month)
  const bands = bandsOf(stretches, 0, month)
  assert.deepEqual(
    bands.map(({ kind }) => kind),
    ['unmeasured', 'none'],
  )
})

test('bands cover the strip once, in order, whatever the stretches', () => {
  const stretch = fc
    .tuple(fc.constantFrom(...stripKinds), fc.nat(9_999), fc.nat(9_999))
    .map(([kind, a, b]) => ({ kind, fromMs: Math.min(a, b), toMs: Math.max(a, b) + 1 }))
  fc.assert(
    fc.property(fc.array(stretch, { maxLength: 30 }), stretches => {
      const bands = bandsOf(stretches, 0, 10_000, 97)
      assert.ok(bands.length <= 97)
      let at = 0
      for (const { left, width } of bands) {
        assert.ok(Math.abs(left - at) < 1e-9)
        at += width
      }
      assert.ok(Math.abs(at - 1) < 1e-9)
    }),
  )
})
