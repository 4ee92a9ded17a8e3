// What was deleted stays deleted: in the segments that the journal keeps, and when a database comes back from a backup.

import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { Sql } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { systemClock } from '#platform/time'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { DeletionAnswer, LedgerAnswer, SearchAnswer } from '../api.ts'
import { drainJournal } from '../pipeline/drain.ts'
import { shiftedClock } from './shifted-clock.ts'
import { adminKey, batch, entry, startService, type TestService } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

const hourMs = 3_600_000

async function requestDeletion(s: TestService, q: string): Promise<DeletionAnswer> {
  const answer = await s.post('/api/v1/logs/delete', JSON.stringify({ q, from: '-1h', to: 'now', reason: 'a test' }), {
    'x-api-key': adminKey,
    'content-type': 'application/json',
  })
  assert.equal(answer.status, 202)
  return (await answer.json()) as DeletionAnswer
}

async function isDone(s: TestService, id: string): Promise<DeletionAnswer | false> {
  const answer = await s.get(`/api/v1/deletions/${id}`)
  const job = (await answer.json()) as DeletionAnswer
  return answer.status === 200 && job.state === 'done' && job
}

async function found(s: TestService): Promise<string[]> {
  const answer = await s.get('/api/v1/logs/search?limit=1000&order=asc')
  return answer.status === 200 ? ((await answer.json()) as SearchAnswer).logs.map(({ message }) => message) : []
}

/** Every byte that the journal has on the disk. */
async function journalText(s: TestService): Promise<string> {
  const files = await readdir(join(s.dir, 'journal'), { recursive: true, withFileTypes: true })
  const texts = files
    .filter(file => file.isFile())
    .map(file => readFile(join(file.parentPath, file.name), 'latin1').catch(() => ''))
  return (await Promise.all(texts)).join('')
}

/** Tables as a dump of the database would hold them. */
async function backUp(sql: Sql): Promise<() => Promise<true>> {
  const rows = await sql<{ name: string }[]>`
    select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and c.relname <> 'migration'
      and (n.nspname = 'purser_logs' or n.nspname = 'public' and c.relname = 'logs')`
  const names = rows.map(({ name }) => name)
  for (const [i, name] of names.entries()) await sql.unsafe(`create table public.backup_${i} as select * from ${name}`)
  // At once: a service that is running would write its own rows between the old ones and those of the backup.
  const restore = () =>
    sql.begin(async tx => {
      await tx.unsafe(`truncate ${names.join(', ')}`)
      for (const [i, name] of names.entries())
        await tx.unsafe(`insert into ${name} overriding system value select * from public.backup_${i}`)
      return true
    })
  // Again when the service holds one of the tables and waits for another.
  return () => pollUntil(restore, { what: 'the tables to be free' })
}

