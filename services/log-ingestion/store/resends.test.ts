import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { RecordBuilder, readRecord } from '../record.ts'
import { openTestStore } from '../test/stored.ts'
import { claimResends, resendsKeptMs, sweepResends } from './resends.ts'
import type { PendingRecord } from './sink.ts'

const windowMs = 60_000

test('of one request in several journals the first to commit is stored; what one replica accepted twice, or comes later than the window, is another request', async t => {
  const { sql } = await openTestStore(t)
  const [one, two] = [randomUUID(), randomUUID()]
  const pending = (hash: number, atS: number): PendingRecord => {
    const builder = new RecordBuilder()
    builder.row(1, 0, 0, 'shop', 'hello', null)
    const payload = builder.finish({
      rowsBefore: 0n,
      protocol: 'native',
      receivedUs: 1_768_478_400_000_000n + BigInt(atS) * 1_000_000n,
      tenant: 'public',
      key: '7',
      idempotencyKey: '',
      dedupeHash: Buffer.alloc(16, hash),
    })
    return { record: readRecord(payload), segment: randomUUID(), from: 0, to: payload.length }
  }
  const duplicatesOf = async (replica: string, ...records: PendingRecord[]) => {
    const duplicates = new Set<PendingRecord>()
    await sql.begin(tx => claimResends(tx, { replica, windowMs }, records, duplicates))
    return records.map(record => duplicates.has(record))
  }
  const mine = pending(1, 0)
  assert.deepEqual(await duplicatesOf(one, mine, pending(2, 0)), [false, false])
  assert.deepEqual(await duplicatesOf(one, mine), [false], 'asked again')
  assert.deepEqual(await duplicatesOf(two, pending(1, 5), pending(3, 5)), [true, false])
  assert.deepEqual(await duplicatesOf(one, pending(1, 61), pending(1, 122)), [false, false], 'its own')
  assert.deepEqual(await duplicatesOf(two, pending(1, 300)), [false], 'long after')
  assert.deepEqual(await duplicatesOf(one, pending(1, 301)), [true])
  await sweepResends(sql, Date.now() + resendsKeptMs - 60_000)
  assert.equal((await sql`select from purser_logs.resends`).length, 3)
  await sweepResends(sql, Date.now() + resendsKeptMs + 60_000)
  assert.equal((await sql`select from purser_logs.resends`).length, 0)
})
