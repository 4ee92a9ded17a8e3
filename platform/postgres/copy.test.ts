import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { copyBinary, copyRows, isDataError, isUnavailable } from '#platform/postgres'
import { testDatabase } from '../../test/kit/database.ts'

const text = fc.oneof(
  fc.string({ unit: 'binary' }).map(s => s.replaceAll('\0', '').toWellFormed()),
  fc.string({ unit: fc.constantFrom('\\', '\n', '\r', '\t', 'N', '.', '"', '\b', '\v', '\u2028', 'é') }),
  fc.constantFrom('\\N', '\\.', '', '\\\\', '\\x41', '\\101'),
)
const row = fc.record({
  text: fc.option(text),
  int: fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
  float: fc.option(fc.double({ noNaN: false })),
  flag: fc.option(fc.boolean()),
  at: fc.option(
    fc.date({ min: new Date('0001-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:59.999Z'), noInvalidDate: true }),
  ),
  bytes: fc.option(fc.uint8Array().map(bytes => Buffer.from(bytes))),
  object: fc.option(fc.dictionary(text, text)),
})

test('what goes in by COPY comes out the same: all of Unicode but NUL, escapes, bytes, times, extremes', async t => {
  const { sql } = await testDatabase(t)
  await sql`create table thing (n int, text text, int int8, float float8, flag bool, at timestamptz, bytes bytea, object json)`
  const columns = ['n', 'text', 'int', 'float', 'flag', 'at', 'bytes', 'object']
  await fc.assert(
    fc.asyncProperty(fc.array(row, { maxLength: 20 }), async rows => {
      await sql`truncate thing`
      const values = rows.map((r, n) => [n, r.text, r.int, r.float, r.flag, r.at, r.bytes, r.object])
      assert.equal(await copyRows(sql, { into: 'public.thing', columns, rows: values }), rows.length)
      const back = await sql`
        select text, int, float, flag, at, bytes, object::text as object from thing order by n`
      assert.deepEqual(
        back.map(r => ({ ...r })),
        rows.map(r => ({ ...r, object: r.object && JSON.stringify(r.object) })),
      )
    }),
    { numRuns: 60 },
  )
})

test('a COPY writes all of its rows or none, and says why: in a pool and in a transaction', async t => {
  const { sql } = await testDatabase(t)
  await sql`create table item (id int8 primary key)`
  const duplicate = { into: 'item', columns: ['id'], rows: [[1n], [2n], [1n]] }
  const isDuplicateKey = (error: unknown) =>
    isDataError(error) && !isUnavailable(error) && /duplicate key/.test(String(error))

  await assert.rejects(copyRows(sql, duplicate), isDuplicateKey)
  await assert.rejects(
    sql.begin(async tx => {
      await tx`insert into item values (9)`
      await copyRows(tx, duplicate)
    }),
    isDuplicateKey,
  )
  assert.deepEqual([...(await sql`select * from item`)], [])
  await sql.begin(async tx => {
    await assert.rejects(
      tx.savepoint(point => copyRows(point, duplicate)),
      isDuplicateKey,
    )
    await copyRows(tx, { ...duplicate, rows: [[5n]] })
    await copyRows(tx, { ...duplicate, rows: [[6n]] })
  })
  assert.deepEqual([...(await sql`select id from item order by id`)], [{ id: 5n }, { id: 6n }])
})