// They wait more than they work.
describe('G42: what was deleted does not come back with a restored database, and leaves the kept journal within a day', {
  concurrency: true,
}, () => {
  for (const [storage, isLive] of [
    ['rows', true],
    ['columnar', true],
    ['rows', false],
  ] as const)
    test(`${storage}: a backup from before the deletion is restored, ${isLive ? 'under the running service' : 'between two lives'}`, async t => {
      const s = await startService(t, { env: { LOG_INGESTION_STORAGE: storage } })
      await s.post('/api/v1/logs/batch', batch(entry({ message: 'in the backup, secret' }), entry({ message: 'one' })))
      await s.settled()
      const restore = await backUp(s.sql)
      await s.post('/api/v1/logs/batch', batch(entry({ message: 'after it, secret' }), entry({ message: 'two' })))
      await s.settled()
      const { id } = await requestDeletion(s, 'secret')
      await pollUntil(() => isDone(s, id), { what: 'the deletion' })
      await s.post('/api/v1/logs/batch', batch(entry({ message: 'three, secret again' })))
      await s.settled()
      if (!isLive) await s.stop()
      await restore()
      if (!isLive) await s.restart()
      const job = await pollUntil(() => isDone(s, id), { what: 'the deletion to be done again' })
      assert.deepEqual([job.q, job.reason, job.requested_by.slice(0, 4)], ['secret', 'a test', 'env-'])
      const wanted = ['one', 'two', 'three, secret again']
      await pollUntil(
        async () => {
          const all = await found(s)
          // Of the running service only what the backup brought can be seen, and no longer than until it looks.
          if (!isLive) assert.ok(!all.some(message => /^(in the|after it)/.test(message)), all.join())
          return all.length === wanted.length
        },
        { what: 'the missing ranges to be stored again', timeoutMs: 90_000 },
      )
      assert.deepEqual(await found(s), wanted)
      // Of what came back with its range another pass takes care.
      await pollUntil(
        async () => {
          const [row] = await s.sql<{ rows: number }[]>`
              select (select count(*)::int from public.logs) + (select coalesce(sum(rows), 0)::int from purser_logs.blocks) as rows`
          return row?.rows === wanted.length
        },
        { what: 'all of it to be erased' },
      )
      const ledger = (await (await s.get('/api/v1/ledger?present=true')).json()) as LedgerAnswer
      assert.deepEqual([ledger.totals.stored, ledger.totals.present, ledger.difference], ['5', '3', '0'])
    })

  test('what a lost replica accepted before a deletion is deleted when its journal is drained after it', async t => {
    const [one, database] = [await startService(t), await testDatabase(t)]
    const proxy = await tcpProxy(t, database.url)
    const lost = await startService(t, { databaseUrl: proxy.url, env: { LOG_INGESTION_STORAGE: 'rows' } })
    await lost.settled()
    proxy.down()
    await lost.post('/api/v1/logs/batch', batch(entry({ message: 'left, secret' }), entry({ message: 'left' })))
    await lost.stop()
    await one.restart({ LOG_INGESTION_DATABASE_URL: database.url, LOG_INGESTION_STORAGE: 'rows' })
    await one.post('/api/v1/logs/batch', batch(entry({ message: 'there, secret' }), entry({ message: 'there' })))
    await one.settled()
    // It waits for every replica it knows, for a day.
    await database.sql`delete from purser_logs.replicas`
    const { id } = await requestDeletion(one, 'secret')
    await pollUntil(() => isDone(one, id), { what: 'the deletion', timeoutMs: 30_000 })
    await one.post('/api/v1/logs/batch', batch(entry({ message: 'later, secret' })))
    await one.settled()
    const log = createLog({ service: 'test', level: 'silent', format: 'json' })
    const o = { databaseUrl: database.url, dedupeWindowMs: 60_000, patienceMs: 20_000, clock: systemClock, log }
    const drained = await drainJournal({ ...o, dir: lost.dir })
    assert.deepEqual([drained.stored, drained.deletions, drained.problem], [2, 1, undefined])
    assert.deepEqual((await found(one)).toSorted(), ['later, secret', 'left', 'there'], 'hidden from the first moment')
    const again = await pollUntil(
      async () => {
        const answer = (await (await one.get('/api/v1/deletions')).json()) as { deletions: DeletionAnswer[] }
        const job = answer.deletions.find(other => other.id !== id)
        return job?.state === 'done' && job
      },
      { what: 'the deletion to look once more', timeoutMs: 60_000 },
    )
    assert.deepEqual([again.q, again.rows, again.requested_by], ['secret', '1', 'journal drain'])
    assert.match(again.reason, /^a test \(again: the journal of replica [0-9a-f-]+ was drained\)$/)
    const left = await database.sql<{ message: string }[]>`select message from logs order by 1`
    assert.deepEqual(
      left.map(({ message }) => message),
      ['later, secret', 'left', 'there'],
    )
    const second = await drainJournal({ ...o, dir: lost.dir })
    assert.deepEqual([second.stored, second.deletions], [0, 0], 'with nothing to store no deletion has to look')
  })

  for (const storage of ['rows', 'columnar'])
    test(`${storage}: half a day later no byte of it is in the journal, however quiet it is`, async t => {
      const clock = shiftedClock()
      const s = await startService(t, { base: testBase(t, { clock }), env: { LOG_INGESTION_STORAGE: storage } })
      await s.post('/api/v1/logs/batch', batch(entry({ message: 'a secret' }), entry({ message: 'kept' })))
      await s.settled()
      const { id } = await requestDeletion(s, 'secret')
      await pollUntil(() => isDone(s, id), { what: 'the deletion' })
      await s.restart()
      assert.match(await journalText(s), /a secret/, 'a restored database may still need its neighbours')
      clock.advance(13 * hourMs)
      await s.restart()
      await pollUntil(async () => !(await journalText(s)).includes('a secret'), { what: 'the journal to forget' })
      await s.post(
        '/api/v1/logs/batch',
        batch(entry({ message: 'more', timestamp: new Date(clock.now()).toISOString() })),
      )
      await s.settled()
      const ledger = (await (await s.get('/api/v1/ledger?present=true')).json()) as LedgerAnswer
      assert.deepEqual([ledger.totals.accepted, ledger.totals.present, ledger.difference], ['3', '2', '0'])
      const own = await s.sql`select key_id from purser_logs.ledger where key_id = 'self'`
      assert.equal(own.length, 0)
    })
})
