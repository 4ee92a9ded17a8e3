// Merges fresh blocks while nobody is waiting for the processor: entries on their way in come first.

import type { Logger } from '#platform/telemetry'
import type { Store } from '../store/store.ts'

export interface Compactor {
  close(): Promise<void>
}

const everyMs = 5_000
/** A few fresh blocks stay as they are this long: more may come to be merged with them. */
const coldAfterMs = 10 * 60_000
/** With more rows than this on their way, merging waits. */
const busyRows = 50_000

export function startCompactor(o: { store: Store; pendingRows: () => number; log: Logger }): Compactor {
  const stopping = new AbortController()
  let running: Promise<void> = Promise.resolve()

  const round = async () => {
    while (!stopping.signal.aborted && o.pendingRows() < busyRows && (await o.store.compact({ coldAfterMs })));
  }
  let isRunning = false
  const timer = setInterval(() => {
    if (isRunning) return
    isRunning = true
    running = round()
      .catch(error => {
        if (!stopping.signal.aborted) o.log.warn({ err: error }, 'merging blocks failed; it is tried again')
      })
      .finally(() => {
        isRunning = false
      })
  }, everyMs)
  timer.unref()

  return {
    async close() {
      clearInterval(timer)
      stopping.abort()
      await running
    },
  }
}
