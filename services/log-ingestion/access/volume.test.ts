import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { drivenClock } from '../../../test/kit/base.ts'
import { type Limit, type Limits, noLimits } from '../rules/limits.ts'
import { createTokens } from './tokens.ts'
import { createVolume } from './volume.ts'

const sender = { tenant: 'acme', key: '7', keyName: 'shop' }
const none: Limit = {
  requestsPerSecond: undefined,
  burst: undefined,
  rowsPerSecond: undefined,
  bytesPerSecond: undefined,
  bytesPerDay: undefined,
}
const ofTenant = (limit: Partial<Limit>): (() => Limits) => {
  const limits = { ofKey: () => undefined, ofTenant: () => ({ ...none, ...limit }) }
  return () => limits
}

test('rows and bytes are admitted as exact arithmetic admits them, and never starve a large batch', async () => {
  const step = fc.record({ waitMs: fc.nat({ max: 5_000 }), rows: fc.nat({ max: 400 }), wallStepMs: fc.integer() })
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 100 }), fc.array(step, { maxLength: 150 }), async (rate, steps) => {
      const clock = drivenClock()
      const volume = createVolume({
        clock,
        tokens: createTokens({ clock }),
        limits: () => noLimits,
        rowsPerSecond: () => rate,
        bytesPerSecond: () => 0,
      })
      const full = BigInt(rate) * 1_000n
      let exact = full
      for (const { waitMs, rows, wallStepMs } of steps) {
        clock.advance(waitMs)
        clock.step(wallStepMs % 1_000)
        exact += BigInt(waitMs) * BigInt(rate)
        if (exact > full) exact = full
        const refused = await volume.check(sender)
        assert.equal(refused === undefined, exact > 0n)
        if (refused) {
          const waitS = (1n - exact + full - 1n) / full
          assert.deepEqual([refused.limit, BigInt(refused.retryAfterS)], ['rows', waitS < 1n ? 1n : waitS])
          continue
        }
        volume.charge(sender, rows, 0)
        exact -= BigInt(rows) * 1_000n
      }
    }),
  )
})

test('in the long run no more passes than the rate, whatever the sizes, and after Retry-After one does', async () => {
  const clock = drivenClock()
  const volume = createVolume({
    clock,
    tokens: createTokens({ clock }),
    limits: () => noLimits,
    rowsPerSecond: () => 0,
    bytesPerSecond: () => 1_000,
  })
  let passed = 0
  let largest = 0
  for (let i = 0; i < 500; i++) {
    const refused = await volume.check(sender)
    if (refused) {
      clock.advance(refused.retryAfterS * 1_000)
      assert.equal(await volume.check(sender), undefined)
    }
    const bytes = (i * 7_919) % 30_000
    volume.charge(sender, 1, bytes)
    passed += bytes
    largest = Math.max(largest, bytes)
  }
  assert.ok(passed <= clock.monotonicMs() + 1_000 + largest)
})

test('a tenant shares its buckets among its keys; other tenants have their own', async () => {
  const clock = drivenClock()
  const volume = createVolume({
    clock,
    tokens: createTokens({ clock }),
    limits: ofTenant({ rowsPerSecond: 10 }),
    rowsPerSecond: () => 0,
    bytesPerSecond: () => 0,
  })
  volume.charge(sender, 50, 0)
  assert.deepEqual(await volume.check({ ...sender, key: '8' }), { limit: 'rows', retryAfterS: 5 })
  assert.equal(await volume.check({ ...sender, tenant: 'globex' }), undefined)
})

test('a daily quota of bytes answers until midnight UTC, counting what other replicas and earlier lives took', async () => {
  const clock = drivenClock(Date.UTC(2026, 0, 15, 23, 59, 30))
  const volume = createVolume({
    clock,
    tokens: createTokens({ clock }),
    limits: ofTenant({ bytesPerDay: 1_000 }),
    rowsPerSecond: () => 0,
    bytesPerSecond: () => 0,
  })
  volume.charge(sender, 1, 400)
  assert.equal(await volume.check(sender), undefined)
  const begun = volume.mark()
  volume.charge(sender, 1, 100)
  // The ledger knows 300 more than we charged before it was read.
  volume.setDay(new Map([['acme', 700]]), begun)
  assert.equal(await volume.check(sender), undefined)
  volume.charge(sender, 1, 200)
  assert.deepEqual(await volume.check(sender), { limit: 'quota', retryAfterS: 30 })
  clock.advance(30_000)
  assert.equal(await volume.check(sender), undefined, 'a new day')
})

test('a limit on requests takes one token each', async () => {
  const clock = drivenClock()
  const volume = createVolume({
    clock,
    tokens: createTokens({ clock }),
    limits: ofTenant({ requestsPerSecond: 2, burst: 3 }),
    rowsPerSecond: () => 0,
    bytesPerSecond: () => 0,
  })
  for (let i = 0; i < 3; i++) assert.equal(await volume.check(sender), undefined)
  assert.deepEqual(await volume.check(sender), { limit: 'requests', retryAfterS: 1 })
  clock.advance(500)
  assert.equal(await volume.check(sender), undefined)
})
