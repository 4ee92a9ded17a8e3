// What has to be done now and then: partitions ahead of their day, the comparison of counts, usage of hours that are over.

import type { Health, HealthCheck } from '#platform/http'
import type { Logger, Registry } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import { type Outbox, openOutbox } from '#platform/usage/outbox'
import { mergeBatches } from '../store/batches.ts'
import { loadAccountedRows } from '../store/commits.ts'
import { sweepKeys } from '../store/idempotency.ts'
import { exportOldest } from '../store/quarantine.ts'
import { sweepResends } from '../store/resends.ts'
import { dayOf } from '../store/rows/partitions.ts'
import { countQuarantined } from '../store/totals.ts'
import { reportHours } from '../store/usage.ts'
import type { Database, ReadyDatabase } from './database.ts'
import type { Progress } from './progress.ts'
import { writeExport } from './quarantine-file.ts'

export interface Upkeep {
  addHealth(health: Health): void
  /** One round at once, for tests and for a stop that wants to leave nothing undone. */
  round(): Promise<void>
  /** Counts of the journal and of the database, now; they are in `progress`. */
  compare(): Promise<void>
  close(): Promise<void>
}

const quarantineKeepMs = 30 * 86_400_000
const quarantineBytesMax = 1024 ** 3
const everyMs = 30_000
/** Partitions that exist before their day does. */
const daysAhead = 2
/** A request received just before the hour ends may still be on its way to the journal. Later ones make another part. */
const hourGraceMs = 5_000
const hourMs = 3_600_000
/** Rounds between two merges of what tails go on by, and how much of it is left alone. */
const mergeEvery = 60
const batchesAsTheyAre = 1_000
/** Whether an hour is over is asked of the clock alone. */
const lookForHourEveryMs = 1_000

export function startUpkeep(o: {
  database: Database
  progress: Progress
  replica: string
  /** Of this replica: what leaves quarantine is kept there. */
  dir: string
  idempotencyTtlMs: number
  secret: Buffer
  billagedUrl: string | undefined
  /** What the journal keeps and must not keep any longer. */
  forget: () => Promise<void>
  clock: Clock
  log: Logger
  registry: Registry
}): Upkeep {
  const { database, progress, replica, clock, log } = o
  let outbox: Outbox | undefined
  let running: Promise<void> = Promise.resolve()
  let isClosed = false

  /** Hours since 1970 whose entries are all stored: accepted before the watermark, and none on its way any more. */
  const endedHours = () =>
    Math.floor(Math.min(clock.now() - hourGraceMs, Number(progress.watermarkUs() / 1_000n)) / hourMs)
  let toldHours = 0

  const round = async (parts: ReadyDatabase) => {
    const today = dayOf(clock.now() / 1_000)
    await parts.partitions.ensure(Array.from({ length: daysAhead + 1 }, (_, i) => today + i))
    await compare(parts)
    await sweepKeys(parts.reads, clock.now() - o.idempotencyTtlMs)
    await sweepResends(parts.reads, clock.now())
    await o.forget()
    await exportQuarantine(parts)
    progress.quarantinedRows = await countQuarantined(parts.reads)
    await reportUsage(parts)
    if (rounds++ % mergeEvery === 0) await mergeBatches(parts.reads, replica, batchesAsTheyAre)
  }
  let rounds = 0

  /** Only a count during which nothing was committed says anything. */
  const compare = async ({ reads, writer }: ReadyDatabase) => {
    const before = progress.committedRows
    const accounted = await loadAccountedRows(reads, replica)
    if (progress.committedRows !== before) return
    progress.compare(accounted)
    // Fewer than were committed: the database is an older one. What the journal still keeps of them goes in again, once.
    if (progress.imbalanceRows > 0 && progress.imbalanceRows !== recheckedRows) writer.recheck()
    recheckedRows = progress.imbalanceRows
  }
  let recheckedRows = 0

  const exportQuarantine = async ({ reads }: ReadyDatabase) => {
    const bounds = { receivedBeforeMs: clock.now() - quarantineKeepMs, bytesMax: quarantineBytesMax }
    const rows = await exportOldest(reads, bounds, entries => writeExport(o.dir, entries))
    if (rows > 0) log.warn({ rows, dir: o.dir }, 'old entries left quarantine for a file')
  }

  const reportUsage = async ({ reads }: ReadyDatabase) => {
    if (o.billagedUrl === undefined) return
    outbox ??= await openOutbox({
      sql: reads,
      schema: 'purser_logs',
      service: 'log-ingestion',
      // Ids carry the replica, which is unique everywhere.
      clusterId: 'default',
      billagedUrl: o.billagedUrl,
      secret: o.secret,
      log,
      clock,
      registry: o.registry,
    })
    const { report } = outbox
    const hours = endedHours()
    const nowMs = clock.now()
    const parts = await reportHours(reads, {
      replica,
      endedByMs: hours * hourMs,
      ofOthersByMs: nowMs - hourMs,
      report: (tx, events) => report(tx, events),
    })
    toldHours = hours
    if (parts > 0) log.info({ parts }, 'usage of past hours reported')
  }

  const run = (): Promise<void> => {
    const { parts } = database
    if (!parts || isClosed) return Promise.resolve()
    const next = running.then(() => round(parts))
    running = next.catch(error => {
      if (!isClosed) log.debug({ err: error }, 'upkeep failed; it is tried again')
    })
    return next
  }
  const timer = setInterval(() => void run().catch(() => {}), everyMs)
  timer.unref()
  // An hour's usage is told as soon as it is complete, not with the next round.
  const hourTimer = setInterval(() => {
    if (outbox && endedHours() > toldHours) void run().catch(() => {})
  }, lookForHourEveryMs)
  hourTimer.unref()
  void database.ready.then(run).catch(() => {})

  const usageHealth = (): HealthCheck => {
    if (o.billagedUrl === undefined)
      return { status: 'ok', detail: 'PURSER_BILLAGED_URL is not set: usage is counted and not reported' }
    return outbox?.status() ?? { status: 'ok', detail: 'not opened yet' }
  }

  return {
    addHealth: health => health.add('usage', usageHealth),
    round: run,
    async compare() {
      if (database.parts && !isClosed) await compare(database.parts)
    },
    async close() {
      clearInterval(timer)
      clearInterval(hourTimer)
      isClosed = true
      await running
      await outbox?.close()
    },
  }
}
