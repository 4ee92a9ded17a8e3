// Requests sent twice: marked ones, unmarked ones, at the same time, after kill -9's little brother (a restart without
// memory), on another replica. And what a sender may ask to be true before it hears of it.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { LedgerAnswer, ReceiptAnswer } from '../api.ts'
import { ackLevelOf } from '../http/ack-level.ts'
import { dedupeMax } from '../pipeline/admission.ts'
import { createRemembered } from '../pipeline/remembered.ts'
import { startProcess } from './process.ts'
import { forgetfulRedis, redisServer, whyNoRedis } from './redis-server.ts'
import { shiftedClock } from './shifted-clock.ts'
import { batch, entry, startService, type TestService, writeKey } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

/** Replicas know each other's keys and receipts by it. */
const shared = { PURSER_SECRET: 'one secret for all replicas of a test' }

const messages = async (s: { sql: TestService['sql'] }) =>
  (await s.sql<{ message: string }[]>`select message from logs order by id`).map(row => row.message)

async function ledgerOf(s: TestService, query = 'present=true'): Promise<LedgerAnswer> {
  return (await (await s.get(`/api/v1/ledger?${query}`)).json()) as LedgerAnswer
}

async function receiptOf(s: TestService, response: Response): Promise<ReceiptAnswer> {
  const answer = await s.get(`/api/v1/receipts/${response.headers.get('x-receipt')}`)
  assert.equal(answer.status, 200)
  return (await answer.json()) as ReceiptAnswer
}

const marked = (key: string) => ({ 'idempotency-key': key })

