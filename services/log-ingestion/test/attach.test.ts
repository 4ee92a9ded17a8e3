import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { definitionsOf, legacyKey, legacyPassword, makeLegacy } from './legacy-schema.ts'
import { adminKey, batch, entry, startService } from './start.ts'

const execFileAsync = promisify(execFile)
const main = fileURLToPath(new URL('../../../purser/main.ts', import.meta.url))
const single = () => JSON.stringify({ log: entry() })

async function attached(t: TestContext) {
  const { sql, url } = await testDatabase(t)
  await makeLegacy(sql)
  const definitions = await definitionsOf(sql)
  const rows = await sql<{ id: bigint }[]>`select * from logs order by id`
  return { sql, url, definitions, rows, service: await startService(t, { databaseUrl: url }) }
}

test('a populated database of an older installation attaches as it is: rows, ids, sequences, indexes and definitions', async t => {
  const { sql, definitions, rows, service: s } = await attached(t)
  assert.equal((await s.post('/api/v1/logs/batch', batch(entry(), entry({ level: 'error' })))).status, 202)
  await s.settled()
  assert.deepEqual(await definitionsOf(sql), definitions, 'nothing was added or dropped in schema public')
  assert.deepEqual(await sql`select * from logs where id <= 500 order by id`, rows)
  const added = await sql<{ id: bigint }[]>`select id from logs where id > 500 order by id`
  assert.equal(added.length, 2)
  assert.ok((added[0]?.id ?? 0n) > 500n, 'ids continue on the same sequence')
  const [next] = await sql<{ id: bigint }[]>`
    insert into logs (timestamp, service, level, message) values (now(), 'old', 'INFO', 'by an older instance') returning id`
  assert.ok((next?.id ?? 0n) > (added[1]?.id ?? 0n), 'an older instance beside us draws ids after ours')
  const found = (await (await s.get('/api/v1/logs/search?q=service:old&limit=1000&from=-12h')).json()) as {
    logs: object[]
  }
  assert.equal(found.logs.length, 501)
  const [schema] = await sql<{ schemas: string }[]>`
    select string_agg(nspname, ',' order by nspname) as schemas from pg_namespace
    where nspname !~ '^(pg_|information_schema)'`
  assert.equal(schema?.schemas, 'public,purser_logs,tenancy')
})

test('users and plaintext keys of an older installation work, also those it still writes; seal hides them', async t => {
  const { sql, service: s } = await attached(t)
  const login = await fetch(`${s.url}/auth/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email: 'old@example.org', password: legacyPassword }),
  })
  const { token, user } = (await login.json()) as { token: string; user: { id: number; is_admin: boolean } }
  assert.deepEqual([login.status, user.id, user.is_admin], [200, 1, true])

  const send = async (key: string) => (await s.post('/api/v1/logs', single(), { 'x-api-key': key })).status
  assert.equal(await send(legacyKey), 202)
  assert.equal(await send('withdrawn'), 401)
  const keys = async () =>
    (
      (await (await fetch(`${s.url}/admin/api/keys`, { headers: { authorization: `Bearer ${token}` } })).json()) as {
        keys: { id: number; name: string; description: string; created_by_user_id: number | null; is_active: boolean }[]
      }
    ).keys
  const [old] = await keys()
  assert.deepEqual(
    [old?.id, old?.name, old?.description, old?.created_by_user_id, old?.is_active],
    [1, 'old app', 'from before', 1, true],
  )
  const health = async () => (await (await fetch(`${s.url}/health`)).json()) as { status: string; notices?: string[] }
  assert.match((await health()).notices?.[0] ?? '', /^2 keys are readable in public\.api_keys: purser logs keys seal/)
  assert.match(await complaintsOf(s.url), /^2 keys are readable in public\.api_keys: purser logs keys seal/m)

  // An older instance beside us makes a key, and withdraws one.
  await sql`insert into api_keys (key, name) values ('made-by-the-old-one', 'beside')`
  await pollUntil(async () => (await send('made-by-the-old-one')) === 202, { what: 'the new key to be taken over' })
  await sql`update api_keys set is_active = false where name = 'beside'`
  await pollUntil(async () => (await send('made-by-the-old-one')) === 401, { what: 'the key to be withdrawn' })

  // One made here continues the ids, and is never readable.
  const key = (await cli(s.url, 'keys', 'create', 'ours')).trim()
  assert.equal(key.length, 44)
  assert.equal(await send(key), 202)
  assert.deepEqual(
    (await keys()).map(({ id, name }) => [id, name]),
    [
      [1, 'old app'],
      [3, 'beside'],
      [4, 'ours'],
    ],
  )
  assert.equal(await cli(s.url, 'keys', 'seal'), '3 keys sealed, 0 still readable in public.api_keys\n')
  const stored = await sql<{ key: string }[]>`select key from api_keys`
  assert.ok(stored.every(row => /^sha256:[0-9a-f]{64}$/.test(row.key)))
  assert.equal(await send(legacyKey), 202)
  await s.restart()
  assert.equal(await send(legacyKey), 202)
  assert.deepEqual(await health(), { status: 'healthy' })
})

test('replicas with different secrets on one database say so', async t => {
  const { url } = await testDatabase(t)
  const first = await startService(t, {
    databaseUrl: url,
    env: { PURSER_SECRET: 'one secret of thirty-two bytes or more' },
  })
  const second = await startService(t, {
    databaseUrl: url,
    env: { PURSER_SECRET: 'another secret of thirty-two bytes or so' },
  })
  const notices = async ({ url }: { url: string }) =>
    ((await (await fetch(`${url}/health`)).json()) as { notices?: string[] }).notices
  assert.equal(await notices(first), undefined)
  assert.match((await notices(second))?.[0] ?? '', /^PURSER_SECRET differs/)
})

test('an account made on the command line signs in with the password shown once', async t => {
  const s = await startService(t)
  const password = (await cli(s.url, 'user', 'add', '--admin', 'root@example.org')).trim()
  const login = await fetch(`${s.url}/admin/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email: 'root@example.org', password }),
  })
  const { user } = (await login.json()) as { user: object }
  assert.deepEqual(
    [login.status, { ...user, id: 0 }],
    [200, { id: 0, email: 'root@example.org', name: 'root', is_admin: true }],
  )
  await assert.rejects(cli(s.url, 'user', 'add', 'root@example.org'), /already exists/)
  await assert.rejects(cli(s.url, 'keys', 'revoke', 'x'), /no key id/)
})

/** What `purser logs doctor` says beside the books; it reads the rows, so its exit code is about those. */
async function complaintsOf(url: string): Promise<string> {
  const env = { PATH: process.env.PATH, PURSER_LOGS_URL: url, PURSER_LOGS_KEY: adminKey }
  const run = execFileAsync(process.execPath, ['--disable-warning=ExperimentalWarning', main, 'logs', 'doctor'], {
    env,
  })
  return (await run.catch((error: { stderr: string }) => error)).stderr
}

async function cli(url: string, ...args: string[]): Promise<string> {
  const { stdout } = await execFileAsync(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', main, 'logs', ...args],
    { env: { PATH: process.env.PATH, PURSER_LOGS_URL: url, PURSER_LOGS_KEY: adminKey } },
  )
  return stdout
}
