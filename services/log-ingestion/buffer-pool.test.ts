import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createBufferPool } from './buffer-pool.ts'

const bytesMax = 512 * 1024

test('whoever has a buffer has it alone, whatever is taken and given back around it', t => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('take' as const), bytes: fc.integer({ min: 0, max: 3_000_000 }) }),
    fc.record({ kind: fc.constant('give' as const), index: fc.nat() }),
    fc.record({ kind: fc.constant('give again' as const), index: fc.nat() }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const pool = createBufferPool({ bytesMax })
      const held: { buffer: Buffer; mark: number }[] = []
      const given: Buffer[] = []
      let marks = 0
      for (const s of steps) {
        if (s.kind === 'take') {
          const buffer = pool.take(s.bytes)
          assert.ok(buffer.length >= s.bytes)
          const mark = ++marks % 251
          buffer.fill(mark)
          held.push({ buffer, mark })
        } else if (s.kind === 'give') {
          const [gone] = held.splice(s.index % Math.max(1, held.length), 1)
          if (!gone) continue
          pool.give(gone.buffer)
          given.push(gone.buffer)
        } else {
          const buffer = given[s.index % Math.max(1, given.length)]
          // Only while nobody has it: that is what its last owner has to see to.
          if (buffer && !held.some(other => other.buffer === buffer)) pool.give(buffer)
        }
        assert.ok(pool.freeBytes <= bytesMax)
        for (const { buffer, mark } of held)
          assert.ok(buffer.length === 0 || (buffer[0] === mark && buffer[buffer.length - 1] === mark))
      }
      pool.close()
    }),
    { numRuns: 200 },
  )
  t.diagnostic('takes and returns in any order')
})

test('what came back is used again, what did not come from here is not', () => {
  const pool = createBufferPool({ bytesMax })
  const buffer = pool.take(20_000)
  assert.equal(buffer.length, 32_768)
  pool.give(buffer)
  pool.give(buffer)
  assert.equal(pool.freeBytes, 32_768)
  assert.equal(pool.take(30_000), buffer)
  assert.notEqual(pool.take(30_000), buffer)
  pool.give(Buffer.allocUnsafeSlow(32_768))
  pool.give(buffer.subarray(0, 10))
  assert.equal(pool.freeBytes, 0)
  pool.close()
})

test('what nobody needed for a while goes', t => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const pool = createBufferPool({ bytesMax })
  const buffers = [pool.take(60_000), pool.take(60_000), pool.take(60_000)]
  for (const buffer of buffers) pool.give(buffer)
  t.mock.timers.tick(10_000)
  assert.equal(pool.freeBytes, 3 * 65_536, 'all three were needed until now')
  pool.give(pool.take(60_000))
  t.mock.timers.tick(10_000)
  assert.equal(pool.freeBytes, 65_536, 'one of three was')
  t.mock.timers.tick(10_000)
  assert.equal(pool.freeBytes, 0)
  pool.close()
})
