import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { openChunkSize } from './chunk-size.ts'

test('a configured chunk size is never exceeded, and no size is ever below one', () => {
  const event = fc.constantFrom('ok', 'big', 'timeout', 'refused')
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50_000 }),
      fc.integer({ min: 1, max: 50_000 }),
      fc.boolean(),
      fc.array(event),
      (n, batch, auto, events) => {
        const size = openChunkSize(auto ? 'auto' : n, batch)
        const max = Math.min(auto ? 10_000 : n, batch)
        for (const what of events) {
          if (what === 'ok') size.succeeded(size.samples, 1_000)
          else if (what === 'big') size.succeeded(size.samples, 1_000_000)
          else if (what === 'timeout') size.timedOut()
          else size.refused(size.samples)
          assert.ok(size.samples >= 1 && size.samples <= max)
        }
      },
    ),
  )
})

test('auto halves on timeout and doubles after eight successes; a number stays', () => {
  const auto = openChunkSize('auto', 20_000)
  assert.equal(auto.samples, 10_000)
  auto.timedOut()
  assert.equal(auto.samples, 5_000)
  for (let i = 0; i < 8; i++) auto.succeeded(10, 1)
  assert.equal(auto.samples, 10_000)
  const fixed = openChunkSize(50, 2_500)
  fixed.timedOut()
  assert.equal(fixed.samples, 50)
})

test('one culprit among n samples is found within 2·log2(n)+2 requests', () => {
  for (const n of [1, 2, 50, 1_000, 10_000]) {
    const size = openChunkSize(n, n)
    const culprit = Math.floor(n / 3)
    let at = 0
    let requests = 0
    while (at < n) {
      const samples = Math.min(size.samples, n - at)
      requests++
      if (culprit >= at && culprit < at + samples) {
        size.refused(samples)
        if (samples === 1) at++
      } else {
        size.succeeded(samples, 1)
        at += samples
      }
    }
    assert.ok(requests <= 2 * Math.log2(n) + 2, `${requests} requests for ${n} samples`)
  }
})
