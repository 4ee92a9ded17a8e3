import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDatabase } from '../../test/kit/database.ts'

test('int8 is bigint in both directions, alone and in arrays', async t => {
  const { sql } = await testDatabase(t)
  const max = 2n ** 63n - 1n
  const [row] = await sql`select ${max}::int8 as one, ${sql.array([1n, max], 20)}::int8[] as many`
  assert.deepEqual({ ...row }, { one: max, many: [1n, max] })
})
