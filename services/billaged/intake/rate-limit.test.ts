import assert from 'node:assert/strict'
import test from 'node:test'
import { drivenClock } from '../../../test/kit/base.ts'
import { createRateLimiter } from './rate-limit.ts'

test('a customer gets its samples a second, a larger batch is paid off later, and nobody pays for others', () => {
  const clock = drivenClock()
  const limiter = createRateLimiter(clock, 100)
  assert.equal(limiter.take('acme', 60), 0)
  assert.equal(limiter.take('acme', 250), 0)
  assert.equal(limiter.take('acme', 1), 3)
  assert.equal(limiter.take('globex', 100), 0)
  clock.advance(2_200)
  assert.equal(limiter.take('acme', 1), 0)
  limiter.set(0)
  for (let i = 0; i < 10; i++) assert.equal(limiter.take('acme', 1_000_000), 0)
})
