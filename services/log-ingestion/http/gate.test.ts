import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Problem } from '#platform/http'
import { createGate } from './gate.ts'

/** Work that ends when told. */
function work() {
  const { promise, resolve } = Promise.withResolvers<void>()
  let isRunning = false
  const run = async () => {
    isRunning = true
    await promise
  }
  return { run, end: resolve, isRunning: () => isRunning }
}
const turn = () => new Promise(resolve => setImmediate(resolve))

test('two per key and four in all run at once; who waits goes on in turn, past those whose key is full', async () => {
  const gate = createGate()
  const [a1, a2, a3, b1, c1, d1] = [work(), work(), work(), work(), work(), work()]
  const done = [
    gate.run('a', a1.run),
    gate.run('a', a2.run),
    gate.run('a', a3.run),
    gate.run('b', b1.run),
    gate.run('c', c1.run),
    gate.run('d', d1.run),
  ]
  await turn()
  const running = () => [a1, a2, a3, b1, c1, d1].map(one => one.isRunning())
  assert.deepEqual(running(), [true, true, false, true, true, false])
  b1.end()
  await turn()
  assert.deepEqual(running(), [true, true, false, true, true, true], 'd, because a has two already')
  a1.end()
  await turn()
  assert.deepEqual(running(), [true, true, true, true, true, true])
  for (const one of [a2, a3, c1, d1]) one.end()
  await Promise.all(done)
})

test('a place in the queue lasts so long, then a 429 with Retry-After; failed work gives its place back', async () => {
  const gate = createGate({ queueTimeoutMs: 20 })
  const [first, second] = [work(), work()]
  const running = [gate.run('a', first.run), gate.run('a', second.run)]
  await assert.rejects(
    gate.run('a', async () => {}),
    (error: unknown) =>
      error instanceof Problem &&
      error.status === 429 &&
      error.reason === 'QUERIES_BUSY' &&
      error.headers['Retry-After'] === '1',
  )
  first.end()
  second.end()
  await Promise.all(running)
  await assert.rejects(
    gate.run('a', () => Promise.reject(new Error('broken'))),
    /broken/,
  )
  assert.equal(await gate.run('a', async () => 7), 7)
})