test('rows that cannot be made or stored end the COPY without a trace', async t => {
  const { sql } = await testDatabase(t)
  await sql`create table item (id int8, name text, at timestamptz)`
  function* broken() {
    for (let i = 0n; i < 50_000n; i++) yield [i, 'x'.repeat(20)]
    throw new Error('the source broke')
  }
  await assert.rejects(copyRows(sql, { into: 'item', columns: ['id', 'name'], rows: broken() }), /the source broke/)
  await assert.rejects(
    copyRows(sql, { into: 'item', columns: ['id', 'name'], rows: [[1n, 'a\0b']] }),
    error => isDataError(error) && /column name.*NUL/.test(String(error)),
  )
  await assert.rejects(
    copyRows(sql, { into: 'item', columns: ['at'], rows: [[new Date(Number.NaN)]] }),
    error => isDataError(error) && /column at/.test(String(error)),
  )
  // An error that the server reports while rows are still coming.
  function* wrongType() {
    for (let i = 0; i < 200_000; i++) yield [i === 10 ? 'ten' : i]
  }
  await assert.rejects(copyRows(sql, { into: 'item', columns: ['id'], rows: wrongType() }), isDataError)
  assert.deepEqual([...(await sql`select count(*) as n from item`)], [{ n: 0n }])
})

test('rows encoded by the caller in the binary format arrive, whatever the pieces', async t => {
  const { sql } = await testDatabase(t)
  await sql`create table item (id int8 primary key, name text)`
  const encoded = (ids: bigint[]) => {
    const parts = [Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1')]
    for (const id of ids) {
      const row = Buffer.alloc(2 + 4 + 8 + 4)
      row.writeInt16BE(2, 0)
      row.writeInt32BE(8, 2)
      row.writeBigInt64BE(id, 6)
      row.writeInt32BE(-1, 14)
      parts.push(row)
    }
    return Buffer.concat([...parts, Buffer.from([0xff, 0xff])])
  }
  const columns = ['id', 'name']
  const bytes = encoded([1n, 2n ** 62n])
  const pieces = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, i) => bytes.subarray(i * 7, i * 7 + 7))
  await copyBinary(sql, { into: 'item', columns, chunks: pieces })
  assert.deepEqual(
    [...(await sql`select id, name from item order by id`)],
    [
      { id: 1n, name: null },
      { id: 2n ** 62n, name: null },
    ],
  )
  await assert.rejects(copyBinary(sql, { into: 'item', columns, chunks: [encoded([5n, 1n])] }), isDataError)
  await assert.rejects(copyBinary(sql, { into: 'item', columns, chunks: [Buffer.from('nonsense')] }), isDataError)
  assert.deepEqual([...(await sql`select count(*) as n from item`)], [{ n: 2n }])
})

test('a large COPY beside other queries of the same pool neither disturbs them nor is disturbed', async t => {
  const { sql } = await testDatabase(t)
  await sql`create table item (id int8, name text)`
  function* many() {
    for (let i = 0n; i < 20_000n; i++) yield [i, `name ${i}`]
  }
  const copies = Array.from({ length: 8 }, () => copyRows(sql, { into: 'item', columns: ['id', 'name'], rows: many() }))
  const queries = Array.from({ length: 100 }, (_, i) => sql`select ${i}::int as i`.then(([found]) => found?.i))
  assert.deepEqual(await Promise.all(copies), Array(8).fill(20_000))
  assert.deepEqual(
    await Promise.all(queries),
    Array.from({ length: 100 }, (_, i) => i),
  )
  assert.deepEqual([...(await sql`select count(*) as n from item`)], [{ n: 160_000n }])
})

test('a connection lost in the middle of a COPY is an unavailability, and the pool goes on', async t => {
  const { sql } = await testDatabase(t)
  await sql`create table item (id int8)`
  let isTold = false
  const run = sql.begin(async tx => {
    const [me] = await tx`select pg_backend_pid() as pid`
    function* endless() {
      for (let i = 0n; i < 5_000_000n; i++) {
        if (i === 20_000n) {
          void sql`select pg_terminate_backend(${me?.pid})`.execute()
          isTold = true
        }
        yield [i]
      }
    }
    await copyRows(tx, { into: 'item', columns: ['id'], rows: endless() })
  })
  await assert.rejects(run, isUnavailable)
  assert.ok(isTold)
  assert.deepEqual([...(await sql`select count(*) as n from item`)], [{ n: 0n }])
})
