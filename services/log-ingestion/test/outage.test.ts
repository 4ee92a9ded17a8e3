// The database away or silent, refusing an entry; the journal full. (The disk: acknowledgement.test.ts. A COMMIT in doubt:
// commit.test.ts. kill -9: faults/.) After each: what was acknowledged is stored, once, and the counts agree.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { openSql, type Sql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { unusedPort } from '../../../test/kit/ports.ts'
import { createProgress } from '../pipeline/progress.ts'
import { backoffMs } from '../pipeline/writer.ts'
import { shiftedClock } from './shifted-clock.ts'
import { batch, entry, startService, type TestService } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

/** Posts batches of ten with unique messages; collects those that got a 2xx. */
async function load(s: TestService, requests: number, acknowledged: Set<string>, name = 'e'): Promise<void> {
  for (let i = 0; i < requests; i++) {
    const messages = Array.from({ length: 10 }, (_, k) => `${name} ${i}.${k}`)
    const response = await s.post('/api/v1/logs/batch', batch(...messages.map(message => entry({ message }))))
    if (response.status === 202) for (const message of messages) acknowledged.add(message)
  }
}

/** Every acknowledged entry once, no entry twice, and the ledger agrees with what is there. */
async function assertExact(sql: Sql, acknowledged: ReadonlySet<string>): Promise<void> {
  const rows = await sql<{ message: string; count: bigint }[]>`select message, count(*) from logs group by 1`
  const stored = new Map(rows.map(row => [row.message, row.count]))
  assert.deepEqual(
    [...acknowledged].filter(message => !stored.has(message)),
    [],
    'lost',
  )
  assert.deepEqual(
    [...stored].filter(([, count]) => count !== 1n),
    [],
    'stored twice',
  )
  const [sums] = await sql<{ ledger: bigint; present: bigint; ranges: bigint; totals: bigint; accepted: bigint }[]>`
    select (select coalesce(sum(stored), 0)::int8 from purser_logs.ledger) as ledger,
           (select coalesce(sum(accepted - stored - quarantined), 0)::int8 from purser_logs.ledger) as accepted,
           (select count(*) from logs) as present,
           (select coalesce(sum(rows), 0)::int8 from purser_logs.commits) as ranges,
           (select coalesce(sum(rows), 0)::int8 from purser_logs.totals) as totals`
  assert.equal(sums?.ledger, sums?.present)
  assert.equal(sums?.totals, sums?.present)
  assert.equal(sums?.accepted, 0n)
}

test('G6: while the database is away, intake goes on and health says so; when it is back, all is stored once', async t => {
  const database = await testDatabase(t)
  const proxy = await tcpProxy(t, database.url)
  const s = await startService(t, { databaseUrl: proxy.url })
  const acknowledged = new Set<string>()
  await load(s, 5, acknowledged, 'before')
  proxy.down()
  await load(s, 20, acknowledged, 'away')
  assert.equal(acknowledged.size, 250, 'every request was acknowledged')
  const health = await pollUntil(
    async () => {
      const body = (await (await fetch(`${s.url}/health`)).json()) as {
        status: string
        checks?: { database?: { status: string } }
      }
      return body.status === 'degraded' && body
    },
    { what: 'health to notice' },
  )
  assert.equal(health.checks?.database?.status, 'down')
  assert.equal((await fetch(`${s.url}/health`)).status, 200, 'a container check must pass')
  assert.equal((await fetch(`${s.url}/health/ready`)).status, 200)
  const search = await s.get('/api/v1/logs/search')
  assert.deepEqual([search.status, search.headers.get('retry-after')], [503, '5'])
  proxy.up()
  await s.settled()
  await assertExact(database.sql, acknowledged)
  await pollUntil(async () => (await (await fetch(`${s.url}/health`)).text()) === '{"status":"healthy"}', {
    what: 'health to recover',
  })
})

