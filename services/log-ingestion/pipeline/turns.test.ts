import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createTurns, TooManyWaiting } from './turns.ts'

const stepBytes = 256 * 1024

/** A decoder that notes each of its stretches. */
function* decoder(name: string, bytes: number, served: string[]): Generator<void, string> {
  for (let left = bytes; left > stepBytes; left -= stepBytes) {
    served.push(name)
    yield
  }
  served.push(name)
  return name
}

test('a small request waits for one stretch of a flood, not for the flood', async () => {
  const turns = createTurns()
  const served: string[] = []
  const large = 6 * 1024 * 1024
  const flood = [turns.run('flood', large, decoder('flood', large, served))]
  for (let i = 0; i < 20; i++) flood.push(turns.run('flood', 50_000, decoder('flood', 50_000, served)))
  const quiet = turns.run('quiet', 1_000, decoder('quiet', 1_000, served))
  assert.equal(await quiet, 'quiet')
  assert.ok(served.indexOf('quiet') <= 3, `served after ${served.indexOf('quiet')} stretches`)
  await Promise.all(flood)
  assert.equal(turns.waiting, 0)
})

test('keys that all have work get equal bytes, whatever the sizes of their requests', async () => {
  const turns = createTurns()
  const served: string[] = []
  const sizes: Record<string, number> = { small: 8 * 1024, middle: 64 * 1024, large: 256 * 1024 }
  const all = Object.entries(sizes).flatMap(([key, bytes]) =>
    Array.from({ length: Math.min(30, Math.floor((2 * 1024 * 1024) / bytes)) }, () =>
      turns.run(key, bytes, decoder(key, bytes, served)),
    ),
  )
  await Promise.all(all)
  // Until the first key is done, nobody is ahead of another by more than a stretch and a quantum.
  const got: Record<string, number> = { small: 0, middle: 0, large: 0 }
  for (const key of served) {
    got[key] = (got[key] ?? 0) + (sizes[key] ?? 0)
    if ((got.small ?? 0) >= 30 * 8 * 1024) break
    assert.ok(Math.max(...Object.values(got)) - Math.min(...Object.values(got)) <= stepBytes + 128 * 1024)
  }
})

test('a key may have 32 requests or 8 MiB waiting; one alone may be as large as it is', async () => {
  const turns = createTurns()
  const served: string[] = []
  const run = (key: string, bytes: number) => turns.run(key, bytes, decoder(key, bytes, served))
  const first = run('a', 32 * 1024 * 1024)
  await assert.rejects(run('a', 1), TooManyWaiting)
  const others = Array.from({ length: 32 }, () => run('b', 20_000))
  await assert.rejects(run('b', 20_000), TooManyWaiting)
  const small = Array.from({ length: 200 }, () => run('c', 1_000))
  await Promise.all([first, ...others, ...small])
})

test('one turn of the event loop decodes 256 KiB and no more, however many connections bring something', async () => {
  const turns = createTurns()
  const served: string[] = []
  const all = Array.from({ length: 30 }, () => turns.run('flood', 100_000, decoder('flood', 100_000, served)))
  const perTurn = []
  for (let before = 0; served.length < 30; before = served.length) {
    await new Promise(resolve => setImmediate(resolve))
    perTurn.push(served.length - before)
  }
  // The first stretch of time holds what ran at once and the first turn.
  assert.ok(Math.max(...perTurn.slice(1)) <= 3 && perTurn.length >= 9, perTurn.join(' '))
  await Promise.all(all)
})

test('a decoder that throws harms only itself', async () => {
  const turns = createTurns()
  const bad = turns.run(
    'a',
    1,
    (function* (): Generator<void, void> {
      yield
      throw new Error('broken')
    })(),
  )
  const good = turns.run('a', 1, decoder('good', 1, []))
  await assert.rejects(bad, /broken/)
  assert.equal(await good, 'good')
})

test('a small body that unpacks into a long one pays for every stretch', async () => {
  const turns = createTurns()
  const served: string[] = []
  const packed = turns.run('packed', 1_000, decoder('packed', 40 * stepBytes, served))
  const plain = turns.run('plain', 10 * stepBytes, decoder('plain', 10 * stepBytes, served))
  await plain
  assert.ok(served.filter(name => name === 'packed').length <= 13, served.join(' '))
  await packed
})
