import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { testBase } from '../../test/kit/base.ts'
import { testDatabase } from '../../test/kit/database.ts'
import { isUnavailable, openSql, type Sql, type Tx } from '../postgres.ts'

/** A pool of one connection, whose server process can be killed. */
async function singleConnection(t: TestContext) {
  const { url, sql: admin } = await testDatabase(t)
  await admin`create table made (by text)`
  const sql = openSql({ url, max: 1, applicationName: 'victim', log: testBase(t).log })
  t.after(() => sql.end({ timeout: 1 }))
  const kill = async () => {
    const rows =
      await admin`select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and application_name = 'victim'`
    assert.equal(rows.length, 1)
  }
  return { sql, admin, kill }
}

/** A transaction whose function waits after its first query, and goes on when told, its connection lost by then. */
async function startTransaction(sql: Sql, after: (tx: Tx) => Promise<unknown>) {
  const hasInserted = Promise.withResolvers<void>()
  const lost = Promise.withResolvers<void>()
  const afterwards = Promise.withResolvers<unknown>()
  const transaction = sql.begin(async tx => {
    await tx`insert into made values ('the lost transaction')`
    hasInserted.resolve()
    await lost.promise
    await after(tx).then(afterwards.resolve, afterwards.reject)
  })
  transaction.catch(() => undefined)
  afterwards.promise.catch(() => undefined)
  await hasInserted.promise
  return { transaction, afterwards: afterwards.promise, goOn: lost.resolve }
}

for (const [what, ask] of [
  ['a query', (tx: Tx) => tx`insert into made values ('a ghost')`],
  ['text', (tx: Tx) => tx.unsafe(`insert into made values ('a ghost')`)],
  ['a savepoint', (tx: Tx) => tx.savepoint(inner => inner`insert into made values ('a ghost')`)],
] as const) {
  test(`${what} after the connection was lost is an unavailability, and the pool goes on`, async t => {
    const { sql, kill } = await singleConnection(t)
    const { transaction, afterwards, goOn } = await startTransaction(sql, async tx => ask(tx))
    await kill()
    await assert.rejects(transaction, isUnavailable)
    goOn()
    await assert.rejects(afterwards, isUnavailable)
    assert.deepEqual([...(await sql`select by from made`)], [])
  })

  test(`${what} never ends up in the transaction that got the connection next`, async t => {
    const { sql, admin, kill } = await singleConnection(t)
    const { transaction, afterwards, goOn } = await startTransaction(sql, async tx => ask(tx))
    await kill()
    await assert.rejects(transaction, isUnavailable)
    await sql.begin(async tx => {
      await tx`insert into made values ('its heir')`
      goOn()
      await assert.rejects(afterwards, isUnavailable)
    })
    assert.deepEqual(
      (await admin`select by from made`).map(row => row.by),
      ['its heir'],
    )
  })
}

test('losing the connection in the middle of a statement ends in one error and a pool that works', async t => {
  const { sql, admin, kill } = await singleConnection(t)
  const transaction = sql.begin(async tx => {
    await tx`select pg_sleep(60)`
  })
  transaction.catch(() => undefined)
  while (
    (
      await admin`select from pg_stat_activity where datname = current_database() and application_name = 'victim' and query like '%pg_sleep%' and state = 'active'`
    ).length === 0
  );
  await kill()
  await assert.rejects(transaction, isUnavailable)
  // The driver remembers the server's last words and tells them to the next one who asks, once.
  await sql`select 1 as one`.catch(error => assert.ok(isUnavailable(error)))
  const [row] = await sql`select 1 as one`
  assert.equal(row?.one, 1)
})

test('a transaction that is over keeps nothing of its function alive', async t => {
  const { sql } = await singleConnection(t)
  setFlagsFromString('--expose-gc')
  const collectGarbage: () => void = runInNewContext('gc')
  const run = async () => {
    const held = { bytes: new Uint8Array(1024 * 1024) }
    await sql.begin(async tx => {
      await tx`select ${held.bytes.length}`
      await tx.savepoint(inner => inner`select ${held.bytes.length}`)
    })
    return new WeakRef(held)
  }
  const refs = []
  for (let i = 0; i < 10; i++) refs.push(await run())
  await new Promise(resolve => setImmediate(resolve))
  collectGarbage()
  // The connection remembers its last query until the next one.
  assert.ok(refs.filter(ref => ref.deref() !== undefined).length <= 1)
})