test('G6: a stop does not wait for a database that is away, and loses nothing', async t => {
  const database = await testDatabase(t)
  const proxy = await tcpProxy(t, database.url)
  // Longer than any test may take.
  const s = await startService(t, { databaseUrl: proxy.url, env: { LOG_INGESTION_SHUTDOWN_TIMEOUT: '10m' } })
  const acknowledged = new Set<string>()
  proxy.down()
  await load(s, 3, acknowledged, 'left behind')
  await s.stop()
  proxy.up()
  await s.restart()
  await s.settled()
  assert.equal(acknowledged.size, 30)
  await assertExact(database.sql, acknowledged)
})

test('G6: a start without a database listens at once and stores what came meanwhile when it appears', async t => {
  const database = await testDatabase(t)
  const proxy = await tcpProxy(t, database.url)
  const port = String(await unusedPort())
  const s = await startService(t, { databaseUrl: proxy.url, env: { LOG_INGESTION_SERVER_PORT: port } })
  const acknowledged = new Set<string>()
  await load(s, 2, acknowledged, 'first life')
  proxy.down()
  await s.stop()
  // start() gives the database ten seconds before it returns; the port is open before that.
  const restarting = s.restart()
  await pollUntil(async () => (await s.post('/api/v1/logs/batch', batch(entry({ message: 'early' })))).status === 202, {
    what: 'intake without a database',
  })
  acknowledged.add('early')
  const unknown = await s.post('/api/v1/logs', JSON.stringify({ log: entry() }), {
    'x-api-key': 'perhaps known to the directory',
  })
  assert.deepEqual(
    [unknown.status, await unknown.json()],
    [429, { error: 'Service overloaded', reason: 'DIRECTORY_UNAVAILABLE' }],
  )
  proxy.up()
  await restarting
  await s.settled()
  await assertExact(database.sql, acknowledged)
})

test('G6: a database that falls silent is left at the statement timeout, and its connections are not trusted again', async t => {
  const database = await testDatabase(t)
  const proxy = await tcpProxy(t, database.url)
  const s = await startService(t, { databaseUrl: proxy.url, env: { LOG_INGESTION_DB_STATEMENT_TIMEOUT: '1s' } })
  const acknowledged = new Set<string>()
  await load(s, 1, acknowledged, 'before')
  await s.settled()
  proxy.silence()
  await load(s, 5, acknowledged, 'silent')
  assert.equal(acknowledged.size, 60, 'intake does not notice')
  const detail = await pollUntil(
    async () =>
      ((await (await fetch(`${s.url}/health`)).json()) as { checks?: { database?: { detail: string } } }).checks
        ?.database?.detail,
    { what: 'the service to notice by itself' },
  )
  assert.match(detail, /the database is away/)
  // New connections answer; the old ones never will.
  proxy.listenAgain()
  await s.settled()
  await assertExact(database.sql, acknowledged)
})

test('G6: connecting has five seconds, idle connections are probed, attempts are 100 ms to 10 s apart', async t => {
  const sql = openSql({
    url: 'postgres://nobody@127.0.0.1:9/none',
    max: 1,
    applicationName: 'test',
    log: testBase(t).log,
  })
  assert.deepEqual([sql.options.connect_timeout, sql.options.keep_alive], [5, 30])
  const pauses = (chance: number) => Array.from({ length: 9 }, (_, attempt) => backoffMs(attempt, chance))
  assert.deepEqual(pauses(0.5), [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000])
  assert.deepEqual([pauses(0)[0], pauses(1)[0]], [75, 125])
})

test('G6: Retry-After of a full journal is the time until a tenth of it is stored, 1 to 60 s', t => {
  const clock = shiftedClock()
  const progress = createProgress({ clock: testBase(t, { clock }).clock })
  progress.begin(1_000_000n, 0n)
  const commit = (rows: number, behind: bigint) =>
    progress.committed({ rows, rowsBehind: behind, receivedUs: 0n, quarantined: 0 })
  assert.equal(progress.drainRetryS(), 60, 'nothing is known yet')
  commit(50_000, 50_000n)
  // 95 000 rows until there is room, at 50 000 in ten seconds.
  assert.equal(progress.drainRetryS(), 19)
  commit(850_000, 900_000n)
  assert.equal(progress.drainRetryS(), 1)
  clock.advance(11_000)
  assert.equal(progress.drainRetryS(), 60, 'the database has stopped')
})

