import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createFairQueue } from './fair-queue.ts'

const MiB = 1024 * 1024

test('a small item goes with the next ones that are taken, however much of another key was there before', () => {
  const queue = createFairQueue<string>()
  for (let i = 0; i < 40; i++) queue.push('flood', 1.5 * MiB, `flood ${i}`)
  queue.take(6 * MiB, 100)
  queue.push('quiet', 4_000, 'quiet')
  assert.ok(queue.take(6 * MiB, 100).includes('quiet'))
})

test('everything comes out once, in order within a key, in portions that keep their bounds, and nobody is starved', () => {
  const item = fc.record({ key: fc.constantFrom('a', 'b', 'c'), bytes: fc.integer({ min: 1, max: 400_000 }) })
  fc.assert(
    fc.property(fc.array(fc.array(item, { maxLength: 60 }), { maxLength: 10 }), rounds => {
      const queue = createFairQueue<{ key: string; bytes: number; n: number }>()
      const sent = { a: 0, b: 0, c: 0 }
      const got = { a: 0, b: 0, c: 0 }
      const portion = () => {
        const taken = queue.take(MiB, 30)
        assert.ok(taken.length > 0 && taken.length <= 30)
        const bytes = taken.reduce((sum, one) => sum + one.bytes, 0)
        assert.ok(taken.length === 1 || bytes <= MiB)
        for (const { key, n } of taken) assert.equal(n, got[key as 'a']++)
      }
      for (const round of rounds) {
        for (const { key, bytes } of round) queue.push(key, bytes, { key, bytes, n: sent[key as 'a']++ })
        if (queue.length > 0) portion()
      }
      while (queue.length > 0) portion()
      assert.deepEqual(got, sent)
    }),
  )
})

test('keys that all have work get equal bytes', () => {
  const queue = createFairQueue<'small' | 'large'>()
  for (let i = 0; i < 2_000; i++) queue.push('small', 5_000, 'small')
  for (let i = 0; i < 20; i++) queue.push('large', 500_000, 'large')
  const bytes = { small: 0, large: 0 }
  for (let i = 0; i < 5; i++)
    for (const size of queue.take(MiB, 1_000)) bytes[size] += size === 'small' ? 5_000 : 500_000
  assert.ok(Math.abs(bytes.small - bytes.large) <= 600_000, JSON.stringify(bytes))
})
