import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { migrate, openSql } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { testDatabase } from '../../test/kit/database.ts'

const log = createLog({ service: 'test', level: 'silent', format: 'json' })

async function folderOf(
  t: TestContext,
  files: Record<string, string>,
): Promise<{ url: URL; add(files: Record<string, string>): Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), 'purser-migrate-'))
  t.after(() => rm(dir, { recursive: true }))
  const add = async (more: Record<string, string>) => {
    for (const [name, text] of Object.entries(more)) await writeFile(join(dir, name), text)
  }
  await add(files)
  return { url: pathToFileURL(`${dir}/`), add }
}

test('files are applied once, in order, also when five replicas start together', async t => {
  const { sql, url } = await testDatabase(t)
  const folder = await folderOf(t, {
    '0001-init.sql': 'create table app.thing (id int8); insert into app.thing values (1);',
    '0002-more.sql': 'insert into app.thing select id + 1 from app.thing;',
  })
  const replicas = Array.from({ length: 5 }, () => openSql({ url, max: 1, applicationName: 'replica', log }))
  t.after(() => Promise.all(replicas.map(replica => replica.end())))
  const results = await Promise.all(
    replicas.map(replica => migrate(replica, { schema: 'app', folder: folder.url, log })),
  )
  assert.deepEqual(results.flatMap(r => r.applied).sort(), ['0001-init.sql', '0002-more.sql'])
  assert.deepEqual([...(await sql`select id from app.thing order by id`)], [{ id: 1n }, { id: 2n }])
  await folder.add({ '0003-late.sql': 'insert into app.thing values (3)' })
  assert.deepEqual(await migrate(sql, { schema: 'app', folder: folder.url, log }), { applied: ['0003-late.sql'] })
})

test('a changed file is a start error that names it; other line endings are no change', async t => {
  const { sql } = await testDatabase(t)
  const folder = await folderOf(t, { '0001-init.sql': 'create table app.thing (\n  id int8\n);' })
  await migrate(sql, { schema: 'app', folder: folder.url, log })
  await folder.add({ '0001-init.sql': 'create table app.thing (\r\n  id int8\r\n);' })
  assert.deepEqual(await migrate(sql, { schema: 'app', folder: folder.url, log }), { applied: [] })
  await folder.add({ '0001-init.sql': 'create table app.thing (id int4);' })
  await assert.rejects(
    migrate(sql, { schema: 'app', folder: folder.url, log }),
    /0001-init\.sql of schema app was changed/,
  )
})

test('a file that fails leaves nothing behind and is named with its line', async t => {
  const { sql } = await testDatabase(t)
  const folder = await folderOf(t, {
    '0001-init.sql': 'create table app.thing (id int8);\n\ninsert into app.thing values (nope);',
  })
  await assert.rejects(
    migrate(sql, { schema: 'app', folder: folder.url, log }),
    /0001-init\.sql of schema app line 3: .*nope/,
  )
  const [row] = await sql`select to_regclass('app.thing') as found, to_regnamespace('app')::text as schema`
  assert.deepEqual({ ...row }, { found: null, schema: null })
})

test('a schema newer than the program is tolerated, so that a roll-back of one version starts', async t => {
  const { sql } = await testDatabase(t)
  const newer = await folderOf(t, {
    '0001-init.sql': 'create table app.thing (id int8)',
    '0002-new.sql': 'create table app.next (id int8)',
  })
  const older = await folderOf(t, { '0001-init.sql': 'create table app.thing (id int8)' })
  await migrate(sql, { schema: 'app', folder: newer.url, log })
  assert.deepEqual(await migrate(sql, { schema: 'app', folder: older.url, log }), { applied: [] })
})

test('a missing right is named with the GRANT that mends it, and the GRANT does mend it', async t => {
  const { sql, url } = await testDatabase(t)
  const role = `r_${process.pid}_${Date.now().toString(36)}`
  await sql.unsafe(`create role ${role} login`)
  t.after(async () => {
    await sql.unsafe(`drop owned by ${role}; drop role ${role}`)
  })
  const folder = await folderOf(t, { '0001-init.sql': 'create table app.thing (id int8)' })
  const asRole = url.includes('user=')
    ? url.replace(/user=[^&]*/, `user=${role}`)
    : url.replace(/\/\/[^@]*@/, `//${role}@`)
  const limited = openSql({ url: asRole, max: 1, applicationName: 'limited', log })
  t.after(() => limited.end())
  const refusal = await migrate(limited, { schema: 'app', folder: folder.url, log }).then(
    () => assert.fail('it had the right'),
    (error: Error) => error.message,
  )
  const grant = /run: (GRANT CREATE ON DATABASE .*);/.exec(refusal)?.[1]
  assert.ok(grant, refusal)
  await sql.unsafe(grant)
  assert.deepEqual(await migrate(limited, { schema: 'app', folder: folder.url, log }), { applied: ['0001-init.sql'] })
})