test('G6: memory does not grow with the backlog', async t => {
  const database = await testDatabase(t)
  const proxy = await tcpProxy(t, database.url)
  const s = await startService(t, { databaseUrl: proxy.url })
  proxy.down()
  const filler = 'x'.repeat(9_000)
  const body = batch(...Array.from({ length: 200 }, (_, i) => entry({ message: `${i} ${filler}` })))
  const fill = async (requests: number) => {
    for (let i = 0; i < requests; i++)
      assert.equal((await s.post('/api/v1/logs/batch', body, { 'idempotency-key': `${i} ${requests}` })).status, 202)
    collectGarbage()
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  }
  // Two batches and the tail of the journal are in memory by then.
  const before = await fill(16)
  const after = await fill(30)
  assert.ok(after - before < 16 * 1024 * 1024, `${before} bytes before, ${after} after 54 MB more`)
})

/** All of it, now: what is left is held by somebody. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  if (typeof collect !== 'function') throw new Error('BUG: this engine has no gc()')
  for (let i = 0; i < 3; i++) collect()
}

test('an entry the database refuses goes to quarantine alone and is counted', async t => {
  const s = await startService(t)
  await s.sql`alter table logs add constraint no_poison check (message <> 'poison')`
  const response = await s.post(
    '/api/v1/logs/batch',
    batch(entry({ message: 'a' }), entry({ message: 'poison' }), entry({ message: 'b' })),
  )
  assert.equal(response.status, 202)
  await s.settled()
  const rows = await s.sql<{ message: string }[]>`select message from logs order by id`
  assert.deepEqual(
    rows.map(row => row.message),
    ['a', 'b'],
  )
  const [quarantined] = await s.sql<{ reason: string; message: string }[]>`
    select reason, convert_from(entry, 'utf8')::jsonb->>'message' as message from purser_logs.quarantine`
  assert.deepEqual({ ...quarantined }, { reason: '23514', message: 'poison' })
  await assertExact(s.sql, new Set(['a', 'b']))
  const health = (await (await fetch(`${s.url}/health`)).json()) as { status: string; checks: object }
  assert.deepEqual([health.status, Object.keys(health.checks)], ['degraded', ['quarantine']])
  const receipt = await (await s.get(`/api/v1/receipts/${response.headers.get('x-receipt')}`)).json()
  assert.deepEqual([(receipt as { stored: number }).stored, (receipt as { quarantined: number }).quarantined], [2, 1])
})

test('G6: a full journal refuses with 429 and Retry-After and forgets nothing', async t => {
  const database = await testDatabase(t)
  const proxy = await tcpProxy(t, database.url)
  const s = await startService(t, { databaseUrl: proxy.url, env: { LOG_INGESTION_JOURNAL_BYTES_MAX: '16MiB' } })
  const acknowledged = new Set<string>()
  proxy.down()
  const filler = 'x'.repeat(9_900)
  let refused: Response | undefined
  for (let i = 0; !refused && i < 1_000; i++) {
    // Large requests first, small ones towards the end.
    const messages = Array.from({ length: i < 15 ? 100 : 2 }, (_, k) => `${i}.${k} ${filler}`)
    const response = await s.post('/api/v1/logs/batch', batch(...messages.map(message => entry({ message }))))
    if (response.status === 202) for (const message of messages) acknowledged.add(message)
    else refused = response
  }
  assert.equal(refused?.status, 429)
  assert.deepEqual(await refused.json(), { error: 'Service overloaded', reason: 'JOURNAL_FULL' })
  assert.match(refused.headers.get('retry-after') ?? '', /^([1-9]|[1-5]\d|60)$/)
  assert.equal((await fetch(`${s.url}/health/ready`)).status, 503)
  proxy.up()
  await s.settled()
  await load(s, 1, acknowledged, 'after')
  await s.settled()
  await assertExact(database.sql, acknowledged)
})
