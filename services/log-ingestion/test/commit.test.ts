// How entries get from the journal into the database: when, how many at once, all or nothing, in which order.

import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { Sql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { ReceiptAnswer } from '../api.ts'
import { shiftedClock } from './shifted-clock.ts'
import { batch, entry, startService, type TestService } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

const sinks = ['rows', 'columnar'] as const
type SinkName = (typeof sinks)[number]
const tableOf = { rows: 'public.logs', columnar: 'purser_logs.blocks' } as const

/** Replicas have keys in common by it. */
const shared = { PURSER_SECRET: 'one secret for all replicas of a test' }

const entries = (count: number, name: string) =>
  Array.from({ length: count }, (_, i) => entry({ message: `${name} ${String(i).padStart(5, '0')}` }))

async function send(s: TestService, body: string, headers: Record<string, string> = {}): Promise<Response> {
  const response = await s.post('/api/v1/logs/batch', body, headers)
  assert.equal(response.status, 202, await response.clone().text())
  return response
}

const pendingOf = async (s: TestService) =>
  ((await (await s.get('/admin/health')).json()) as { batcher: { current_batch: number } }).batcher.current_batch

async function startWith(
  t: TestContext,
  sink: SinkName,
  o: { env?: Record<string, string>; clock?: ReturnType<typeof shiftedClock> } = {},
) {
  const database = await testDatabase(t)
  const proxy = await tcpProxy(t, database.url)
  const s = await startService(t, {
    databaseUrl: proxy.url,
    env: { LOG_INGESTION_STORAGE: sink, ...o.env },
    ...(o.clock ? { base: testBase(t, { clock: o.clock }) } : {}),
  })
  return { s, proxy, sql: database.sql }
}

interface Read {
  id: bigint
  message: string
  created_at: string
}

async function readAll(s: TestService): Promise<Read[]> {
  const text = await (await s.get('/api/v1/logs/export?from=-24h&to=now%2B24h')).text()
  const found = text.split('\n').filter(line => line !== '')
  return found
    .map(line => JSON.parse(line) as Record<'id' | 'message' | 'created_at', string>)
    .map(({ id, message, created_at }) => ({ id: BigInt(id), message, created_at }))
    .sort((a, b) => (a.id < b.id ? -1 : 1))
}

describe('G2: batches by size or age, on two connections, each one transaction; ranges are a set', () => {
  for (const sink of sinks)
    test(`${sink}: a batch begins at BATCH_SIZE rows or BATCH_FLUSH_INTERVAL, whichever comes first`, async t => {
      const clock = shiftedClock()
      const env = { LOG_INGESTION_BATCH_SIZE: '10', LOG_INGESTION_BATCH_FLUSH_INTERVAL: '10m' }
      const { s } = await startWith(t, sink, { clock, env })
      await send(s, batch(...entries(9, 'nine')))
      assert.deepEqual([await pendingOf(s), (await readAll(s)).length], [9, 0])
      await send(s, batch(...entries(1, 'the tenth')))
      await s.settled()
      await send(s, batch(...entries(3, 'three')))
      assert.deepEqual([await pendingOf(s), (await readAll(s)).length], [3, 10])
      clock.advance(10 * 60_000)
      await s.settled()
      assert.equal((await readAll(s)).length, 13)
      const metrics = await (await fetch(`${s.url}/metrics`)).text()
      for (const trigger of ['size', 'age'])
        assert.match(metrics, new RegExp(`flushes_total\\{trigger="${trigger}",result="ok"\\} 1\\n`))
    })

  for (const sink of sinks)
    test(`${sink}: range, Idempotency-Key, entries, ledger, totals and usage come in one transaction or not at all`, async t => {
      const { s, sql } = await startWith(t, sink)
      await sql`create function refuse() returns trigger language plpgsql as $$ begin raise insufficient_privilege; end $$`
      // The last of them to be written.
      await sql`create trigger refuse before insert on purser_logs.usage_hours for each row execute function refuse()`
      await send(s, batch(...entries(5, 'whole')), { 'idempotency-key': 'k' })
      await pollUntil(async () => (await (await fetch(`${s.url}/health`)).text()).includes('degraded'), {
        what: 'the commit to fail',
      })
      const tables = ['commits', 'idempotency', 'ledger', 'totals', 'usage_hours'].map(name => `purser_logs.${name}`)
      const transactions = async () => {
        const found: string[] = []
        for (const table of [...tables, tableOf[sink]])
          found.push(...(await sql.unsafe(`select distinct xmin::text as xmin from ${table}`)).map(row => row.xmin))
        return found
      }
      assert.deepEqual(await transactions(), [])
      await sql`drop trigger refuse on purser_logs.usage_hours`
      await s.settled()
      const found = await transactions()
      assert.deepEqual([found.length, new Set(found).size], [6, 1])
    })

  test('a backlog goes in up to max(BATCH_SIZE, 10 000) at once', async t => {
    const { s, proxy, sql } = await startWith(t, 'rows', { env: { LOG_INGESTION_BATCH_SIZE: '100' } })
    await s.settled()
    proxy.down()
    for (let i = 0; i < 12; i++) await send(s, batch(...entries(2_000, `backlog ${i}`)))
    proxy.up()
    await s.settled()
    const sizes = await sql<{ rows: bigint }[]>`select count(*) as rows from logs group by xmin order by 1 desc`
    const counts = sizes.map(({ rows }) => rows)
    assert.equal(counts[0], 10_000n)
    assert.equal(
      counts.reduce((sum, count) => sum + count, 0n),
      24_000n,
    )
  })

  for (const sink of sinks)
    test(`${sink}: a request that is larger goes in several commits: in order, once, and no receipt is ahead of them`, async t => {
      const env = { LOG_INGESTION_BATCH_SIZE: '100', LOG_INGESTION_DEDUPE_WINDOW: '0s' }
      const { s, sql } = await startWith(t, sink, { env })
      await send(s, batch(...entries(3, 'before')))
      await s.settled()
      // One part is stored; the next one is refused until this life is over.
      await sql`create function refuse() returns trigger language plpgsql as $$ begin
        if (select max(to_off) <> new.from_off or sum(rows) > 10000 from purser_logs.commits) then
          raise insufficient_privilege; end if; return new; end $$`
      await sql`create trigger refuse before insert on purser_logs.commits for each row execute function refuse()`
      const mark = { 'idempotency-key': 'large' }
      const body = batch(...entries(25_000, 'large'))
      const receipt = (await send(s, body, mark)).headers.get('x-receipt')
      await send(s, batch(...entries(5, 'behind')), { 'idempotency-key': 'small' })
      const told = async () => (await (await s.get(`/api/v1/receipts/${receipt}`)).json()) as ReceiptAnswer
      await pollUntil(async () => (await (await fetch(`${s.url}/health`)).text()).includes('degraded'), {
        what: 'the second part to fail',
      })
      await pollUntil(async () => (await told()).stored > 0, { what: 'the first part to be stored' })
      const half = await told()
      assert.deepEqual([half.stored, half.pending, half.state], [10_000, 15_000, 'pending'])
      await s.stop()
      await sql`drop trigger refuse on purser_logs.commits`
      // Another BATCH_SIZE cuts elsewhere.
      await s.restart({ LOG_INGESTION_BATCH_SIZE: '12000' })
      await s.settled()
      const whole = await told()
      assert.deepEqual([whole.stored, whole.pending, whole.state], [25_000, 0, 'stored'])
      const again = await send(s, body, { ...mark, 'x-ack': 'stored' })
      assert.deepEqual([again.headers.get('x-duplicate'), again.headers.get('x-ack')], ['true', 'stored'])
      await s.restart()
      await s.settled()
      await assertExact(s, sql, 25_008)
      assert.deepEqual(
        (await readAll(s)).map(({ message }) => message),
        [...entries(3, 'before'), ...entries(25_000, 'large'), ...entries(5, 'behind')].map(({ message }) => message),
      )
      const sizes = await sql<{ rows: bigint }[]>`select rows from purser_logs.commits order by from_off`
      assert.equal(sizes.length, 5, 'parts are ranges of their own until they are merged')
      assert.ok(sizes.every(({ rows }) => rows <= 12_000n))
      assert.deepEqual(await told(), whole)
    })

  test('refused entries of a part are quarantined by their place in the request; another replica that lost has no part stored', async t => {
    const { s, sql } = await startWith(t, 'rows', { env: shared })
    await s.settled()
    await sql`alter table logs add constraint no_poison check (message <> 'poison')`
    const poisoned = entries(12_000, 'large').map((one, i) =>
      i % 11_000 === 10_500 ? { ...one, message: 'poison' } : one,
    )
    const answer = await send(s, batch(...poisoned))
    await s.settled()
    const told = (await (await s.get(`/api/v1/receipts/${answer.headers.get('x-receipt')}`)).json()) as ReceiptAnswer
    assert.deepEqual([told.stored, told.quarantined, told.pending], [11_999, 1, 0])
    const [found] = await sql<{ position: string; from: bigint }[]>`
      select position, (select min(from_off) from purser_logs.commits where rows = 10000) as from from purser_logs.quarantine`
    assert.match(found?.position ?? '', new RegExp(`:${found?.from}:10500$`))

    const other = await startService(t, { databaseUrl: s.databaseUrl, env: shared })
    const mark = { 'idempotency-key': 'both' }
    const body = batch(...entries(11_000, 'both'))
    // Neither knows of the other before its commit: the tables are locked until both have it in their journals.
    await sql.begin(async tx => {
      await tx`lock table purser_logs.idempotency in access exclusive mode`
      await Promise.all([send(s, body, mark), send(other, body, mark)])
    })
    await Promise.all([s.settled(), other.settled()])
    await sql`alter table logs drop constraint no_poison`
    const [sums] = await sql<{ present: number; duplicates: number }[]>`
      select (select count(*)::int from logs where message like 'both%') as present,
             (select sum(duplicates)::int from purser_logs.ledger) as duplicates`
    assert.deepEqual({ ...sums }, { present: 11_000, duplicates: 11_000 })
  })

  test('a second batch copies its rows while the first commits; a third waits', async t => {
    const { s, sql } = await startWith(t, 'rows', { env: { LOG_INGESTION_BATCH_SIZE: '1' } })
    await send(s, batch(...entries(1, 'first')))
    await s.settled()
    const working = async () => {
      const [row] = await sql<{ count: number }[]>`
        select count(*)::int as count from pg_stat_activity
        where datname = current_database() and application_name = 'log-ingestion writer' and xact_start is not null`
      return row?.count
    }
    await sql.begin(async tx => {
      await tx`lock table purser_logs.ledger in share mode`
      await send(s, batch(...entries(2, 'held up')))
      await pollUntil(async () => (await working()) === 1, { what: 'the first batch to wait for the ledger' })
      await send(s, batch(...entries(2, 'copied')))
      await pollUntil(async () => (await working()) === 2, { what: 'the second batch to be under way' })
      await send(s, batch(...entries(2, 'waiting')))
      assert.equal(await working(), 2)
      const [visible] = await tx<{ count: number }[]>`select count(*)::int as count from logs`
      assert.equal(visible?.count, 1)
    })
    await s.settled()
    assert.deepEqual(
      (await readAll(s)).map(({ message }) => message.replace(/ \d+$/, '')),
      ['first', 'held up', 'held up', 'copied', 'copied', 'waiting', 'waiting'],
    )
  })

  for (const sink of sinks)
    test(`${sink}: what is replayed is what the set does not hold`, async t => {
      const { s, sql } = await startWith(t, sink)
      for (const name of ['a', 'b', 'c']) {
        await send(s, batch(...entries(4, name)))
        await s.settled()
      }
      await s.restart()
      await s.settled()
      assert.equal((await readAll(s)).length, 12, 'nothing came twice')
      // As after a restore: the middle range and what came with it are gone.
      const ranges = await sql<{ from: bigint }[]>`select from_off as from from purser_logs.commits order by 1`
      const middle = ranges[1]?.from ?? 0n
      await sql`delete from purser_logs.commits where from_off = ${middle}`
      if (sink === 'rows') await sql`delete from logs where message like 'b %'`
      else
        await sql`delete from purser_logs.blocks where id = (select id from purser_logs.blocks order by id offset 1 limit 1)`
      for (const table of ['ledger', 'usage_hours', 'totals'])
        await sql.unsafe(
          `update purser_logs.${table} set ${table === 'ledger' ? 'accepted = 8, stored = 8' : 'rows = 8'}`,
        )
      await s.restart()
      await pollUntil(async () => (await readAll(s)).length === 12, { what: 'the range to be replayed' })
      const messages = (await readAll(s)).map(({ message }) => message)
      assert.equal(new Set(messages).size, 12)
    })
})

describe('G3: a COMMIT in doubt is settled by looking for its range, never by guessing', () => {
  for (const sink of sinks)
    test(`${sink}: it reached the server, it did not, it did so late; nobody heard of it`, async t => {
      const { s, proxy, sql } = await startWith(t, sink)
      await send(s, batch(...entries(3, 'before')))
      await s.settled()
      proxy.atCommit(['delivered', 'lost', 'late', 'lost', 'late', 'delivered'])
      for (let i = 0; i < 6; i++) {
        await send(s, batch(...entries(5, `in doubt ${i}`)), i % 2 === 0 ? { 'idempotency-key': `k${i}` } : {})
        await pollUntil(() => proxy.commitsCut > i, { what: 'a COMMIT to pass', everyMs: 5 })
      }
      await s.settled()
      assert.equal(proxy.commitsCut, 6)
      await assertExact(s, sql, 33)
    })

  test('a COMMIT that arrives after the next life of the replica began is waited for', async t => {
    const { s, proxy, sql } = await startWith(t, 'rows')
    await s.settled()
    proxy.atCommit(['late', 'late'])
    await send(s, batch(...entries(5, 'overtaken')))
    await pollUntil(() => proxy.commitsCut === 1, { what: 'the COMMIT to pass', everyMs: 5 })
    await s.restart()
    await s.settled()
    await assertExact(s, sql, 5)
  })

  test('commits are on the disk of the database before they count, whatever its default is', async t => {
    const { s, sql } = await startWith(t, 'rows')
    await s.settled()
    await sql.unsafe(
      `do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$`,
    )
    await sql`create table seen (setting text)`
    await sql`create function note() returns trigger language plpgsql as
      $$ begin insert into public.seen values (current_setting('synchronous_commit')); return null; end $$`
    await sql`create trigger note after insert on purser_logs.commits for each statement execute function note()`
    // New sessions have the new default.
    await s.restart()
    await send(s, batch(...entries(1, 'a')))
    await s.settled()
    const rows = await sql<{ setting: string }[]>`select distinct setting from seen`
    assert.deepEqual(
      rows.map(({ setting }) => setting),
      ['on'],
    )
  })
})

/** Every entry once, and every count the same. */
async function assertExact(s: TestService, sql: Sql, rows: number): Promise<void> {
  const messages = (await readAll(s)).map(({ message }) => message)
  assert.deepEqual([messages.length, new Set(messages).size], [rows, rows])
  const [sums] = await sql<Record<'ledger' | 'ranges' | 'totals' | 'usage', number>[]>`
    select (select sum(stored) from purser_logs.ledger)::int as ledger,
           (select sum(rows) from purser_logs.commits)::int as ranges,
           (select sum(rows) from purser_logs.totals)::int as totals,
           (select sum(rows) from purser_logs.usage_hours)::int as usage`
  assert.deepEqual({ ...sums }, { ledger: rows, ranges: rows, totals: rows, usage: rows })
}

describe('G7: order of acceptance, ids that ascend with it, and the time of acceptance, also after replay', () => {
  for (const sink of sinks)
    test(`${sink}: over batches, lost COMMITs, an outage, a restart and another replica that writes in between`, async t => {
      const { s, proxy, sql } = await startWith(t, sink, { env: { LOG_INGESTION_BATCH_SIZE: '7' } })
      const other = await startService(t, {
        databaseUrl: proxy.url,
        env: { LOG_INGESTION_STORAGE: sink, LOG_INGESTION_BATCH_SIZE: '7' },
      })
      const accepted: { message: string; acceptedAt: string }[] = []
      const accept = async (name: string, count: number) => {
        const sent = entries(count, name)
        const response = await send(s, batch(...sent))
        // The receipt says when.
        const us = Buffer.from((response.headers.get('x-receipt') ?? '').slice(4), 'base64url').readBigUInt64LE(33)
        const acceptedAt = new Date(Number(us / 1_000n)).toISOString()
        accepted.push(...sent.map(({ message }) => ({ message, acceptedAt })))
        await send(other, batch(...entries(3, `other ${name}`)))
      }
      for (let i = 0; i < 5; i++) await accept(`before ${i}`, 5)
      proxy.atCommit(['lost', 'delivered', 'lost'])
      for (let i = 0; i < 5; i++) await accept(`in doubt ${i}`, 5)
      await s.settled()
      proxy.down()
      for (let i = 0; i < 3; i++) await accept(`away ${i}`, 4)
      await s.stop()
      proxy.up()
      await s.restart()
      await s.settled()
      await accept('after', 5)
      await s.settled()
      await other.settled()
      const found = (await readAll(s)).filter(({ message }) => !message.startsWith('other'))
      assert.deepEqual(
        found.map(({ message, created_at }) => ({ message, acceptedAt: new Date(created_at).toISOString() })),
        accepted,
      )
      const [{ last } = { last: 0n }] = await sql<{ last: bigint }[]>`
        select last_value as last from public.logs_id_seq`
      assert.ok(
        found.every(({ id }) => id <= last),
        'ids come from the table’s own sequence',
      )
    })
})
