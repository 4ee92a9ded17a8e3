// `purser logs index`: the indexes of the guide's table change while entries come in, on each kind of table we meet.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { type TestContext, test } from 'node:test'
import type { Sql } from '#platform/postgres'
import { testDatabase } from '../../../test/kit/database.ts'
import { makeLegacy } from './legacy-schema.ts'
import { batch, entry, startService } from './start.ts'

const main = new URL('../../../purser/main.ts', import.meta.url).pathname

async function purserLogs(t: TestContext, env: Record<string, string>, ...args: string[]) {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, 'logs', ...args], {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...env },
  })
  t.after(() => void child.kill('SIGKILL'))
  const said = { out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', text => {
    said.out += text
  })
  child.stderr.setEncoding('utf8').on('data', text => {
    said.err += text
  })
  const code = await new Promise(resolve => child.once('close', resolve))
  return { code, ...said }
}

const fast = ['logs_service_timestamp', 'logs_timestamp_brin']
const compat = [
  'idx_logs_level',
  'idx_logs_metadata',
  'idx_logs_service',
  'idx_logs_timestamp',
  'idx_logs_timestamp_service',
]

/** Of the table itself, in order of name; one that is not whole is marked. */
async function indexesOf(sql: Sql, table = 'public.logs'): Promise<string[]> {
  const rows = await sql<{ name: string }[]>`
    select c.relname || case when i.indisvalid then '' else ' (not whole)' end as name
    from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = ${table}::regclass order by 1`
  return rows.map(({ name }) => name)
}

test('daily partitions: fast to compat and back while entries come in; new partitions have them; none is lost', async t => {
  const { sql, url: databaseUrl } = await testDatabase(t)
  const service = await startService(t, { databaseUrl })
  const url = { LOG_INGESTION_DATABASE_URL: databaseUrl }
  let sent = 0
  let isOver = false
  const sending = (async () => {
    while (!isOver) {
      const entries = Array.from({ length: 20 }, () => entry({ message: `m ${sent}`, metadata: { n: sent } }))
      assert.equal((await service.post('/api/v1/logs/batch', batch(...entries))).status, 202)
      sent += entries.length
    }
  })()
  await service.settled()
  const before = await indexesOf(sql)
  assert.deepEqual(before, ['logs_pkey', ...fast].sort())

  const changed = await purserLogs(t, url, 'index', 'compat', '--json')
  assert.equal(changed.code, 0, changed.err)
  assert.deepEqual(await indexesOf(sql), [...compat, 'logs_pkey'])
  const shown = JSON.parse(changed.out) as { indexes: { name: string }[] }
  assert.deepEqual(
    shown.indexes.map(({ name }) => name),
    [...compat, 'logs_pkey'],
  )
  assert.match(changed.err, /^created idx_logs_metadata on logs_p\d{8}$/m)
  await sql`create table logs_p_later partition of logs for values from ('2099-01-01') to ('2099-01-02')`
  assert.equal((await indexesOf(sql, 'public.logs_p_later')).length, 6)
  const again = await purserLogs(t, url, 'index', 'compat')
  assert.deepEqual([again.code, again.err], [0, ''], 'again is a no-op')

  assert.equal((await purserLogs(t, url, 'index', 'fast')).code, 0)
  assert.deepEqual(await indexesOf(sql), before)
  isOver = true
  await sending
  await service.settled()
  const [count] = await sql`select count(*)::int as rows from logs`
  assert.equal(count?.rows, sent)
})

test('a plain table of an older installation: its five stay for compat, and go for fast; what was cut off is done again', async t => {
  const { sql, url } = await testDatabase(t)
  await makeLegacy(sql)
  const env = { LOG_INGESTION_DATABASE_URL: url }
  // As an attempt leaves it that was killed in the middle.
  await sql`create index logs_service_timestamp on logs (service, timestamp desc)`
  await sql`update pg_index set indisvalid = false where indexrelid = 'logs_service_timestamp'::regclass`
  const changed = await purserLogs(t, env, 'index', 'fast')
  assert.equal(changed.code, 0, changed.err)
  assert.deepEqual(await indexesOf(sql), ['logs_id_timestamp', ...fast])
  assert.equal((await purserLogs(t, env, 'index', 'compat')).code, 0)
  assert.deepEqual(await indexesOf(sql), [...compat, 'logs_id_timestamp'])
  assert.match((await purserLogs(t, env, 'index', 'quick')).err, /try: purser logs index/)
})

test('migrate under the name of the tool', async t => {
  const { url } = await testDatabase(t)
  const dir = { LOG_INGESTION_DATA_DIR: process.env.TMPDIR ?? '/tmp' }
  const first = await purserLogs(t, { ...dir, LOG_INGESTION_DATABASE_URL: url }, 'migrate')
  assert.equal(first.code, 0, first.err)
  assert.match(first.out, /^log-ingestion: logs is partitioned by day; applied /m)
  const again = await purserLogs(t, { ...dir, LOG_INGESTION_DATABASE_URL: url }, 'migrate')
  assert.match(again.out, /up to date/)
  const forPrograms = await purserLogs(t, { ...dir, LOG_INGESTION_DATABASE_URL: url }, 'migrate', '--json')
  assert.deepEqual(JSON.parse(forPrograms.out), { logs: 'partitioned', applied: [] })
})
