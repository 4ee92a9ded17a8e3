import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openTestStore, row } from '../test/stored.ts'
import { loadBatchesAfter, loadHeads, mergeBatches } from './batches.ts'

test('the order of acceptance leads to ids; merging old batches changes nothing of it', async t => {
  const s = await openTestStore(t)
  const records = (n: number) => {
    const pending = [s.pending([row({ message: `${n}.0` }), row({ message: `${n}.1` })])]
    for (const one of pending) one.record.rowsBefore = BigInt(n * 2)
    return pending
  }
  for (let n = 0; n < 6; n++) await s.commit('rows', records(n))
  // Somebody else drew ids in between.
  await s.sql`select nextval('public.logs_id_seq')`
  for (let n = 6; n < 10; n++) await s.commit('rows', records(n))
  const [[replica, head] = ['', undefined]] = await loadHeads(s.sql)
  assert.equal(head?.rows, 20n)
  const idsOf = async () => {
    const ids: bigint[] = []
    for (const { firstId, rows } of await loadBatchesAfter(s.sql, replica, undefined, 100))
      for (let n = 0n; n < rows; n++) ids.push(firstId + n)
    return ids
  }
  const stored = (await s.sql<{ id: bigint }[]>`select id from logs order by id`).map(({ id }) => id)
  assert.deepEqual(await idsOf(), stored)
  await mergeBatches(s.sql, replica, 1)
  assert.deepEqual(await idsOf(), stored)
  const left = await loadBatchesAfter(s.sql, replica, undefined, 100)
  assert.deepEqual(
    left.map(({ firstRow, rows }) => [firstRow, rows]),
    [
      [0n, 12n],
      [12n, 6n],
      [18n, 2n],
    ],
  )
  const behind = await loadBatchesAfter(s.sql, replica, { segment: head?.segment ?? '', rows: 13n }, 100)
  assert.deepEqual(
    behind.map(({ firstRow }) => firstRow),
    [12n, 18n],
  )
})
