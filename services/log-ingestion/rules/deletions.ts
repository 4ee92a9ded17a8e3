// The worker behind deletions and retention. One replica at a time does it, by lease.
//
//   running ──▶ running    chunks are erased; a crash, an outage or another runner costs nothing: what is gone is not found
//   running ──▶ done       everything accepted before the job is stored, looked at, and gone; the tombstone is signed
//
// Matches are hidden from the moment the row is there (rule-book.ts), on every replica, across restarts.

import type { Counter } from 'prom-client'
import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { type Clock, rfc3339 } from '#platform/time'
import type { EvidenceKey } from '../evidence-key.ts'
import { parseQuery } from '../query/parse.ts'
import {
  addToDeletion,
  addToLedger,
  type DeletionJob,
  finishDeletion,
  isToldFor,
  loadRunningDeletions,
  lockDeletion,
  noteProblem,
} from '../store/rules/deletions.ts'
import { type Lease, LeaseLost, loadWatermarkUs, mustHoldLease } from '../store/rules/leases.ts'
import type { OnErased, Store } from '../store/store.ts'
import type { RuleBook } from './rule-book.ts'
import { chained, tombstoneOf } from './tombstone.ts'

export interface EraserOptions {
  sql: Sql
  store: Store
  rules: RuleBook
  evidence: EvidenceKey
  /** For digests. */
  digestKey: Buffer
  clock: Clock
  log: Logger
  removed: Counter<'why'>
}

const hourMs = 3_600_000
/** A request may have its time already and not yet be in the journal. */
const inFlightUs = 10_000_000n
/** In which each replica sees that the database is an older one, and says that it has something to store again. */
const noticedWithinMs = 10_000

/** Works on every job that is open, oldest first. */
export async function runDeletions(o: EraserOptions, lease: Lease, signal: AbortSignal): Promise<void> {
  const jobs = await loadRunningDeletions(o.sql)
  for (const job of jobs) {
    try {
      await runDeletion(o, job, lease, signal)
    } catch (error) {
      if (error instanceof LeaseLost || signal.aborted) throw error
      o.log.warn({ err: error, deletion: job.id }, 'a deletion could not go on; it is tried again')
      await noteProblem(o.sql, job.id, error instanceof Error ? error.message : String(error)).catch(() => {})
    }
  }
}

async function runDeletion(o: EraserOptions, job: DeletionJob, lease: Lease, signal: AbortSignal): Promise<void> {
  const { sql, store, clock } = o
  // Read before the pass: what is stored by then is what the pass can see.
  const watermarkUs = await loadWatermarkUs(sql)
  await store.erase(
    {
      tenant: job.tenant,
      query: parseQuery(job.q),
      fromNs: job.fromNs,
      toNs: job.toNs,
      acceptedBeforeUs: job.acceptedBeforeUs,
    },
    async (tx, chunk) => {
      await mustHoldLease(tx, lease)
      const current = await lockDeletion(tx, job.id)
      if (!current) throw new LeaseLost(`deletion ${job.id} was finished by another replica`)
      await addToDeletion(tx, job.id, { ...chunk, ...chained(o.digestKey, current, chunk) })
      await addToLedger(tx, 'deleted', { tenant: job.tenant, hourMs: hourOf(clock), rows: chunk.rows })
      o.removed.labels('deleted').inc(chunk.rows)
    },
    signal,
  )
  // Entries accepted before the job may still be on their way; they are hidden, and erased by a later pass.
  if (watermarkUs === undefined || watermarkUs < job.acceptedBeforeUs + inFlightUs) return
  if (!(await isToldFor(sql, job.id, noticedWithinMs))) return
  const finishedAt = rfc3339(clock.now())
  const done = await sql.begin(async tx => {
    await mustHoldLease(tx, lease)
    const current = await lockDeletion(tx, job.id)
    if (!current) return undefined
    await finishDeletion(tx, current, finishedAt, tombstoneOf(current, finishedAt, o.evidence))
    return current
  })
  if (done) o.log.info({ deletion: job.id, tenant: job.tenant, rows: String(done.rows) }, 'a deletion is done')
  await o.rules.refresh()
}

/** Takes away what has expired. */
export async function runExpiry(o: EraserOptions, lease: Lease, signal: AbortSignal): Promise<void> {
  const { retention } = o.rules
  const onErased: OnErased = async (tx, chunk) => {
    await mustHoldLease(tx, lease)
    await addToLedger(tx, 'expired', { tenant: chunk.tenant ?? '', hourMs: hourOf(o.clock), rows: chunk.rows })
    o.removed.labels('expired').inc(chunk.rows)
  }
  await o.store.expire(retention, o.clock.now(), onErased, signal)
}

function hourOf(clock: Clock): number {
  const now = clock.now()
  return now - (now % hourMs)
}
