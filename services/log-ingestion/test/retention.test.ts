// How long entries are kept: by rules, over HTTP, on a real database; on TimescaleDB where the server can load it.
//
// TimescaleDB is in no Debian archive: where it is missing its tests say so and are skipped. PURSER_TEST_POSTGRES names a
// folder of servers that have it.

import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { openSql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { RetentionAnswer } from '../api.ts'
import { hasTimescale, startDebianPostgres } from './debian-postgres.ts'
import { shiftedClock } from './shifted-clock.ts'
import { adminKey, batch, entry, startService, type TestService } from './start.ts'

const skip = hasTimescale ? false : 'TIMESCALEDB IS NOT INSTALLED HERE: hypertables were not tested'
const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** Of one wait; a loaded machine needs more than the usual. */
const timeoutMs = 60_000
const ago = (ms: number, now = Date.now()) => new Date(now - ms).toISOString()

async function call<T = Record<string, unknown>>(
  service: TestService,
  method: string,
  path: string,
  body?: unknown,
  key = adminKey,
): Promise<{ status: number; body: T }> {
  const response = await fetch(service.url + path, {
    method,
    headers: { 'x-api-key': key, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, body: (await response.json()) as T }
}

async function messages(service: TestService, q: string, key = adminKey): Promise<string[]> {
  const path = `/api/v1/logs/search?q=${encodeURIComponent(q)}&from=-90d&to=now%2B1h&limit=1000&order=asc`
  const { body } = await call<{ logs: { message: string }[] }>(service, 'GET', path, undefined, key)
  return body.logs.map(log => log.message)
}

/** What is on disk of either storage, seen or not. */
async function storedRows({ sql }: TestService): Promise<number> {
  const [row] = await sql<{ rows: bigint }[]>`
    select (select count(*) from public.logs) + (select coalesce(sum(rows), 0) from purser_logs.blocks)::int8 as rows`
  return Number(row?.rows)
}

describe('G41: the most specific rule wins, what has expired is invisible at once and gone within a day, whole days first', () => {
  for (const storage of ['rows', 'columnar'])
    test(`the most specific retention rule wins; expired entries are invisible at once and then gone, others stay: ${storage}`, async t => {
      const service = await startService(t, { env: { LOG_INGESTION_RETENTION: '6d', LOG_INGESTION_STORAGE: storage } })
      const kept = ['old audit', 'new debug', 'yesterday']
      await service.post(
        '/api/v1/logs/batch',
        batch(
          entry({ timestamp: ago(6.5 * dayMs), message: 'over six days' }),
          entry({ timestamp: ago(6.5 * dayMs), service: 'audit', message: 'old audit' }),
          entry({ timestamp: ago(6.5 * dayMs), service: 'audit', level: 'DEBUG', message: 'old audit debug' }),
          entry({ timestamp: ago(2 * hourMs), level: 'DEBUG', message: 'old debug' }),
          entry({ timestamp: ago(60_000), level: 'DEBUG', message: 'new debug' }),
          entry({ timestamp: ago(dayMs), message: 'yesterday' }),
        ),
      )
      await service.post(
        '/api/v1/logs/batch',
        batch(entry({ timestamp: ago(5 * dayMs), level: 'DEBUG', message: 'of acme' })),
        {
          'x-api-key': 'acme-write-key',
        },
      )
      await service.settled()
      for (const rule of [
        { service: 'audit', keep: 'forever' },
        { level: 'debug', keep: '1h' },
        { service: 'audit', level: 'DEBUG', keep: '2h' },
      ])
        assert.equal((await call(service, 'POST', '/api/v1/retention', rule)).status, 201)
      const listed = await call<RetentionAnswer>(service, 'GET', '/api/v1/retention')
      assert.deepEqual([listed.body.default_keep, listed.body.retention.length], ['6d', 3])
      assert.deepEqual((await messages(service, 'service:*')).sort(), [...kept].sort(), 'invisible from the answer on')
      await pollUntil(async () => (await storedRows(service)) === 4, { timeoutMs, what: 'expired entries to be gone' })
      assert.deepEqual((await messages(service, 'service:*')).sort(), [...kept].sort())
      assert.deepEqual(await messages(service, 'service:*', 'acme-admin-key'), ['of acme'])
      const [counted] = await service.sql<{ expired: bigint; total: bigint }[]>`
    select (select sum(expired)::int8 from purser_logs.ledger) as expired, (select sum(rows)::int8 from purser_logs.totals) as total`
      assert.deepEqual(counted, { expired: 3n, total: 4n })

      assert.match(String((await call(service, 'POST', '/api/v1/retention', { keep: '5' })).body.detail), /30s, 5m/)
      assert.match(String((await call(service, 'POST', '/api/v1/retention', { keep: '0s' })).body.detail), /from 1m0s/)
    })

  test('the kept journal forgets what has expired within a day, what is kept longer not before', async t => {
    const clock = shiftedClock()
    const s = await startService(t, { base: testBase(t, { clock }), env: { LOG_INGESTION_RETENTION: '30d' } })
    const journalText = async () => {
      const files = await readdir(join(s.dir, 'journal'), { withFileTypes: true })
      const texts = files
        .filter(file => file.isFile())
        .map(file => readFile(join(file.parentPath, file.name), 'latin1').catch(() => ''))
      return (await Promise.all(texts)).join('')
    }
    assert.equal((await call(s, 'POST', '/api/v1/retention', { level: 'debug', keep: '3d' })).status, 201)
    const send = async (message: string, o: { level?: string; agoMs?: number } = {}) =>
      await s.post(
        '/api/v1/logs/batch',
        batch(entry({ message, level: o.level ?? 'INFO', timestamp: ago(o.agoMs ?? 0, clock.now()) })),
      )
    // Each life of a journal has segments of its own.
    await send('kept for long')
    await s.settled()
    await s.restart()
    await send('old when it came', { level: 'DEBUG', agoMs: 2.5 * dayMs })
    await send('its neighbour')
    await s.settled()
    clock.advance(13 * hourMs)
    await s.restart()
    await send('young', { level: 'DEBUG' })
    await s.settled()
    // It expired an hour ago; half a day is left to it.
    await pollUntil(async () => (await messages(s, '"old when"')).length === 0, { what: 'it to be invisible' })
    assert.match(await journalText(), /old when it came/)
    clock.advance(12 * hourMs)
    await s.restart()
    await pollUntil(async () => !/old when it came|its neighbour|kept for long/.test(await journalText()), {
      timeoutMs,
      what: 'the journal to forget',
    })
    assert.match(await journalText(), /young/)
    assert.deepEqual(await messages(s, 'service:shop -old'), ['kept for long', 'its neighbour', 'young'])
  })

  test('a rule of a tenant goes before the default, and speaks of that tenant alone', async t => {
    const service = await startService(t, { env: { LOG_INGESTION_RETENTION: '6d' } })
    const sent = batch(entry({ timestamp: ago(2 * dayMs), message: 'two days old' }), entry({ message: 'new' }))
    await service.post('/api/v1/logs/batch', sent)
    await service.post('/api/v1/logs/batch', sent, { 'x-api-key': 'acme-write-key' })
    await service.settled()
    await call(service, 'POST', '/api/v1/retention', { keep: '1d' }, 'acme-admin-key')
    assert.deepEqual(await messages(service, 'service:*', 'acme-admin-key'), ['new'])
    assert.deepEqual(await messages(service, 'service:*'), ['two days old', 'new'])
    await pollUntil(async () => (await storedRows(service)) === 3, { timeoutMs, what: 'the expired entry to be gone' })
  })

  test('days that nobody keeps go as whole partitions; until then what must be gone within a day goes by itself', async t => {
    const clock = shiftedClock()
    const service = await startService(t, { base: testBase(t, { clock }), env: { LOG_INGESTION_RETENTION: '8d' } })
    const midnight = Math.floor(clock.now() / dayMs - 5) * dayMs
    const minuteMs = 60_000
    const at = (ms: number, message: string) => entry({ timestamp: new Date(midnight + ms).toISOString(), message })
    const sent = [at(5 * minuteMs, 'early'), at(23 * hourMs + 50 * minuteMs, 'late'), at(4 * dayMs, 'younger')]
    await service.post('/api/v1/logs/batch', batch(...sent))
    await service.settled()
    const goTo = (ms: number) => clock.advance(midnight + 8 * dayMs + ms - clock.now())
    const name = `logs_p${new Date(midnight).toISOString().slice(0, 10).replaceAll('-', '')}`
    const hasPartition = async () => {
      const [row] = await service.sql<{ found: boolean }[]>`select to_regclass(${name}) is not null as found`
      return row?.found
    }
    assert.deepEqual(await messages(service, 'service:*'), ['early', 'late', 'younger'])
    goTo(4 * minuteMs)
    assert.deepEqual(await messages(service, 'service:*'), ['early', 'late', 'younger'], 'never before')
    goTo(6 * minuteMs)
    assert.deepEqual(await messages(service, 'service:*'), ['late', 'younger'], 'and not a moment longer')
    goTo(23 * hourMs + 40 * minuteMs)
    await pollUntil(async () => (await storedRows(service)) === 2, { timeoutMs, what: 'the early entry to be gone' })
    assert.ok(await hasPartition())
    goTo(dayMs + minuteMs)
    assert.deepEqual(await messages(service, 'service:*'), ['younger'])
    // The next round is due ten minutes after the last one.
    goTo(dayMs + 15 * minuteMs)
    await pollUntil(async () => !(await hasPartition()), { timeoutMs, what: 'the partition to be dropped' })
    const [counted] = await service.sql<{ expired: bigint; left: bigint }[]>`
    select (select sum(expired)::int8 from purser_logs.ledger) as expired, (select count(*) from public.logs) as left`
    assert.deepEqual(counted, { expired: 2n, left: 1n })
  })

  test('a new table is a hypertable of one-day chunks, compressed where the licence has it; chunks go whole, and counted', {
    skip,
  }, async t => {
    const s = await startOnTimescale(t, { env: { LOG_INGESTION_RETENTION: '8d' } })
    await pollUntil(async () => (await s.policies()).length === 2, { timeoutMs, what: 'the policy' })
    assert.deepEqual(await s.policies(), ['policy_compression 2 days', 'policy_retention 192:00:00'])
    await s.send({ days: 5, message: 'joe old' }, { days: 5, message: 'ann old' }, { days: 1, message: 'joe new' })
    assert.equal((await s.chunks()).length, 2)
    await s.sql`select compress_chunk(c) from show_chunks('public.logs', older_than => interval '2 days') c`
    assert.deepEqual(
      (await s.chunks()).map(chunk => chunk.isCompressed),
      [true, false],
    )
    // Late entries, another tenant's too, and a deletion go into and out of what is compressed.
    await s.send({ days: 5, message: 'joe late' })
    assert.deepEqual((await s.found()).sort(), ['ann old', 'joe late', 'joe new', 'joe old'])
    s.clock.advance(1)
    const range = { q: 'user:joe', from: ago(6 * dayMs, s.clock.now()), to: ago(2 * dayMs, s.clock.now()) }
    const started = await s.call('POST', '/api/v1/logs/delete', { ...range, reason: 'test' })
    assert.equal(started.status, 202)
    s.clock.advance(60_000)
    await pollUntil(async () => (await s.call('GET', `/api/v1/deletions/${started.body.id}`)).body.state === 'done', {
      timeoutMs,
      what: 'the deletion',
    })
    const [left] = await s.sql<{ rows: string[] }[]>`select array_agg(message order by message) as rows from logs`
    assert.deepEqual(left?.rows, ['ann old', 'joe new'])

    s.clock.advance(4.5 * dayMs)
    await pollUntil(async () => (await s.chunks()).length === 1, { timeoutMs, what: 'the chunk to be dropped' })
    assert.deepEqual(await s.found(), ['joe new'])
    assert.deepEqual(await s.expired(), { expired: 1n, left: 1n })
  })

  test('TimescaleDB’s policy is at the longest rule, counted when it was quicker, and gone when something is kept for ever', {
    skip,
  }, async t => {
    const s = await startOnTimescale(t, { env: { LOG_INGESTION_RETENTION: '10d' } })
    const isAt = async (after: string | undefined) => {
      await pollUntil(
        async () => (await s.policies()).find(policy => policy.startsWith('policy_retention')) === after,
        {
          timeoutMs,
          what: `the policy at ${after}`,
        },
      )
    }
    await isAt('policy_retention 240:00:00')
    // One that is expired already, so that the policy has something to drop before we look again.
    await s.send({ days: 20, message: 'old' }, { days: 1, message: 'new' })
    assert.deepEqual(await s.found(), ['new'])
    const [policy] = await s.sql<{ id: number }[]>`
    select job_id as id from timescaledb_information.jobs where proc_name = 'policy_retention'`
    await s.sql.unsafe(`call run_job(${policy?.id})`)
    assert.equal((await s.chunks()).length, 1)
    const rule = await s.call('POST', '/api/v1/retention', { service: 'audit', keep: '30d' })
    await isAt('policy_retention 720:00:00')
    await pollUntil(async () => (await s.expired()).left === 1n, { timeoutMs, what: 'what it dropped to be counted' })
    assert.deepEqual(await s.expired(), { expired: 1n, left: 1n })
    await s.call('POST', '/api/v1/retention', { service: 'law', keep: 'forever' })
    await isAt(undefined)
    assert.equal(rule.status, 201)
    // Out of compressed chunks into blocks.
    await s.send({ days: 3, message: 'packed' })
    await s.sql`select compress_chunk(c, if_not_compressed => true) from show_chunks('public.logs') c`
    const before = await s.found()
    while ((await s.call('POST', '/api/v1/storage/migrate', { to: 'columnar' })).body.moved !== null);
    assert.deepEqual(await s.found(), before)
    assert.deepEqual(before, ['packed', 'new'])
    const [moved] = await s.sql<{ left: bigint; rows: bigint }[]>`
      select (select count(*) from logs) as left, (select sum(rows)::int8 from purser_logs.blocks) as rows`
    assert.deepEqual({ ...moved }, { left: 0n, rows: 2n })
  })

  test('no policy of TimescaleDB under its Apache licence, on a table found, or over one that somebody set', {
    skip,
  }, async t => {
    const apache = await startOnTimescale(t, { licence: 'apache', env: { LOG_INGESTION_RETENTION: '8d' } })
    await apache.send({ days: 12, message: 'old' }, { days: 1, message: 'new' })
    await apache.call('POST', '/api/v1/retention', { service: 'x', keep: '1d' })
    await pollUntil(async () => (await apache.chunks()).length === 1, { timeoutMs, what: 'the chunk to be dropped' })
    assert.deepEqual(await apache.policies(), [])
    assert.deepEqual(await apache.expired(), { expired: 1n, left: 1n })

    const found = await startOnTimescale(t, {
      env: { LOG_INGESTION_RETENTION: '8d' },
      before: `create extension timescaledb;
      create table logs (id bigserial, timestamp timestamptz not null, service text, level text, message text,
                         metadata jsonb, created_at timestamptz default now());
      select create_hypertable('logs', 'timestamp', chunk_time_interval => interval '1 day');
      select add_retention_policy('logs', interval '99 days')`,
    })
    await found.send({ days: 12, message: 'old' }, { days: 1, message: 'new' })
    await found.call('POST', '/api/v1/retention', { service: 'x', keep: '1d' })
    await pollUntil(async () => (await found.chunks()).length === 1, { timeoutMs, what: 'the chunk to be dropped' })
    assert.deepEqual(await found.policies(), ['policy_retention 99 days'])
  })
})

async function startOnTimescale(
  t: TestContext,
  o: { licence?: 'timescale' | 'apache'; env?: Record<string, string>; before?: string } = {},
) {
  const server = await startDebianPostgres(t, { timescale: o.licence ?? 'timescale' })
  const clock = shiftedClock()
  const base = testBase(t, { clock })
  const sql = openSql({ url: server.url('postgres'), max: 2, applicationName: 'test', log: base.log })
  t.after(() => sql.end({ timeout: 1 }))
  if (o.before) await sql.unsafe(o.before)
  const env = { LOG_INGESTION_STORAGE: 'rows', LOG_INGESTION_TIMESTAMP_PAST_MAX: '2000h', ...o.env }
  const service = await startService(t, { databaseUrl: server.url('postgres'), base, env })
  const call = async (method: string, path: string, body?: unknown) => {
    const response = await fetch(service.url + path, {
      method,
      headers: { 'x-api-key': adminKey, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  const send = async (...sent: { days: number; message: string }[]) => {
    const entries = sent.map(({ days, message }) =>
      entry({ timestamp: ago(days * dayMs, clock.now()), message, metadata: { user: message.split(' ')[0] } }),
    )
    assert.equal((await service.post('/api/v1/logs/batch', batch(...entries))).status, 202)
    await service.settled()
  }
  const found = async (q = 'service:*') => {
    const { body } = await call('GET', `/api/v1/logs/search?q=${q}&from=-90d&to=now%2B1h&limit=1000&order=asc`)
    return (body.logs as { message: string }[]).map(log => log.message)
  }
  const chunks = async () =>
    await sql<{ day: string; isCompressed: boolean }[]>`
      select (range_start at time zone 'UTC')::date::text as day, is_compressed as "isCompressed"
      from timescaledb_information.chunks where hypertable_name = 'logs' order by 1`
  const policies = async () =>
    (
      await sql<{ name: string; after: string }[]>`
        select proc_name as name, coalesce(config->>'drop_after', config->>'compress_after')::interval::text as after
        from timescaledb_information.jobs where hypertable_name = 'logs' order by 1`
    ).map(({ name, after }) => `${name} ${after}`)
  const expired = async () => {
    const [row] = await sql<{ expired: bigint; left: bigint }[]>`
      select (select coalesce(sum(expired), 0)::int8 from purser_logs.ledger) as expired,
             (select coalesce(sum(rows), 0)::int8 from purser_logs.totals) as left`
    return { ...row }
  }
  return { service, sql, clock, call, send, found, chunks, policies, expired }
}
