// How often a key may ask, how long the refused are told to wait, and what guessing keys costs.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { drivenClock, testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { smallDisk } from '../../../test/kit/full-disk.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { mintJwt } from '../access/jwt.ts'
import { adminKey, batch, entry, startService, writeKey } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

const jwtSecret = 'a secret of sixteen bytes and more'

async function limited(t: TestContext, env: Record<string, string> = {}) {
  const clock = drivenClock(Date.now())
  const s = await startService(t, {
    base: testBase(t, { clock }),
    env: {
      LOG_INGESTION_RATELIMIT_ENABLED: 'true',
      LOG_INGESTION_RATELIMIT_DEFAULT_RPS: '2',
      LOG_INGESTION_RATELIMIT_BURST: '4',
      LOG_INGESTION_JWT_SECRET: jwtSecret,
      ...env,
    },
  })
  const send = (key = writeKey) => {
    const log = entry({ timestamp: new Date(clock.now()).toISOString() })
    return s.post('/api/v1/logs', JSON.stringify({ log }), { 'x-api-key': key })
  }
  /** Statuses of so many requests, one after the other. */
  const statuses = async (count: number, ask: () => Promise<Response>) => {
    const all = []
    for (let i = 0; i < count; i++) all.push((await ask()).status)
    return all
  }
  return { s, clock, send, statuses }
}

test('G18: a bucket per key that starts full, one for intake and one for the rest, one per person who signed in; headers on intake answers; RATELIMIT_ENABLED=false ends it', async t => {
  const { s, clock, send, statuses } = await limited(t)
  const numbers = ({ headers }: Response) =>
    ['limit', 'remaining', 'reset'].map(name => headers.get(`x-ratelimit-${name}`))
  assert.deepEqual(numbers(await send()), ['2', '3', '1'])
  assert.deepEqual(numbers(await send()), ['2', '2', '1'])
  assert.deepEqual(await statuses(4, send), [202, 202, 429, 429], 'four at once')
  const refused = await send()
  assert.deepEqual([refused.status, await refused.json()], [429, { error: 'Rate limit exceeded' }])
  assert.deepEqual(numbers(refused), ['2', '0', '2'])
  assert.deepEqual(await statuses(1, () => send('acme-write-key')), [202], 'another key')
  clock.advance(1_000)
  assert.deepEqual(await statuses(3, send), [202, 202, 429], 'two a second')
  clock.advance(3_600_000)
  assert.deepEqual(await statuses(5, send), [202, 202, 202, 202, 429], 'never more than the burst')

  const search = (headers: Record<string, string>) => () => fetch(`${s.url}/api/v1/logs/search`, { headers })
  const admin = { 'x-api-key': adminKey }
  assert.deepEqual(await statuses(5, () => send(adminKey)), [202, 202, 202, 202, 429])
  assert.deepEqual(await statuses(5, search(admin)), [200, 200, 200, 200, 429], 'reading is another bucket')
  const person = (userId: number) => {
    const claims = { userId, email: 'a@b.c', name: 'A', isAdmin: true, tenant: 'public', isPlatformAdmin: false }
    return { authorization: `Bearer ${mintJwt(Buffer.from(jwtSecret), claims, clock)}` }
  }
  assert.deepEqual(await statuses(5, search(person(1))), [200, 200, 200, 200, 429])
  assert.deepEqual(
    await statuses(1, () => fetch(`${s.url}/admin/stats`, { headers: person(1) })),
    [429],
    'one for all that a person asks',
  )
  assert.deepEqual(await statuses(1, search(person(2))), [200])

  await s.restart({ LOG_INGESTION_RATELIMIT_ENABLED: 'false', LOG_INGESTION_RATELIMIT_ROWS_PER_SECOND: '1' })
  const free = await statuses(20, send)
  assert.ok(free.every(status => status === 202))
  assert.deepEqual(numbers(await send()), [null, null, null])
})

