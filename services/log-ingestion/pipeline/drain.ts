// What a replica that is gone for ever left in its journal, stored by somebody else. The committed ranges are a set keyed
// by that replica, so whatever it stored itself, or an earlier drain did, is not stored again. What was deleted while it was
// gone is deleted again.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Journal, type JournalPosition, openJournal } from '#platform/journal'
import { migrate, openSql, type Sql } from '#platform/postgres'
import { createRegistry, type Logger } from '#platform/telemetry'
import { type Clock, sleep } from '#platform/time'
import { noPool } from '../buffer-pool.ts'
import { readRecord } from '../record.ts'
import { loadCommitted, storedUpTo } from '../store/commits.ts'
import { attachLogsTable } from '../store/rows/logs-table.ts'
import { openPartitions } from '../store/rows/partitions.ts'
import { rowsSink } from '../store/rows/sink.ts'
import { repeatDeletions } from '../store/rules/deletions.ts'
import { createMetrics } from './metrics.ts'
import { journalReader, openWriter } from './writer.ts'

export interface Drained {
  replica: string
  stored: number
  quarantined: number
  duplicates: number
  /** Deletions that look once more, because what they deleted may have been in this journal. */
  deletions: number
  /** Bytes of the journal that are not in the database yet. */
  bytesLeft: number
  /** Why, when there are some. */
  problem: string | undefined
}

const flushIntervalMs = 50
const pollMs = 50
/** In which every running replica sees that there is a deletion, and hides what it concerns. */
const heardWithinMs = 3_000
/** A request may have its time already and be behind a later one in the journal. */
const inFlightUs = 10_000_000n
/** A drain that is killed leaves jobs that end after this time. */
const holdMs = 3_600_000

/** `dir` is the data directory of that replica. @throws JournalLocked while it runs */
export async function drainJournal(o: {
  dir: string
  databaseUrl: string
  /** DEDUPE_WINDOW of the replicas: what it left may have been sent again to another one. */
  dedupeWindowMs: number
  /** Longest without any progress. */
  patienceMs: number
  clock: Clock
  log: Logger
}): Promise<Drained> {
  const { dir, clock, log } = o
  const replica = (await readFile(join(dir, 'replica'), 'utf8').catch(() => '')).trim()
  if (!/^[0-9a-f-]{36}$/.test(replica))
    throw new Error(`${join(dir, 'replica')} is missing: ${dir} is not the data directory of a replica`)
  const registry = createRegistry({ service: 'log-ingestion', version: '' })
  const journal = await openJournal({
    dir: join(dir, 'journal'),
    bytesMax: Number.MAX_SAFE_INTEGER,
    keepBytes: Number.MAX_SAFE_INTEGER,
    readers: [journalReader],
    log,
    clock,
  })
  const sql = openSql({ url: o.databaseUrl, max: 3, applicationName: 'log-ingestion drain', log })
  const drained: Drained = {
    replica,
    stored: 0,
    quarantined: 0,
    duplicates: 0,
    deletions: 0,
    bytesLeft: 0,
    problem: undefined,
  }
  try {
    const table = await attachLogsTable(sql, { indexProfile: 'fast', log })
    await migrate(sql, { schema: 'purser_logs', folder: new URL('../migrations/purser_logs/', import.meta.url), log })
    // Whoever asked for evidence of the rows before wants it of these.
    const [evidence] = await sql<{ found: boolean }[]>`select exists(select from purser_logs.row_links) as found`
    const isChained = evidence?.found ?? false
    const acceptedFromUs = await oldestUnstored(journal, sql, replica)
    const repeated =
      acceptedFromUs === undefined
        ? undefined
        : await repeatDeletions(sql, {
            acceptedFromUs: acceptedFromUs - inFlightUs,
            requestedBy: 'journal drain',
            why: `the journal of replica ${replica} was drained`,
            nowMs: clock.now(),
            holdMs,
          })
    if (repeated && repeated.ids.length > 0) await sleep(heardWithinMs)
    drained.deletions = repeated?.ids.length ?? 0
    let isCaughtUp = false
    let progressedMs = clock.monotonicMs()
    const writer = await openWriter({
      journal,
      replica,
      sql,
      sink: rowsSink({ sql, partitions: openPartitions(sql, table), isChained }),
      sequence: table.sequence,
      batchRows: 10_000,
      flushIntervalMs,
      pool: noPool,
      clock,
      log,
      metrics: createMetrics(registry, {
        pendingRows: () => 0,
        isDatabaseUp: () => true,
        imbalanceRows: () => 0,
        quarantineRows: () => 0,
        tails: () => 0,
      }),
      onCommitted(outcome) {
        progressedMs = clock.monotonicMs()
        drained.stored += outcome.stored
        drained.quarantined += outcome.quarantined
        drained.duplicates += outcome.duplicates
      },
      onCaughtUp: () => {
        isCaughtUp = true
      },
      acceptedRows: () => 0n,
      resends: o.dedupeWindowMs > 0 ? { isInDoubt: () => true, windowMs: o.dedupeWindowMs } : undefined,
    })
    while (!isCaughtUp && clock.monotonicMs() - progressedMs < o.patienceMs) await sleep(pollMs)
    drained.problem = isCaughtUp ? undefined : (writer.status().problem ?? 'no progress')
    await writer.close(0)
    await repeated?.release()
    drained.bytesLeft = isCaughtUp ? 0 : journal.bytes
    return drained
  } finally {
    await sql.end({ timeout: 2 })
    await journal.close()
  }
}

/** When the first record was accepted that is not, or not whole, in the database; undefined: all of it is there. */
async function oldestUnstored(journal: Journal, sql: Sql, replica: string): Promise<bigint | undefined> {
  const stored = await loadCommitted(sql, replica)
  for (let position: JournalPosition | null = null; ; ) {
    const { batches, next } = await journal.read(position)
    if (batches.length === 0) return undefined
    for (const { segment, from, to, payload } of batches)
      if (storedUpTo(stored.get(segment), from, to) < to) return readRecord(payload).receivedUs
    position = next
  }
}
