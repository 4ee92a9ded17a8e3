import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { testDatabase } from '../../test/kit/database.ts'

const int8 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })

test('int8 is bigint in both directions', async t => {
  const { sql } = await testDatabase(t)
  await fc.assert(
    fc.asyncProperty(int8, async value => {
      const [row] = await sql`select ${value}::int8 as value`
      assert.equal(row?.value, value)
    }),
    { numRuns: 50 },
  )
})

test('arrays go in and come back, NULLs and quotes included, from the first query of a pool on', async t => {
  const { sql } = await testDatabase(t)
  const [first] = await sql`select ${sql.array([1n, 2n ** 63n - 1n])}::int8[] as ids`
  assert.deepEqual(first?.ids, [1n, 2n ** 63n - 1n])
  const text = fc.oneof(
    fc.string({ unit: 'grapheme' }).filter(s => !s.includes('\0')),
    fc.constant('NULL'),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(fc.option(text)), async values => {
      const [row] = await sql`select ${values}::text[] as values, ${[values, values]}::text[] as nested`
      assert.deepEqual(row?.values, values)
      if (values.length > 0) assert.deepEqual(row?.nested, [values, values])
    }),
    { numRuns: 50 },
  )
  const at = new Date('2026-01-02T03:04:05.678Z')
  const [row] = await sql`
    select ${sql.array([at])} as times, ${sql.array([true, false])} as flags, array[]::int4[] as none,
           ${sql.array([Buffer.from([0, 92, 34])])} as bytes, array['{"a":"\\"}"}'::jsonb] as objects`
  assert.deepEqual(
    { ...row },
    {
      times: [at],
      flags: [true, false],
      none: [],
      bytes: [Buffer.from([0, 92, 34])],
      objects: [{ a: '"}' }],
    },
  )
})

test('a time given as text keeps its microseconds, and one read as a Date its milliseconds', async t => {
  const { sql } = await testDatabase(t)
  const [row] = await sql`
    select at, (extract(epoch from at) * 1000000)::int8 as us, at::text as text
    from (select ${'2026-01-02T03:04:05.123456Z'}::timestamptz as at)`
  assert.deepEqual(
    { ...row },
    {
      at: new Date('2026-01-02T03:04:05.123Z'),
      us: 1_767_323_045_123_456n,
      text: '2026-01-02 03:04:05.123456+00',
    },
  )
})
