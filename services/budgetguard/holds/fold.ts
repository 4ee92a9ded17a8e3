// Works a journal into Postgres, in order, in batches, for as long as the process lives.
//
//   waiting → gathering (a moment, so that one transaction carries many calls) → folding → waiting …
//   database away: the batch is tried again, with growing pauses, until it is there; the journal meanwhile grows.

import type { Journal } from '#platform/journal'
import { isUnavailable, type Sql, type Tx } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { type Clock, sleep } from '#platform/time'
import { type FoldPlan, type Numbered, planFold } from '../fold-plan.ts'
import { decodeRecord } from '../record.ts'
import { AlreadyFolded, applyFold, type Folded, findPosition, type Position } from '../store/fold.ts'
import type { Serial } from './serial.ts'
import { foldReader } from './slot.ts'

export interface FoldOptions {
  sql: Sql
  journal: Journal
  nodeId: string
  log: Logger
  clock: Clock
  /** Usage events of the batch, written in its transaction. */
  report: (tx: Tx, plan: FoldPlan) => Promise<void>
  /** `folded` is null when the answer to the COMMIT was lost: it happened, but what the slices gave is not known. */
  onFolded?: (plan: FoldPlan, folded: Folded | null) => void
  /** Held while a batch changes both books, so that nobody compares them halfway. */
  serial: Serial
}

export interface Fold {
  /** Folds until nothing is left; throws when the database is away. */
  catchUp(): Promise<void>
  /** Folds from now on. */
  run(): void
  /** How long the oldest record has been waiting. */
  lagMs(): number
  close(): Promise<void>
}

const batchBytes = 2 * 1024 * 1024
/** Long enough to share a transaction, short enough that the console is current within a second. */
const gatherMs = 100
const pausesMs = [250, 500, 1_000, 2_000]

export async function openFold(o: FoldOptions): Promise<Fold> {
  const { sql, journal, nodeId, log } = o
  let position = await findPosition(sql, nodeId)
  if (position) journal.release(foldReader, position)
  const closing = new AbortController()
  let running: Promise<void> | undefined

  /** One batch; false when there was none. */
  const step = (): Promise<boolean> =>
    o.serial.run(async () => {
      const { batches, next } = await journal.read(position, { bytesMax: batchBytes })
      const last = batches.at(-1)
      if (!last) return false
      const records: Numbered[] = batches.map(batch => ({
        sequence: batch.sequence,
        record: decodeRecord(batch.payload),
      }))
      const plan = planFold(records)
      const to: Position = { segment: next.segment, offset: next.offset, sequence: last.sequence }
      try {
        const folded = await applyFold(sql, { nodeId, from: position, to, plan, report: tx => o.report(tx, plan) })
        o.onFolded?.(plan, folded)
      } catch (error) {
        const stored = await findPosition(sql, nodeId)
        const isDone = stored?.segment === to.segment && stored.offset === to.offset
        // The answer to a COMMIT can be lost; the position says whether it happened.
        if (!isDone) throw error instanceof AlreadyFolded ? strangerError(nodeId) : error
        o.onFolded?.(plan, null)
      }
      position = to
      journal.release(foldReader, position)
      return true
    })

  const catchUp = async () => {
    while (await step()) if (closing.signal.aborted) return
  }

  const loop = async () => {
    for (let failures = 0; !closing.signal.aborted; ) {
      try {
        await catchUp()
        failures = 0
        await journal.waitForMore(position ?? journal.end, closing.signal)
        await sleep(gatherMs, closing.signal)
      } catch (error) {
        if (closing.signal.aborted) return
        failures += 1
        const pauseMs = pausesMs[Math.min(failures, pausesMs.length) - 1] ?? 2_000
        if (isUnavailable(error)) log.warn({ err: error, pauseMs }, 'the ledger waits: the database is away')
        else log.error({ err: error, pauseMs }, 'BUG: the ledger cannot be folded; it is tried again')
        await sleep(pauseMs, closing.signal).catch(() => undefined)
      }
    }
  }

  return {
    catchUp,
    run() {
      running ??= loop()
    },
    lagMs: () => journal.oldestAgeMs,
    async close() {
      closing.abort()
      await running
    },
  }
}

function strangerError(nodeId: string): Error {
  return new Error(
    `BUG: another process folds the journal of node ${nodeId}; was its data folder copied while it was running?`,
  )
}
