import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isDataError, isUnavailable, openSql } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { testDatabase } from '../../test/kit/database.ts'

async function failureOf(run: () => PromiseLike<unknown>): Promise<unknown> {
  try {
    await run()
  } catch (error) {
    return error
  }
  return assert.fail('it did not fail')
}

test('errors sort into wait, drop and mend', async t => {
  const { sql, url } = await testDatabase(t)
  await sql`create table item (id int8 primary key, name varchar(3) not null)`
  await sql`insert into item values (1, 'a')`
  const data = [
    () => sql`insert into item values (1, 'a')`,
    () => sql`insert into item values (2, null)`,
    () => sql`insert into item values (2, 'much too long')`,
    () => sql`insert into item values ('x'::int8, 'a')`,
    () => sql`select ${'{"a":1'}::text::jsonb`,
  ]
  for (const run of data) {
    const error = await failureOf(run)
    assert.deepEqual([isDataError(error), isUnavailable(error)], [true, false], String(error))
  }
  const mend = [
    () => sql`select nothing from item`,
    () => sql`select * from nowhere`,
    () => sql`select from item where id = ${undefined as never}`,
  ]
  for (const run of mend) {
    const error = await failureOf(run)
    assert.deepEqual([isDataError(error), isUnavailable(error)], [false, false], String(error))
  }

  const log = createLog({ service: 'test', level: 'silent', format: 'json' })
  const away = [
    'postgres://u@127.0.0.1:1/d',
    'postgres:///d?host=/nonexistent&user=u',
    'postgres://u@127.0.0.1:1,127.0.0.1:2/d',
  ]
  for (const address of away) {
    const other = openSql({ url: address, max: 1, applicationName: 'test', log })
    assert.ok(isUnavailable(await failureOf(() => other`select 1`)), address)
    await other.end()
  }
  const ended = openSql({ url, max: 1, applicationName: 'test', log })
  const error = await failureOf(() => ended`select pg_terminate_backend(pg_backend_pid())`)
  assert.ok(isUnavailable(error), String(error))
  await ended.end({ timeout: 0 })
  for (const nothing of [null, undefined, 'EPIPE', {}, new Error('x')]) {
    assert.deepEqual([isDataError(nothing), isUnavailable(nothing)], [false, false])
  }
})

test('a statement that runs too long is cancelled, and the pool goes on', async t => {
  const { url } = await testDatabase(t)
  const log = createLog({ service: 'test', level: 'silent', format: 'json' })
  const sql = openSql({ url, max: 1, applicationName: 'test', statementTimeoutMs: 50, log })
  t.after(() => sql.end())
  const error = await failureOf(() => sql`select pg_sleep(60)`)
  assert.match(String(error), /statement timeout/)
  assert.equal([...(await sql`select 1 as one`)].length, 1)
})