describe('G9: an Idempotency-Key makes one request of many, over restarts and replicas', () => {
  test('an Idempotency-Key stores its body once: the repeat gets the same answer, receipt and X-Duplicate', async t => {
    const s = await startService(t, { env: { LOG_INGESTION_DEDUPE_WINDOW: '0s' } })
    const body = batch(entry({ message: 'a' }), entry({ message: '' }), entry({ message: 'b' }))
    const first = await s.post('/api/v1/logs/batch', body, marked('k1'))
    const again = await s.post('/api/v1/logs/batch', body, marked('k1'))
    assert.deepEqual([again.status, await again.text()], [first.status, await first.text()])
    assert.deepEqual([first.headers.get('x-duplicate'), again.headers.get('x-duplicate')], [null, 'true'])
    assert.equal(again.headers.get('x-receipt'), first.headers.get('x-receipt'))
    const other = await s.post('/api/v1/logs/batch', batch(entry({ message: 'c' })), marked('k1'))
    assert.equal(other.status, 422)
    assert.match(await other.text(), /stands for another body/)
    for (const wrong of ['x'.repeat(256), 'tab\there']) {
      const refused = await s.post('/api/v1/logs/batch', body, marked(wrong))
      assert.equal(refused.status, 400)
    }
    // Keys of others are other keys.
    const acme = { ...marked('k1'), 'x-api-key': 'acme-write-key' }
    assert.equal((await s.post('/api/v1/logs/batch', batch(entry({ message: 'acme' })), acme)).status, 202)
    await s.settled()
    assert.deepEqual(await messages(s), ['a', 'b', 'acme'])
  })

  test('repeats at the same time wait for the first; exactly one is stored', async t => {
    const s = await startService(t)
    const body = batch(entry({ message: 'once' }))
    for (const headers of [marked('k'), {}] as Record<string, string>[]) {
      const answers = await Promise.all(
        Array.from({ length: 12 }, () => s.post('/api/v1/logs/batch', body, { 'user-agent': 'x', ...headers })),
      )
      assert.deepEqual([...new Set(answers.map(({ status }) => status))], [202])
      assert.equal(answers.filter(answer => answer.headers.get('x-duplicate') === null).length, 1)
      assert.equal(new Set(answers.map(answer => answer.headers.get('x-receipt'))).size, 1)
    }
    await s.settled()
    assert.deepEqual(await messages(s), ['once', 'once'], 'one marked, one unmarked')
  })

  test('keys are remembered over a restart: from the journal while the database is away, from the database afterwards', async t => {
    const database = await testDatabase(t)
    const proxy = await tcpProxy(t, database.url)
    const s = await startService(t, { databaseUrl: proxy.url, env: shared })
    const body = batch(entry({ message: 'a' }))
    assert.equal((await s.post('/api/v1/logs/batch', body, marked('stored'))).headers.get('x-duplicate'), null)
    await s.settled()
    proxy.down()
    assert.equal((await s.post('/api/v1/logs/batch', body, marked('pending'))).headers.get('x-duplicate'), null)
    proxy.up()
    await s.restart()
    for (const key of ['stored', 'pending']) {
      const again = await s.post('/api/v1/logs/batch', body, marked(key))
      assert.equal(again.headers.get('x-duplicate'), 'true', key)
    }
    // Another replica has no journal of theirs: the database tells it.
    const other = await startService(t, { databaseUrl: database.url, env: shared })
    await s.settled()
    const elsewhere = await other.post('/api/v1/logs/batch', body, marked('pending'))
    assert.deepEqual([elsewhere.status, elsewhere.headers.get('x-duplicate')], [202, 'true'])
    const conflict = await other.post('/api/v1/logs/batch', batch(entry({ message: 'b' })), marked('stored'))
    assert.equal(conflict.status, 422)
  })

  test('two replicas that both acknowledged one key store it once: the loser is counted, or quarantined when it differs', async t => {
    const database = await testDatabase(t)
    const proxies = [await tcpProxy(t, database.url), await tcpProxy(t, database.url)] as const
    const one = await startService(t, { databaseUrl: proxies[0].url, env: shared })
    const two = await startService(t, { databaseUrl: proxies[1].url, env: shared })
    for (const proxy of proxies) proxy.down()
    const same = batch(entry({ message: 'same' }), entry({ message: 'same too' }))
    const answers = [
      await one.post('/api/v1/logs/batch', same, marked('same')),
      await two.post('/api/v1/logs/batch', same, marked('same')),
      await one.post('/api/v1/logs/batch', batch(entry({ message: 'mine' })), marked('differs')),
      await two.post('/api/v1/logs/batch', batch(entry({ message: 'yours' })), marked('differs')),
    ]
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([202]))
    for (const proxy of proxies) proxy.up()
    await one.settled()
    await two.settled()
    const stored = (await database.sql<{ message: string }[]>`select message from logs`).map(row => row.message).sort()
    assert.equal(stored.length, 3)
    assert.deepEqual(
      stored.filter(message => message.startsWith('same')),
      ['same', 'same too'],
    )
    const [sums] = await database.sql<{ accepted: bigint; stored: bigint; duplicates: bigint; quarantined: bigint }[]>`
    select sum(accepted)::int8 as accepted, sum(stored)::int8 as stored, sum(duplicates)::int8 as duplicates,
           sum(quarantined)::int8 as quarantined from purser_logs.ledger`
    assert.deepEqual({ ...sums }, { accepted: 6n, stored: 3n, duplicates: 2n, quarantined: 1n })
    const [conflict] = await database.sql<{ reason: string }[]>`select reason from purser_logs.quarantine`
    assert.equal(conflict?.reason, 'idempotency_conflict')
    // Any replica answers for all.
    const fates = [await receiptOf(two, at(answers, 0)), await receiptOf(one, at(answers, 1))]
    assert.deepEqual(fates.map(({ stored, duplicates }) => [stored, duplicates]).sort(), [
      [0, 2],
      [2, 0],
    ])
  })

  test('a swept key may be used again', async t => {
    const s = await startService(t, { env: { LOG_INGESTION_DEDUPE_WINDOW: '0s' } })
    await s.post('/api/v1/logs/batch', batch(entry({ message: 'a' })), marked('k'))
    await s.settled()
    await s.sql`update purser_logs.idempotency set created_at = now() - interval '25 hours'`
    const { sweepKeys } = await import('../store/idempotency.ts')
    assert.equal(await sweepKeys(s.sql, Date.now() - 24 * 3_600_000), 1)
  })
})

