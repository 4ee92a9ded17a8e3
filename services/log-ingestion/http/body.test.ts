import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createInflightBytes, reserve, TooMuchInFlight } from './body.ts'

const MiB = 1024 * 1024

/** Bytes that requests of this key get, one MiB each, until there is no more. */
function flood(inflight: ReturnType<typeof createInflightBytes>, key: string): number {
  let held = 0
  try {
    for (;;) {
      reserve(inflight, key).take(MiB)
      held++
    }
  } catch (error) {
    assert.ok(error instanceof TooMuchInFlight)
  }
  return held
}

test('floods by n keys hold n parts of n + 1: who comes then finds room', () => {
  const inflight = createInflightBytes(64 * MiB, 32 * MiB)
  assert.equal(flood(inflight, 'a'), 32)
  assert.equal(flood(inflight, 'b'), 16)
  assert.equal(flood(inflight, 'c'), 8)
  const quiet = reserve(inflight, 'quiet')
  quiet.take(4 * MiB)
  quiet.release()
  quiet.take(4 * MiB)
})

test('the largest body alone fits, packed and unpacked at once, and what is given back is there again', () => {
  const inflight = createInflightBytes(64 * MiB, 32 * MiB)
  const large = reserve(inflight, 'a')
  for (let i = 0; i < 60; i++) large.take(MiB)
  assert.throws(() => large.take(MiB), TooMuchInFlight)
  reserve(inflight, 'b').take(2 * MiB)
  large.release()
  assert.equal(flood(inflight, 'a'), 31)
  const tight = createInflightBytes(32 * MiB, 32 * MiB)
  reserve(tight, 'a').take(32 * MiB)
})