test('G19: Retry-After is the whole seconds until this request could pass: from tokens, from the drain rate, 30 for a disk', async t => {
  await t.test('tokens: before it 429, after it not, on intake and elsewhere', async t => {
    const { s, clock, send, statuses } = await limited(t, {
      LOG_INGESTION_RATELIMIT_DEFAULT_RPS: '1',
      LOG_INGESTION_RATELIMIT_BURST: '3',
      LOG_INGESTION_RATELIMIT_ROWS_PER_SECOND: '2',
    })
    const search = () => s.get('/api/v1/logs/search')
    const rows = async () => {
      const log = entry({ timestamp: new Date(clock.now()).toISOString() })
      return await s.post('/api/v1/logs/batch', batch(...Array(13).fill(log)), { 'x-api-key': 'acme-write-key' })
    }
    for (const ask of [send, search]) {
      await statuses(3, ask)
      clock.advance(100)
      const refused = await ask()
      assert.deepEqual([refused.status, refused.headers.get('retry-after')], [429, '1'])
      clock.advance(1_000)
      assert.ok((await ask()).ok)
      clock.advance(10_000)
    }
    assert.equal((await rows()).status, 202)
    const overdrawn = await rows()
    // 11 rows owed at 2 a second, and one more for a positive balance.
    assert.deepEqual([overdrawn.status, overdrawn.headers.get('retry-after')], [429, '6'])
    clock.advance(5_000)
    assert.equal((await rows()).status, 429)
    clock.advance(1_000)
    assert.equal((await rows()).status, 202)
  })
  await t.test('a full journal whose database does nothing: the longest there is', async t => {
    const { url } = await testDatabase(t)
    const proxy = await tcpProxy(t, url)
    const s = await startService(t, { databaseUrl: proxy.url, env: { LOG_INGESTION_JOURNAL_BYTES_MAX: '16MiB' } })
    proxy.down()
    const filler = 'x'.repeat(9_900)
    const refused = await pollUntil(
      async () => {
        const body = batch(...Array.from({ length: 80 }, () => entry({ message: filler })))
        const response = await s.post('/api/v1/logs/batch', body, { 'idempotency-key': crypto.randomUUID() })
        return response.status === 429 && response
      },
      { what: 'the journal to be full', everyMs: 1 },
    )
    assert.deepEqual(await refused.json(), { error: 'Service overloaded', reason: 'JOURNAL_FULL' })
    assert.equal(refused.headers.get('retry-after'), '60')
    proxy.up()
  })
  await t.test('a full disk: 30', async t => {
    const disk = await smallDisk(t, { bytes: 24 * 1024 * 1024 })
    if (!disk) return
    const s = await startService(t, { env: { LOG_INGESTION_DATA_DIR: disk.dir } })
    await disk.fill()
    const refused = await pollUntil(
      async () => {
        const response = await s.post('/api/v1/logs/batch', batch(entry({ message: crypto.randomUUID() })))
        return response.status === 429 && response
      },
      { what: 'a refusal', everyMs: 1 },
    )
    assert.deepEqual(await refused.json(), { error: 'Service overloaded', reason: 'DISK_FULL' })
    assert.equal(refused.headers.get('retry-after'), '30')
    await disk.free()
  })
})

test('G20: wrong keys are 10 a second and 50 at once per address; beyond that a right one is as good as a wrong one, except where it was known', async t => {
  const clock = drivenClock(Date.now())
  const s = await startService(t, { base: testBase(t, { clock }) })
  const from = (address: string, key: string) => ({ 'x-api-key': key, 'x-forwarded-for': address })
  const log = () => JSON.stringify({ log: entry({ timestamp: new Date(clock.now()).toISOString() }) })
  const send = (address: string, key: string) => s.post('/api/v1/logs', log(), from(address, key))
  const search = (address: string, key: string) => s.get('/api/v1/logs/search', from(address, key))
  assert.equal((await send('10.1.1.1', writeKey)).status, 202)
  for (let i = 0; i < 50; i++) {
    const ask = i % 2 === 0 ? send : search
    assert.equal((await ask('10.1.1.1', `guess ${i}`)).status, 401)
  }
  for (const ask of [send, search]) {
    const refused = await ask('10.1.1.1', 'guess')
    assert.deepEqual([refused.status, refused.headers.get('retry-after')], [429, '1'])
    const right = await ask('10.1.1.1', adminKey)
    assert.deepEqual([right.status, right.headers.get('retry-after')], [429, '1'], 'a hit is no news')
  }
  assert.equal((await s.get('/admin/stats', from('10.1.1.1', 'guess'))).status, 429)
  assert.equal((await s.get('/api/v1/faults', from('10.1.1.1', 'guess'))).status, 429)
  assert.equal((await send('10.1.1.1', writeKey)).status, 202, 'who was known there is not locked out')
  assert.equal((await send('10.1.1.2', adminKey)).status, 202, 'another address')
  clock.advance(1_000)
  assert.equal((await search('10.1.1.1', adminKey)).status, 200)
  for (let i = 0; i < 10; i++) assert.equal((await send('10.1.1.1', `guess ${i}`)).status, 401)
  assert.equal((await send('10.1.1.1', 'guess')).status, 429)
  const metrics = await (await fetch(`${s.url}/metrics`)).text()
  assert.match(metrics, /ratelimit_hits_total\{key="unknown",limit="auth"\} [1-9]/)
})
