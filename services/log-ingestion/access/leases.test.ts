import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { drivenClock, testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { createRedis } from '../redis.ts'
import { type RedisServer, redisServer, whyNoRedis } from '../test/redis-server.ts'
import { createLeases } from './leases.ts'
import type { Tokens } from './tokens.ts'

const token = 1_000
const skip = whyNoRedis

/** One replica's buckets on a clock that the test drives, and that all of them agree on. */
async function replicaOn(t: TestContext, server: RedisServer, clock: ReturnType<typeof drivenClock>, replicas = 2) {
  const redis = createRedis(server.url, testBase(t).log, { namespace: 'test' })
  t.after(() => redis.close())
  await pollUntil(() => redis.isUp, { what: 'Redis', everyMs: 10 })
  const tokens = createLeases({ redis, clock, replicas: () => replicas, sharedNowMs: () => clock.now() })
  return { redis, tokens }
}

/** Everything that comes is taken, until nothing does. */
async function drink(tokens: Tokens, limit: { id: string; rate: number; capacity: number }): Promise<number> {
  let count = 0
  while ((await tokens.take(limit, token, token)).allowed) count++
  return count
}

test('in the long run replicas together admit the burst and the rate, to the token', { skip }, async t => {
  const server = await redisServer(t)
  const clock = drivenClock()
  const replicas = await Promise.all([1, 2, 3].map(() => replicaOn(t, server, clock, 3)))
  const limit = { id: 'intake\0shop', rate: 50, capacity: 70 }
  let admitted = 0
  for (const { tokens } of replicas) admitted += await drink(tokens, limit)
  assert.equal(admitted, 70, 'the burst, whoever is asked')
  // Steps of any length, each replica thirsty; some rest for a while with what they leased.
  let passedMs = 0
  for (let i = 0; i < 300; i++) {
    const stepMs = 1 + ((i * 7_919) % 400)
    clock.advance(stepMs)
    passedMs += stepMs
    for (const { tokens } of replicas.slice(i % 3)) admitted += await drink(tokens, limit)
  }
  for (const { tokens } of replicas) admitted += await drink(tokens, limit)
  assert.equal(admitted, 70 + Math.floor((passedMs * 50) / 1_000))
})

test('a slice is at most 100 ms of tokens, and what is not spent of it comes back', { skip }, async t => {
  const server = await redisServer(t)
  const clock = drivenClock()
  const [a, b] = await Promise.all([replicaOn(t, server, clock), replicaOn(t, server, clock)])
  const limit = { id: 'intake\0shop', rate: 100, capacity: 200 }
  const left = async () => Number(await server.client.hget('purser:logs:test:bucket:intake\0shop', 'milli')) / token
  // Faster and faster: slices grow to ten tokens and no further.
  let before = 200
  let taken = 0
  let largest = 0
  for (let i = 0; i < 60; i++) {
    if ((await a.tokens.take(limit, token, token)).allowed) taken++
    const after = await left()
    largest = Math.max(largest, before - after)
    before = after
  }
  assert.equal(taken, 60)
  assert.equal(largest, 10)
  const held = 200 - before - taken
  assert.ok(held >= 0 && held < 10)
  // A slow sender holds no more than it uses.
  clock.advance(200)
  assert.ok((await a.tokens.take(limit, token, token)).allowed)
  assert.equal(await left(), 200 - 60 - 1 + 20)
  assert.ok((await b.tokens.take(limit, token, token)).allowed)
  assert.equal(await left(), 200 - 60 - 2 + 20)
})

test('what a request held is charged after the fact to all replicas', { skip }, async t => {
  const server = await redisServer(t)
  const clock = drivenClock()
  const [a, b] = await Promise.all([replicaOn(t, server, clock), replicaOn(t, server, clock)])
  const limit = { id: 'rows\0shop', rate: 10, capacity: 10 }
  assert.ok((await a.tokens.take(limit, 1, 0)).allowed)
  a.tokens.charge(limit, 60 * token)
  const isRefused = async () => !(await b.tokens.take(limit, 1, 0)).allowed
  await pollUntil(isRefused, { what: 'the debt to be known elsewhere', everyMs: 10 })
  clock.advance(5_000)
  assert.equal((await b.tokens.take(limit, 1, 0)).allowed, false, '50 of 50 paid: not positive')
  clock.advance(100)
  assert.equal((await b.tokens.take(limit, 1, 0)).allowed, true)
})

test('without Redis each has its part of the rate; an outage gives nobody a second burst, also when Redis forgot all', {
  skip,
}, async t => {
  const server = await redisServer(t)
  const clock = drivenClock()
  const [a, b] = await Promise.all([replicaOn(t, server, clock), replicaOn(t, server, clock)])
  const limit = { id: 'intake\0shop', rate: 50, capacity: 100 }
  const both = async () => (await drink(a.tokens, limit)) + (await drink(b.tokens, limit))
  assert.equal(await both(), 100)
  await server.kill()
  await pollUntil(() => !a.redis.isUp && !b.redis.isUp, { what: 'Redis to be missed' })
  assert.equal(await both(), 0)
  clock.advance(1_000)
  assert.deepEqual([await drink(a.tokens, limit), await drink(b.tokens, limit)], [25, 25])
  clock.advance(60_000)
  assert.equal(await both(), 100, 'a part of the burst each')
  await server.start()
  await pollUntil(() => a.redis.isUp && b.redis.isUp, { what: 'Redis to be found again' })
  assert.equal(await both(), 0)
  clock.advance(1_000)
  assert.equal(await both(), 50)
  clock.advance(10_000)
  assert.equal(await both(), 100)
})
