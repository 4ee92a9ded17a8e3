import assert from 'node:assert/strict'
import test from 'node:test'
import { drivenClock, testBase } from '../../../test/kit/base.ts'
import { createReceiptClock } from './receipt-clock.ts'

test('receive stamps never go backwards, catch up after the clock was set back, and steps are logged and counted', async t => {
  const clock = drivenClock()
  const lines: string[] = []
  const base = testBase(t, { clock, lines })
  const receipt = createReceiptClock(base)
  t.after(() => receipt.close())
  const first = receipt.nowNs()
  clock.advance(10)
  assert.equal(receipt.nowNs() - first, 10_000_000n)
  clock.step(-60_000)
  let last = receipt.nowNs()
  assert.equal(last - first, 10_000_000n)
  for (let i = 0; i < 300; i++) {
    clock.advance(1_000)
    const next = receipt.nowNs()
    assert.ok(next > last)
    last = next
  }
  assert.equal(last, BigInt(clock.now()) * 1_000_000n)
  clock.step(500)
  receipt.nowNs()
  clock.step(3_600_000)
  assert.equal(receipt.nowNs(), BigInt(clock.now()) * 1_000_000n)
  assert.match(await base.registry.metrics(), /^billaged_clock_steps_total 2$/m)
  assert.equal(lines.filter(line => line.includes('the wall clock was set')).length, 2)
})
