import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import fc from 'fast-check'
import { describeAddress, openSql, parseDatabaseUrl, socketUrl, withDatabase } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { testDatabase } from '../../test/kit/database.ts'

const silent = createLog({ service: 'test', level: 'silent', format: 'json' })

test('addresses are read as libpq reads them', () => {
  const tcp = parseDatabaseUrl('postgresql://ann:p%40ss+word@db.example:6432/my%20db?sslmode=disable&connect_timeout=9')
  assert.deepEqual(tcp.hosts, [{ host: 'db.example', port: 6432 }])
  assert.deepEqual(
    [tcp.user, tcp.password, tcp.database, tcp.ssl, tcp.connectTimeoutS],
    ['ann', 'p@ss+word', 'my db', false, 9],
  )

  const several = parseDatabaseUrl('postgres://u@a:1,[::1]:2,c/d')
  assert.deepEqual(several.hosts, [
    { host: 'a', port: 1 },
    { host: '::1', port: 2 },
    { host: 'c', port: 5432 },
  ])
  const socket = parseDatabaseUrl('postgres:///purser?host=/run/x&port=5433&user=purser')
  assert.deepEqual([socket.socketDir, socket.hosts, socket.ssl], ['/run/x', [{ host: '/run/x', port: 5433 }], false])
  assert.deepEqual(parseDatabaseUrl('postgres://u@%2Frun%2Fx/d').socketDir, '/run/x')
  assert.equal(parseDatabaseUrl('postgres://u@h/d?pgbouncer=true').isDirect, false)
  assert.equal(parseDatabaseUrl('postgres://u@h').database, 'u')
})

test('a wrong address is refused with the mend and without its password', () => {
  const wrong = [
    'mysql://u:hunter2@h/d',
    'postgres://u:hunter2@h:99999/d',
    'postgres://u:hunter2@h:x/d',
    'postgres://u:hunter2%zz@h/d',
    'postgres://u:hunter2@h/d?sslmode=sometimes',
    'postgres://u:hunter2@h/d?pool_size=3',
    'postgres://u:hunter2@h/d?connect_timeout=soon',
    'postgres://u:hunter2@h/d?target_session_attrs=any-old',
    'u:hunter2@h/d',
  ]
  for (const url of wrong) {
    assert.throws(
      () => parseDatabaseUrl(url),
      error => error instanceof Error && !error.message.includes('hunter2') && error.message.length > 20,
      url,
    )
  }
})

test('any folder, user and database survive the way into an address and back', () => {
  const name = fc.string({ minLength: 1, unit: 'binary' }).filter(s => s.isWellFormed() && !s.includes('\0'))
  fc.assert(
    fc.property(name, name, name, fc.integer({ min: 1, max: 65_535 }), (folder, user, database, port) => {
      const socketDir = `/${folder}`
      fc.pre(!socketDir.includes(',') && !socketDir.includes(':'))
      const url = socketUrl({ socketDir, port, user, database })
      const back = parseDatabaseUrl(url)
      assert.deepEqual(
        [back.socketDir, back.hosts[0]?.port, back.user, back.database],
        [socketDir, port, user, database],
      )
      assert.equal(parseDatabaseUrl(withDatabase(url, 'other')).database, 'other')
    }),
  )
})

test('the address of the test database works in psql, too', async t => {
  const { url } = await testDatabase(t)
  const { stdout, error } = spawnSync('psql', [url, '-Atc', 'select current_database()'], { encoding: 'utf8' })
  if (error && 'code' in error && error.code === 'ENOENT') return t.skip('psql is not installed')
  assert.equal(stdout.trim(), parseDatabaseUrl(url).database)
})

test('a failed connection names host and database and keeps the password to itself', async t => {
  const url = 'postgres://u:hunter2@127.0.0.1:1/d'
  assert.equal(describeAddress(parseDatabaseUrl(url)), 'database "d" at 127.0.0.1:1')
  const sql = openSql({ url, max: 1, applicationName: 'test', log: silent })
  t.after(() => sql.end())
  await assert.rejects(
    async () => sql`select 1`,
    error => error instanceof Error && /127\.0\.0\.1:1/.test(error.message) && !/hunter2/.test(error.stack ?? ''),
  )
})
