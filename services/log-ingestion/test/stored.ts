// A store on a fresh database, and entries committed into either of its sinks, without a service around it.

import { randomUUID } from 'node:crypto'
import type { TestContext } from 'node:test'
import { migrate, openSql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { createEvidenceKey } from '../evidence-key.ts'
import { type Level, levelIndex } from '../level.ts'
import { noDedupe, RecordBuilder, readRecord } from '../record.ts'
import { openEncoder } from '../store/columnar/encoder.ts'
import { columnarSink } from '../store/columnar/sink.ts'
import { commitBatch } from '../store/commit.ts'
import { drawIds } from '../store/commits.ts'
import { openStore } from '../store/open-store.ts'
import { attachLogsTable } from '../store/rows/logs-table.ts'
import { openDailyPartitions, openPartitions } from '../store/rows/partitions.ts'
import { rowsSink } from '../store/rows/sink.ts'
import type { PendingRecord, Sink } from '../store/sink.ts'
import { createVisibility } from '../store/visibility.ts'

export interface Row {
  seconds: number
  nanos: number
  level: Level
  service: string
  message: string
  metadata: string | null
}

export const receivedUs = 1_768_478_400_000_000n
export const daySeconds = 1_768_478_400

export function row(o: Partial<Row> = {}): Row {
  return { seconds: daySeconds, nanos: 0, level: 'INFO', service: 'shop', message: 'hello', metadata: null, ...o }
}

export type TestStore = Awaited<ReturnType<typeof openTestStore>>

export async function openTestStore(t: TestContext) {
  const { sql, url } = await testDatabase(t)
  const { log } = testBase(t)
  const table = await attachLogsTable(sql, { indexProfile: 'fast', log })
  await migrate(sql, {
    schema: 'purser_logs',
    folder: new URL('../migrations/purser_logs/', import.meta.url),
    log,
  })
  const encoder = openEncoder()
  t.after(() => encoder.close())
  const writes = openSql({ url, max: 2, applicationName: 'test writer', log })
  t.after(() => writes.end({ timeout: 1 }))
  let nowMs = Number(receivedUs / 1_000n)
  const visibility = createVisibility(() => nowMs)
  const evidence = createEvidenceKey(Buffer.alloc(32, 7))
  const blockPartitions = openDailyPartitions(sql, { schema: 'purser_logs', table: 'blocks', boundOf: date => date })
  const sinks: Record<'rows' | 'chained' | 'columnar', Sink> = {
    rows: rowsSink({ sql, partitions: openPartitions(sql, table) }),
    chained: rowsSink({ sql, partitions: openPartitions(sql, table), isChained: true }),
    columnar: columnarSink({ encoder, partitions: blockPartitions }),
  }
  const store = openStore({ sql, writes, table, visibility, evidence, now: () => nowMs, encoder })
  const replica = randomUUID()
  const segment = randomUUID()
  let offset = 0

  const pending = (rows: readonly Row[], o: { tenant?: string; receivedUs?: bigint } = {}): PendingRecord => {
    const builder = new RecordBuilder()
    for (const { seconds, nanos, level, service, message, metadata } of rows)
      builder.row(seconds, nanos, levelIndex(level), service, message, metadata)
    const payload = builder.finish({
      rowsBefore: 0n,
      protocol: 'native',
      receivedUs: o.receivedUs ?? receivedUs,
      tenant: o.tenant ?? 'public',
      key: '7',
      idempotencyKey: '',
      dedupeHash: noDedupe,
    })
    const from = offset
    offset += 100
    return { record: readRecord(payload), segment, from, to: offset }
  }

  return {
    sql,
    store,
    sinks,
    encoder,
    evidence,
    visibility,
    setNow: (ms: number) => {
      nowMs = ms
    },
    pending,
    async commit(kind: keyof typeof sinks, records: readonly PendingRecord[], o: { quarantines?: boolean } = {}) {
      const rows = records.reduce((sum, { record }) => sum + record.rows, 0)
      const batch = { replica, records, rows, ids: await drawIds(sql, table.sequence, rows), damagedRows: 0 }
      const outcome = await commitBatch(sql, sinks[kind], batch, {
        myTurn: async () => {},
        quarantines: o.quarantines ?? false,
      })
      return { ...outcome, ids: batch.ids }
    },
  }
}
