import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { testDatabase } from '../../test/kit/database.ts'
import { copyOut } from './copy-out.ts'

test('bytes come back as they are, between other queries of the same transaction, and a failing COPY fails', async t => {
  const { sql } = await testDatabase(t)
  await sql`create table blobs (id int8, data bytea)`
  const blobs = [randomBytes(3_000_000), Buffer.alloc(0), null, randomBytes(10)]
  for (const [i, data] of blobs.entries()) await sql`insert into blobs values (${BigInt(i)}, ${data})`
  await sql.begin(async tx => {
    for (let round = 0; round < 3; round++) {
      const rows = await copyOut(tx, 'select id, data from blobs order by id')
      assert.deepEqual(
        rows.map(([id]) => id?.readBigInt64BE()),
        [0n, 1n, 2n, 3n],
      )
      for (const [i, row] of rows.entries()) assert.deepEqual(row[1] && Buffer.from(row[1]), blobs[i])
      assert.deepEqual(await copyOut(tx, 'select 1 where false'), [])
      assert.equal((await tx`select 1 as one`)[0]?.one, 1)
    }
  })
  await assert.rejects(
    sql.begin(tx => copyOut(tx, 'select nothing from blobs')),
    /column "nothing" does not exist/,
  )
  await assert.rejects(
    sql.begin(tx => copyOut(tx, 'select 1 / (id - 3) from blobs, generate_series(1, 1000) order by id')),
    /division by zero/,
  )
  await assert.rejects(
    sql.begin(async tx => {
      await tx`select set_config('statement_timeout', '20', true)`
      return await copyOut(tx, 'select id, pg_sleep(0.01) from blobs, generate_series(1, 1000)')
    }),
    /statement timeout/,
  )
  assert.equal((await sql`select count(*) as n from blobs`)[0]?.n, 4n)
})
