import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { drivenClock } from '../../../test/kit/base.ts'
import { createBuckets } from './buckets.ts'

test('a bucket admits exactly what exact arithmetic admits, whatever the wall clock does', () => {
  const step = fc.record({ waitMs: fc.nat({ max: 3_000 }), wallStepMs: fc.integer({ min: -1e9, max: 1e9 }) })
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 1, max: 20 }),
      fc.array(step, { maxLength: 200 }),
      (rps, burst, steps) => {
        const clock = drivenClock()
        const buckets = createBuckets({ rps, burst, clock })
        // In thousandths of a token: integers, so exact.
        let exact = BigInt(burst) * 1_000n
        for (const { waitMs, wallStepMs } of steps) {
          clock.advance(waitMs)
          clock.step(wallStepMs)
          exact += BigInt(waitMs) * BigInt(rps)
          if (exact > BigInt(burst) * 1_000n) exact = BigInt(burst) * 1_000n
          const verdict = buckets.take('k')
          assert.equal(verdict.allowed, exact >= 1_000n)
          if (verdict.allowed) exact -= 1_000n
          assert.equal(BigInt(verdict.remaining), exact / 1_000n)
          if (!verdict.allowed) {
            const waitS = (1_000n - exact + BigInt(rps) * 1_000n - 1n) / (BigInt(rps) * 1_000n)
            assert.equal(BigInt(verdict.retryAfterS), waitS < 1n ? 1n : waitS)
          }
        }
      },
    ),
  )
})

test('after Retry-After the request passes', () => {
  const clock = drivenClock()
  const buckets = createBuckets({ rps: 2, burst: 3, clock })
  while (buckets.take('k').allowed);
  clock.advance(buckets.take('k').retryAfterS * 1_000)
  assert.equal(buckets.take('k').allowed, true)
})

test('keys do not share tokens, and idle ones are forgotten', () => {
  const clock = drivenClock()
  const buckets = createBuckets({ rps: 10, burst: 1, clock, keysMax: 50 })
  assert.equal(buckets.take('a').allowed, true)
  assert.equal(buckets.take('b').allowed, true)
  assert.equal(buckets.take('a').allowed, false)
  for (let i = 0; i < 5_000; i++) buckets.take(`key ${i}`)
  assert.ok(buckets.size <= 50)
})
