// What has to be done now and then: partitions ahead of their day, the comparison of counts, usage of hours that are over.

import type { Health } from '#platform/http'
import type { Logger, Registry } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import type { Config } from '../config.ts'
import { loadAccountedRows } from '../store/commits.ts'
import { dayOf } from '../store/partitions.ts'
import { countQuarantined } from '../store/totals.ts'
import type { Database, ReadyDatabase } from './database.ts'
import type { Progress } from './progress.ts'

export interface Upkeep {
  addHealth(health: Health): void
  close(): Promise<void>
}

const everyMs = 30_000
/** Partitions that exist before their day does. */
const daysAhead = 2

export function startUpkeep(o: {
  database: Database
  progress: Progress
  replica: string
  secret: Buffer
  config: Config
  clock: Clock
  log: Logger
  registry: Registry
}): Upkeep {
  const { database, progress, clock, log } = o
  let running: Promise<void> = Promise.resolve()
  let isClosed = false

  const round = async (parts: ReadyDatabase) => {
    const today = dayOf(clock.now() / 1_000)
    await parts.partitions.ensure(Array.from({ length: daysAhead + 1 }, (_, i) => today + i))
    await compare(parts)
    progress.quarantinedRows = await countQuarantined(parts.reads)
  }

  /** Only a count during which nothing was committed says anything. */
  const compare = async ({ reads }: ReadyDatabase) => {
    const before = progress.committedRows
    const accounted = await loadAccountedRows(reads, o.replica)
    if (progress.committedRows === before) progress.compare(accounted)
  }

  const tick = () => {
    const { parts } = database
    if (!parts || isClosed) return
    running = running
      .then(() => round(parts))
      .catch(error => {
        if (!isClosed) log.debug({ err: error }, 'upkeep failed; it is tried again')
      })
  }
  const timer = setInterval(tick, everyMs)
  timer.unref()
  void database.ready.then(tick)

  return {
    addHealth() {},
    async close() {
      isClosed = true
      clearInterval(timer)
      await running
    },
  }
}
