// What keeps the store healthy, on timers of its own: age, size, write-ahead log.

import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import type { Config } from './config.ts'
import type { Store } from './store/store.ts'

export interface MaintenanceOptions {
  store: Store
  clock: Clock
  config: Pick<Config, 'cleanupIntervalMs' | 'walCheckpointIntervalMs' | 'walCheckpointSizeMb'>
  log: Logger
}

/** How often sizes are looked at. */
const lookMs = 30_000
const sweepMs = 86_400_000

export function startMaintenance({ store, clock, config, log }: MaintenanceOptions) {
  const { retention } = store
  let cleanedMs = clock.monotonicMs()
  let checkpointedMs = clock.monotonicMs()
  let sweptMs = clock.monotonicMs()
  let timer: NodeJS.Timeout | undefined
  let working: Promise<void> = Promise.resolve()
  let isClosed = false

  const look = async (isFirst: boolean): Promise<void> => {
    const nowMs = clock.monotonicMs()
    const evictedBySize = await retention.evictBySize()
    if (evictedBySize > 0)
      log.warn({ frames: evictedBySize }, 'the database is near storage.max_bytes, old frames made room')
    if (isFirst || nowMs - cleanedMs >= config.cleanupIntervalMs) {
      cleanedMs = nowMs
      await retention.evictByAge(clock.now(), nowMs)
      store.flush()
      retention.shrink()
    }
    if (nowMs - sweptMs >= sweepMs) {
      sweptMs = nowMs
      await retention.sweep()
    }
    const isWalLarge = retention.size().walBytes > config.walCheckpointSizeMb * 1024 * 1024
    if (isWalLarge || nowMs - checkpointedMs >= config.walCheckpointIntervalMs) {
      checkpointedMs = nowMs
      const startedMs = performance.now()
      const result = retention.checkpoint()
      const facts = {
        ...result,
        reason: isWalLarge ? 'size' : 'interval',
        tookMs: Math.round(performance.now() - startedMs),
      }
      if (result.isBusy) log.warn(facts, 'the write-ahead log could not be moved into the file, someone reads it')
      else log.debug(facts, 'checkpoint')
    }
  }
  const run = (isFirst: boolean) => {
    working = look(isFirst)
      // A full or read-only disk: health already says so, and the next look tries again.
      .catch(error => log.error({ err: error }, 'the database could not be cleaned up'))
      .then(() => {
        if (!isClosed) timer = setTimeout(run, lookMs, false)
      })
  }
  run(true)

  return {
    async close(): Promise<void> {
      isClosed = true
      clearTimeout(timer)
      await working
    },
  }
}
