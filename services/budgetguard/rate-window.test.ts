import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { RateWindow, slotMs } from './rate-window.ts'

test('at most `limit` admissions fall into any 60 seconds, and a permit is back at most 100 ms late', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 8 }),
      fc.array(fc.integer({ min: 0, max: 15_000 }), { minLength: 1, maxLength: 80 }),
      (limit, gaps) => {
        const window = new RateWindow()
        const admitted: number[] = []
        let nowMs = 1_234
        for (const gap of gaps) {
          nowMs += gap
          const inLast = (ms: number) => admitted.filter(at => at > nowMs - ms).length
          if (window.take(limit, nowMs)) {
            admitted.push(nowMs)
            assert.ok(inLast(60_000) <= limit)
          } else assert.ok(inLast(60_000 + slotMs) >= limit, 'refused although a permit was free')
        }
      },
    ),
  )
})

test('a permit given back can be taken again at once', () => {
  const window = new RateWindow()
  const first = window.take(1, 0)
  assert.ok(first)
  assert.equal(window.take(1, 10), null)
  window.release(first, 20)
  assert.ok(window.take(1, 30))
})

test('the wait that a refusal names is enough, and not more than a slot too long', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 59_000 }), elapsed => {
      const window = new RateWindow()
      window.take(1, 50)
      const nowMs = 50 + elapsed
      const wait = window.waitMs(1, nowMs)
      assert.equal(window.take(1, nowMs + wait - slotMs - 1), null)
      assert.ok(window.take(1, nowMs + wait))
    }),
  )
})

test('0 is unlimited', () => {
  const window = new RateWindow()
  for (let i = 0; i < 1_000; i++) assert.ok(window.take(0, i))
})
