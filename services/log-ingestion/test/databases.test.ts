// The databases of the guide: Debian's PostgreSQL, PgBouncer before it; migrations by many at once.

import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openSql, type Sql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { startDebianPostgres, startPgBouncer, whyNoPgBouncer, whyNoPostgres } from './debian-postgres.ts'
import { definitionsOf, makeLegacy } from './legacy-schema.ts'
import { startProcess } from './process.ts'
import { batch, entry, startService } from './start.ts'

async function migrate(t: TestContext, url: string): Promise<{ code: number | string; said: string }> {
  const dir = await mkdtemp(join(tmpdir(), 'purser-migrate-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const child = startProcess(t, {
    args: ['migrate'],
    env: { LOG_INGESTION_DATABASE_URL: url, LOG_INGESTION_DATA_DIR: dir, LOG_LEVEL: 'fatal' },
  })
  const code = await child.exited
  return { code, said: child.lines.map(line => line.msg).join('\n') }
}

async function everything(sql: Sql): Promise<string[]> {
  const rows = await sql<{ line: string }[]>`
    select format('%s.%s %s', relnamespace::regnamespace, relname, relkind) as line from pg_class
    where relnamespace::regnamespace::text in ('public', 'purser_logs', 'tenancy') order by 1`
  return rows.map(row => row.line)
}

test('G30: migrate by several at once on an empty database, and again', async t => {
  const { url, sql } = await testDatabase(t)
  const first = await Promise.all([migrate(t, url), migrate(t, url), migrate(t, url)])
  assert.deepEqual(
    first.map(({ code }) => code),
    [0, 0, 0],
    JSON.stringify(first),
  )
  const before = await everything(sql)
  assert.ok(before.includes('public.logs p') && before.includes('purser_logs.commits r'))
  const again = await migrate(t, url)
  assert.deepEqual(again, { code: 0, said: 'log-ingestion: logs is partitioned by day; the schema is up to date' })
  assert.deepEqual(await everything(sql), before)
})

test('G30: migrate by several at once on a populated database changes nothing of it', async t => {
  const { url, sql } = await testDatabase(t)
  await makeLegacy(sql)
  const before = await definitionsOf(sql)
  const all = await Promise.all([migrate(t, url), migrate(t, url), migrate(t, url)])
  assert.ok(
    all.some(({ said }) => /logs is a plain table; applied/.test(said)),
    JSON.stringify(all),
  )
  assert.ok(all.every(({ code }) => code === 0))
  assert.deepEqual(await definitionsOf(sql), before)
})

test('G30: no migration drops or rewrites what it did not make', async () => {
  const folder = new URL('../migrations/', import.meta.url)
  const files = (await readdir(folder, { recursive: true })).filter(name => name.endsWith('.sql'))
  assert.ok(files.length > 5)
  for (const name of files) {
    const text = (await readFile(new URL(name, folder), 'utf8')).replace(/--.*$/gm, '')
    assert.doesNotMatch(text, /\b(drop\s+(table|schema|column|database)|truncate|delete\s+from\s+public)\b/i, name)
    // A new type rewrites a table, row by row.
    assert.doesNotMatch(
      text,
      /alter\s+table\s+(public\.|logs\b|users\b|api_keys\b|faults\b|notices\b)[^;]*\btype\b/i,
      name,
    )
  }
})

test('the service on Debian’s PostgreSQL, migrations by psql’s file before, after and again', {
  skip: whyNoPostgres,
}, async t => {
  const server = await startDebianPostgres(t)
  const sql = openSql({ url: server.url('postgres'), max: 2, applicationName: 'test', log: testBase(t).log })
  t.after(() => sql.end({ timeout: 1 }))
  const [version] = await sql<{ version: string }[]>`select current_setting('server_version') as version`
  t.diagnostic(`PostgreSQL ${version?.version}`)
  const s = await startService(t, { databaseUrl: server.url('postgres') })
  await s.post('/api/v1/logs/batch', batch(entry(), entry({ metadata: { n: 9007199254740993n.toString() } })))
  await s.settled()
  const [row] = await sql<{ count: bigint }[]>`select count(*) from logs`
  assert.equal(row?.count, 2n)
  const found = (await (await s.get('/api/v1/logs/search?q=service:shop')).json()) as { logs: object[] }
  assert.equal(found.logs.length, 2)
})

