import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { createRemembered } from './remembered.ts'

const idOf = (n: number) => createHash('sha256').update(`id ${n}`).digest().subarray(0, 16)
const requestOf = (n: number) => ({
  segment: `segment ${n % 3}`,
  from: n * 10,
  to: n * 10 + 7,
  rows: n,
  receivedUs: BigInt(n) * 1_000_003n,
  body: new Uint8Array(createHash('sha256').update(`body ${n}`).digest().subarray(0, 16)),
})

test('what is remembered is what a plain list with the same bounds remembers, whatever comes and goes', () => {
  const step = fc.record({ n: fc.nat({ max: 60 }), waitMs: fc.nat({ max: 40 }) })
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 0, max: 500 }),
      fc.array(step, { maxLength: 300 }),
      (max, keepMs, steps) => {
        let evicted = 0
        let evictedExactly = 0
        const remembered = createRemembered({ keepMs, max, onEvicted: count => (evicted += count) })
        let oracle: { n: number; atMs: number }[] = []
        let nowMs = 0
        for (const { n, waitMs } of steps) {
          nowMs += waitMs
          oracle = oracle.filter(({ atMs }) => nowMs - atMs <= keepMs)
          const known = oracle.some(item => item.n === n)
          assert.deepEqual(remembered.find(idOf(n), nowMs), known ? requestOf(n) : undefined)
          remembered.add(idOf(n), requestOf(n), nowMs)
          if (!known) {
            if (oracle.length === max) {
              oracle.shift()
              evictedExactly++
            }
            oracle.push({ n, atMs: nowMs })
          }
          assert.equal(remembered.size, oracle.length)
          assert.equal(evicted, evictedExactly)
        }
        for (const { n } of oracle) assert.deepEqual(remembered.find(idOf(n), nowMs), requestOf(n))
      },
    ),
  )
})

test('it grows to its bound and stays there', () => {
  let evicted = 0
  const remembered = createRemembered({ keepMs: 1_000, max: 5_000, onEvicted: count => (evicted += count) })
  for (let n = 0; n < 12_000; n++) remembered.add(idOf(n), requestOf(n), 0)
  assert.deepEqual([remembered.size, evicted], [5_000, 7_000])
  assert.equal(remembered.find(idOf(6_999), 0), undefined)
  assert.deepEqual(remembered.find(idOf(7_000), 0), requestOf(7_000))
  assert.deepEqual(remembered.find(idOf(11_999), 0), requestOf(11_999))
})
