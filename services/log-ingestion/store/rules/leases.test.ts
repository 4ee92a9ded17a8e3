import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { migrate } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { testDatabase } from '../../../../test/kit/database.ts'
import { giveUpLease, LeaseLost, loadWatermarkUs, mustHoldLease, noteWatermark, takeLease } from './leases.ts'

async function database(t: TestContext) {
  const { sql } = await testDatabase(t)
  const log = createLog({ service: 'test', level: 'silent', format: 'json' })
  await migrate(sql, { schema: 'purser_logs', folder: new URL('../../migrations/purser_logs/', import.meta.url), log })
  return sql
}

test('a lease has one holder at a time, and work under an old one cannot commit', async t => {
  const sql = await database(t)
  const [a, b] = [randomUUID(), randomUUID()]
  const first = await takeLease(sql, 'x', a)
  assert.ok(first)
  assert.equal(await takeLease(sql, 'x', b), undefined)
  assert.deepEqual(await takeLease(sql, 'x', a), first, 'renewed')
  await sql.begin(tx => mustHoldLease(tx, first))

  await sql`update purser_logs.leases set until = clock_timestamp() - interval '1 second'`
  const second = await takeLease(sql, 'x', b)
  assert.equal(second?.token, first.token + 1n)
  await assert.rejects(
    sql.begin(tx => mustHoldLease(tx, first)),
    LeaseLost,
  )
  // Giving up what is lost takes nothing from the new holder.
  await giveUpLease(sql, first)
  assert.equal(await takeLease(sql, 'x', a), undefined)
  if (second) await giveUpLease(sql, second)
  assert.ok(await takeLease(sql, 'x', a))
})

test('of many who ask at once one gets the lease', async t => {
  const sql = await database(t)
  const taken = await Promise.all(Array.from({ length: 8 }, () => takeLease(sql, 'x', randomUUID())))
  assert.equal(taken.filter(lease => lease !== undefined).length, 1)
})

test('the watermark is that of the replica furthest behind, and never goes back', async t => {
  const sql = await database(t)
  const [a, b] = [randomUUID(), randomUUID()]
  assert.equal(await loadWatermarkUs(sql), undefined)
  await noteWatermark(sql, a, 1_700_000_000_000_001n)
  await noteWatermark(sql, b, 1_700_000_000_000_009n)
  await noteWatermark(sql, b, 1_700_000_000_000_003n)
  assert.equal(await loadWatermarkUs(sql), 1_700_000_000_000_001n)
  await noteWatermark(sql, a, 1_800_000_000_000_000n)
  assert.equal(await loadWatermarkUs(sql), 1_700_000_000_000_009n)
  // One that has not been seen for a day holds nobody back.
  await sql`update purser_logs.replicas set seen_at = now() - interval '25 hours' where replica = ${b}::uuid`
  assert.equal(await loadWatermarkUs(sql), 1_800_000_000_000_000n)
})