test('PgBouncer in transaction mode before it: intake, search, keys, restart', { skip: whyNoPgBouncer }, async t => {
  const server = await startDebianPostgres(t)
  const url = await startPgBouncer(t, server, 'postgres')
  // As the guide's DB_HOST and DB_PORT say it: nobody mentions the pooler.
  const s = await startService(t, { databaseUrl: url.replace('?pgbouncer=true', '') })
  for (let i = 0; i < 20; i++) await s.post('/api/v1/logs/batch', batch(entry(), entry({ level: 'ERROR' })))
  await s.settled()
  for (let i = 0; i < 10; i++) {
    const found = (await (await s.get('/api/v1/logs/search?q=level>=error')).json()) as { logs: object[] }
    assert.equal(found.logs.length, 20)
  }
  const made = (await (
    await fetch(`${s.url}/admin/api/keys`, {
      method: 'POST',
      headers: { 'x-api-key': 'test-admin-key', 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'app' }),
    })
  ).json()) as { key: string }
  const send = async () =>
    (await s.post('/api/v1/logs', JSON.stringify({ log: entry() }), { 'x-api-key': made.key })).status
  assert.equal(await send(), 202)
  await s.restart()
  await pollUntil(async () => (await send()) === 202, { what: 'the key after the restart' })
  await s.settled()
  const stats = (await (await s.get('/admin/stats')).json()) as { total_logs: number }
  assert.equal(stats.total_logs, 42)
})

test('G30: missing rights are named with the GRANT that mends them, in /health, while intake goes on', {
  skip: whyNoPostgres,
}, async t => {
  const server = await startDebianPostgres(t)
  const sql = openSql({ url: server.url('postgres'), max: 1, applicationName: 'test', log: testBase(t).log })
  t.after(() => sql.end({ timeout: 1 }))
  await sql.unsafe('create role log_writer login')
  const s = await startService(t, {
    databaseUrl: server.url('postgres').replace('postgres@', 'log_writer@'),
    env: { LOG_INGESTION_API_KEYS: 'test-write-key', LOG_INGESTION_ADMIN_API_KEYS: 'test-admin-key' },
  })
  const database = async () => {
    const health = (await (await fetch(`${s.url}/health`)).json()) as { checks?: { database?: { detail: string } } }
    return health.checks?.database?.detail
  }
  assert.equal((await s.post('/api/v1/logs/batch', batch(entry(), entry()))).status, 202)
  const follow = async (grant: RegExp) => {
    const found = await pollUntil(async () => grant.exec((await database()) ?? ''), {
      what: `${grant} in /health`,
    })
    await sql.unsafe(found[0])
  }
  // The next one that would be named; the tests of migrate() see to it.
  await sql.unsafe('grant create on database postgres to log_writer')
  await follow(/GRANT USAGE, CREATE ON SCHEMA public TO log_writer/)
  await pollUntil(async () => (await database()) === undefined, { what: 'the database to be used' })
  await s.settled()
  const [row] = await sql<{ count: bigint }[]>`select count(*) from logs`
  assert.equal(row?.count, 2n)
})

test('DB_SSLMODE: require takes any certificate, verify-full only one it can trust, by the guide’s variables', {
  skip: whyNoPostgres,
}, async t => {
  const server = await startDebianPostgres(t, { tls: true })
  const migrateWith = async (mode: string) => {
    const dir = await mkdtemp(join(tmpdir(), 'purser-tls-'))
    t.after(() => rm(dir, { recursive: true, force: true }))
    const child = startProcess(t, {
      args: ['migrate'],
      env: {
        LOG_INGESTION_DB_HOST: '127.0.0.1',
        LOG_INGESTION_DB_PORT: String(server.port),
        LOG_INGESTION_DB_NAME: 'postgres',
        LOG_INGESTION_DB_SSLMODE: mode,
        LOG_INGESTION_DATA_DIR: dir,
        LOG_LEVEL: 'fatal',
      },
    })
    return await child.exited
  }
  assert.equal(await migrateWith('require'), 0)
  assert.equal(await migrateWith('prefer'), 0)
  assert.equal(await migrateWith('verify-full'), 1)
})