describe('G10: an unmarked resend within DEDUPE_WINDOW is answered like the first and stored once', () => {
  test('an unmarked resend is answered like the first and stored once, also after a restart; other senders are others', async t => {
    const s = await startService(t)
    const body = batch(entry({ message: 'a' }))
    const send = (headers: Record<string, string> = {}) =>
      s.post('/api/v1/logs/batch', body, { 'user-agent': 'npm', ...headers })
    const first = await send()
    const again = await send()
    assert.deepEqual([again.status, await again.text()], [first.status, await first.text()])
    assert.equal(again.headers.get('x-duplicate'), 'true')
    await s.restart()
    assert.equal((await send()).headers.get('x-duplicate'), 'true', 'after a restart')
    const strangers = [
      await send({ 'user-agent': 'curl' }),
      await send({ 'x-api-key': 'acme-write-key' }),
      await send({ 'x-forwarded-for': '192.0.2.7' }),
      await s.post('/api/v1/logs/batch', batch(entry({ message: 'b' })), { 'user-agent': 'npm' }),
    ]
    assert.deepEqual(
      strangers.map(answer => answer.headers.get('x-duplicate')),
      [null, null, null, null],
    )
    await s.settled()
    assert.equal((await messages(s)).length, 5)
    const ledger = await ledgerOf(s)
    assert.deepEqual([ledger.totals.stored, ledger.totals.present, ledger.difference], ['4', '4', '0'])
  })

  test('two hello by curl are two entries: without a time of its own an entry is never taken for a resend', async t => {
    const s = await startService(t)
    for (let i = 0; i < 2; i++)
      assert.equal((await s.post('/api/v1/logs/ndjson', 'hello')).headers.get('x-duplicate'), null)
    await s.settled()
    assert.deepEqual(await messages(s), ['hello', 'hello'])
  })

  test('DEDUPE_WINDOW=0 turns it off', async t => {
    const s = await startService(t, { env: { LOG_INGESTION_DEDUPE_WINDOW: '0s' } })
    const body = batch(entry({ message: 'a' }))
    for (let i = 0; i < 2; i++)
      assert.equal((await s.post('/api/v1/logs/batch', body)).headers.get('x-duplicate'), null)
  })

  test('each of key, route, client address, user agent and body makes it another request; a body packed otherwise does not', async t => {
    const s = await startService(t, { env: { LOG_INGESTION_API_KEYS: `${writeKey},other-write-key` } })
    const body = batch(entry({ message: 'a' }))
    const send = (
      headers: Record<string, string> = {},
      path = '/api/v1/logs/batch',
      bytes: string | Uint8Array<ArrayBuffer> = body,
    ) => s.post(path, bytes, { 'user-agent': 'npm', ...headers })
    const isResend = async (answer: Promise<Response>) => (await answer).headers.get('x-duplicate') === 'true'
    assert.equal(await isResend(send()), false)
    assert.equal(await isResend(send({ 'content-encoding': 'gzip' }, undefined, Uint8Array.from(gzipSync(body)))), true)
    assert.equal(await isResend(send({}, '/api/v1/logs/batch?x=1')), false)
    assert.equal(await isResend(send({ 'x-api-key': 'other-write-key' })), false)
    assert.equal(await isResend(send({ 'user-agent': 'ruby' })), false)
    assert.equal(await isResend(send({ 'x-forwarded-for': '192.0.2.7' })), false)
    assert.equal(await isResend(send({}, undefined, batch(entry({ message: 'b' })))), false)
    await s.settled()
    assert.equal((await messages(s)).length, 6)
  })

  test('after the window it is another entry', async t => {
    const clock = shiftedClock()
    const s = await startService(t, { base: testBase(t, { clock }), env: { LOG_INGESTION_DEDUPE_WINDOW: '10m' } })
    const body = batch(entry({ message: 'a' }))
    const isResend = async () => (await s.post('/api/v1/logs/batch', body)).headers.get('x-duplicate') === 'true'
    assert.equal(await isResend(), false)
    clock.advance(9 * 60_000)
    assert.equal(await isResend(), true)
    clock.advance(60_001)
    assert.equal(await isResend(), false)
  })

  test('kill -9 between the disk and the answer: the resend is known', async t => {
    const database = await testDatabase(t)
    const dir = await mkdtemp(join(tmpdir(), 'purser-resend-'))
    const env = {
      LOG_INGESTION_SERVER_HOST: '127.0.0.1',
      LOG_INGESTION_SERVER_PORT: '0',
      LOG_INGESTION_DATA_DIR: dir,
      LOG_INGESTION_DATABASE_URL: database.url,
      LOG_INGESTION_API_KEYS: writeKey,
      LOG_INGESTION_SELF_LOGS: 'false',
    }
    const send = (url: string, body: string, headers: Record<string, string> = {}) =>
      fetch(`${url}/api/v1/logs/batch`, { method: 'POST', body, headers: { 'x-api-key': writeKey, ...headers } })
    const first = startProcess(t, { env })
    t.after(() => rm(dir, { recursive: true, force: true }))
    const url = await first.url
    const body = batch(entry({ message: 'in doubt' }))
    assert.equal((await send(url, batch(entry({ message: 'before' })))).status, 202)
    // Its sender waits for the commit, which a trigger holds up: on the disk, and nobody knows.
    await database.sql`create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return null; end $$`
    await database.sql`create trigger slow before insert on logs for each statement execute function slow()`
    const unheard = send(url, body, { 'x-ack': 'stored' }).catch(() => 'cut')
    await pollUntil(async () => /journal_pending_rows [1-9]/.test(await (await fetch(`${url}/metrics`)).text()), {
      what: 'the entry to be on the disk',
    })
    first.process.kill('SIGKILL')
    await first.exited
    assert.equal(await unheard, 'cut')
    await database.sql`drop trigger slow on logs`
    await database.sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'log-ingestion writer'
                       and datname = current_database()`
    const second = startProcess(t, { env })
    const again = await send(await second.url, body)
    assert.deepEqual([again.status, again.headers.get('x-duplicate')], [202, 'true'])
    await pollUntil(async () => (await messages(database)).length === 2, { what: 'both to be stored' })
    assert.deepEqual(await messages(database), ['before', 'in doubt'])
  })

  test('a million are remembered and no more; the oldest leave first and are counted', () => {
    let evicted = 0
    const remembered = createRemembered({ keepMs: 60_000, max: dedupeMax, onEvicted: count => (evicted += count) })
    const id = (n: number) => {
      const bytes = Buffer.alloc(16)
      bytes.writeUInt32LE(Math.imul(n, 2_654_435_761) >>> 0, 0)
      bytes.writeUInt32LE(n, 4)
      return bytes
    }
    const place = { segment: 's', from: 0, to: 1, rows: 1, receivedUs: 0n, body: Buffer.alloc(16) }
    for (let n = 0; n < dedupeMax + 10; n++) remembered.add(id(n), place, 0)
    assert.deepEqual([dedupeMax, remembered.size, evicted], [1_000_000, 1_000_000, 10])
    assert.equal(remembered.find(id(9), 0), undefined)
    assert.ok(remembered.find(id(10), 0))
  })

  test('with Redis, whichever replica it comes to; without it, each knows its own', { skip: whyNoRedis }, async t => {
    const redis = await redisServer(t)
    const database = await testDatabase(t)
    const env = { ...shared, REDIS_URL: redis.url }
    const one = await startService(t, { databaseUrl: database.url, env })
    const two = await startService(t, { databaseUrl: database.url, env })
    const both = [one, two] as const
    for (const s of both)
      await pollUntil(async () => (await (await fetch(`${s.url}/health`)).text()).includes('"healthy"'), {
        what: 'Redis to be up',
      })
    const body = batch(entry({ message: 'once' }))
    const first = await one.post('/api/v1/logs/batch', body)
    const elsewhere = await two.post('/api/v1/logs/batch', body, { 'x-ack': 'stored' })
    assert.deepEqual([elsewhere.status, await elsewhere.text()], [first.status, await first.text()])
    assert.deepEqual(
      ['x-duplicate', 'x-receipt', 'x-ack'].map(name => elsewhere.headers.get(name)),
      ['true', first.headers.get('x-receipt'), 'stored'],
    )
    // At the same time.
    const race = batch(entry({ message: 'race' }))
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, i) => at(both, i % 2).post('/api/v1/logs/batch', race)),
    )
    assert.equal(answers.filter(answer => answer.headers.get('x-duplicate') === null).length, 1)
    // Refused by one is not taken by it.
    const refused = batch(entry({ message: '' }))
    for (const s of both) assert.equal((await s.post('/api/v1/logs/batch', refused)).headers.get('x-duplicate'), null)
    await redis.kill()
    const alone = batch(entry({ message: 'alone' }))
    for (const s of both) assert.equal((await s.post('/api/v1/logs/batch', alone)).headers.get('x-duplicate'), null)
    for (const s of both) assert.equal((await s.post('/api/v1/logs/batch', alone)).headers.get('x-duplicate'), 'true')
    for (const s of both) await s.settled()
    assert.deepEqual((await messages(database)).sort(), ['alone', 'alone', 'once', 'race'])
  })

  for (const order of ['the other stores it first', 'the dead one comes back first', 'both live'] as const)
    test(`a replica that has it on its disk and did not tell Redis: sent again to another one it is stored once; ${order}`, {
      skip: whyNoRedis,
    }, async t => {
      const redis = await redisServer(t)
      const forgetful = await forgetfulRedis(t, redis, said => /resend:/.test(said) && !said.includes('claimed '))
      const database = await testDatabase(t)
      const proxies = [await tcpProxy(t, database.url), await tcpProxy(t, database.url)] as const
      const dir = await mkdtemp(join(tmpdir(), 'purser-resend-'))
      t.after(() => rm(dir, { recursive: true, force: true }))
      const env = {
        ...shared,
        LOG_INGESTION_SERVER_HOST: '127.0.0.1',
        LOG_INGESTION_SERVER_PORT: '0',
        LOG_INGESTION_DATA_DIR: dir,
        LOG_INGESTION_DATABASE_URL: proxies[0].url,
        LOG_INGESTION_API_KEYS: writeKey,
        LOG_INGESTION_SELF_LOGS: 'false',
        LOG_INGESTION_BATCH_FLUSH_INTERVAL: '20ms',
        REDIS_URL: forgetful.url,
      }
      const first = startProcess(t, { env })
      const url = await first.url
      const other = await startService(t, { databaseUrl: proxies[1].url, env: { ...shared, REDIS_URL: redis.url } })
      for (const one of [url, other.url])
        await pollUntil(async () => (await (await fetch(`${one}/health`)).text()).includes('"healthy"'), {
          what: 'Redis to be up',
        })
      const body = batch(entry({ message: 'once' }), entry({ message: 'and once' }))
      const headers = { 'x-api-key': writeKey, 'user-agent': 'sender' }
      const send = (to: string) => fetch(`${to}/api/v1/logs/batch`, { method: 'POST', body, headers })
      if (order !== 'both live') for (const proxy of proxies) proxy.down()
      await send(url)
      assert.equal(forgetful.forgotten, 1, 'on its disk, and Redis has not heard of it')
      if (order !== 'both live') {
        first.process.kill('SIGKILL')
        await first.exited
      }
      assert.equal((await send(other.url)).status, 202)
      const countOf = async (what: 'stored' | 'duplicates') => {
        const [row] = await database.sql<{ count: bigint }[]>`
          select coalesce(sum(${database.sql(what)}), 0)::int8 as count from purser_logs.ledger`
        return row?.count
      }
      const isStored = () => countOf('stored').then(count => count === 2n)
      if (order === 'the other stores it first') {
        proxies[1].up()
        await pollUntil(isStored, { what: 'the resend to be stored' })
      }
      proxies[0].up()
      if (order !== 'both live') await startProcess(t, { env: { ...env, REDIS_URL: redis.url } }).url
      await pollUntil(isStored, { what: 'the first to be stored' })
      proxies[1].up()
      await pollUntil(() => countOf('duplicates').then(count => count === 2n), { what: 'the second to be a duplicate' })
      assert.deepEqual((await messages(database)).sort(), ['and once', 'once'])
      // Accepted by one replica twice, out of the window, it is two requests.
      assert.equal(await countOf('stored'), 2n)
    })
})

describe('G8: a sender chooses what is true when it hears, and its receipt tells the rest', () => {
  test('X-Ack: stored waits for the commit, or says disk when the time is up; receipts tell the rest to whom they belong', async t => {
    const database = await testDatabase(t)
    const proxy = await tcpProxy(t, database.url)
    const s = await startService(t, { databaseUrl: proxy.url, env: shared })
    const stored = await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: 'a' }) }), { 'x-ack': 'stored' })
    assert.deepEqual([stored.status, stored.headers.get('x-ack')], [202, 'stored'])
    assert.deepEqual(await messages(database), ['a'], 'it is there when the sender hears of it')
    const { id, received_at, ...counts } = await receiptOf(s, stored)
    assert.equal(id, stored.headers.get('x-receipt'))
    assert.ok(Math.abs(Date.parse(received_at) - Date.now()) < 600_000)
    assert.deepEqual(counts, { accepted: 1, pending: 0, stored: 1, quarantined: 0, duplicates: 0, state: 'stored' })

    proxy.down()
    const late = await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: 'b' }) }), {
      'x-ack': 'stored',
      'x-ack-timeout': '50ms',
    })
    assert.deepEqual(
      [late.status, await late.text(), late.headers.get('x-ack')],
      [202, '{"message":"Log accepted"}', 'disk'],
    )
    proxy.up()
    await s.settled()
    assert.equal((await receiptOf(s, late)).state, 'stored')

    for (const [name, value] of [
      ['x-ack', 'memory'],
      ['x-ack-timeout', '61s'],
      ['x-ack-timeout', '5'],
    ] as const) {
      const refused = await s.post('/api/v1/logs', JSON.stringify({ log: entry() }), {
        'x-ack': 'stored',
        [name]: value,
      })
      assert.equal(refused.status, 400, `${name}: ${value}`)
    }
    const foreign = await s.get(`/api/v1/receipts/${stored.headers.get('x-receipt')}`, {
      'x-api-key': 'acme-admin-key',
    })
    assert.equal(foreign.status, 404)
    const forged = `${stored.headers.get('x-receipt')?.slice(0, -2)}AA`
    assert.equal((await s.get(`/api/v1/receipts/${forged}`)).status, 404)
  })

  test('the wait is 30 s unless said otherwise, 60 s at most', () => {
    assert.deepEqual(ackLevelOf({}), { isStored: false, timeoutMs: 0 })
    assert.deepEqual(ackLevelOf({ 'x-ack': 'stored' }), { isStored: true, timeoutMs: 30_000 })
    assert.deepEqual(ackLevelOf({ 'x-ack': 'stored', 'x-ack-timeout': '1m' }), { isStored: true, timeoutMs: 60_000 })
    assert.throws(() => ackLevelOf({ 'x-ack': 'stored', 'x-ack-timeout': '60001ms' }), /up to 1m0s/)
  })

  test('a resend of what an earlier life stored is stored already', async t => {
    const s = await startService(t)
    const body = batch(entry({ message: 'a' }))
    await s.post('/api/v1/logs/batch', body)
    await s.settled()
    await s.restart()
    const again = await s.post('/api/v1/logs/batch', body, { 'x-ack': 'stored', 'x-ack-timeout': '20s' })
    assert.deepEqual([again.headers.get('x-duplicate'), again.headers.get('x-ack')], ['true', 'stored'])
  })

  test('receipts: pending, then what became of each row; in any replica that shares the secret', async t => {
    const database = await testDatabase(t)
    const s = await startService(t, { databaseUrl: database.url, env: shared })
    await s.settled()
    await database.sql`alter table logs add constraint no_poison check (message <> 'poison')`
    await database.sql`create function refuse() returns trigger language plpgsql as $$ begin raise insufficient_privilege; end $$`
    await database.sql`create trigger refuse before insert on logs for each row execute function refuse()`
    const sent = await s.post(
      '/api/v1/logs/batch',
      batch(entry(), entry({ message: 'poison' }), entry({ message: 'c' })),
    )
    const waiting = await receiptOf(s, sent)
    assert.deepEqual([waiting.accepted, waiting.pending, waiting.stored, waiting.state], [3, 3, 0, 'pending'])
    await database.sql`drop trigger refuse on logs`
    await s.settled()
    const other = await startService(t, { databaseUrl: database.url, env: shared })
    await other.settled()
    for (const replica of [s, other]) {
      const { accepted, pending, stored, quarantined, duplicates, state } = await receiptOf(replica, sent)
      assert.deepEqual([accepted, pending, stored, quarantined, duplicates, state], [3, 0, 2, 1, 0, 'settled'])
    }
  })
})

function at<T>(list: readonly T[], index: number): T {
  const item = list[index]
  if (item === undefined) throw new Error(`nothing at ${index}`)
  return item
}
