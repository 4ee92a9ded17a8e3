// Merges fresh blocks while nobody is waiting for the processor: entries on their way in come first.

import type { Logger } from '#platform/telemetry'
import { type Clock, sleep } from '#platform/time'
import type { Store } from '../store/store.ts'

export interface Compactor {
  close(): Promise<void>
}

const everyMs = 5_000
/** A few fresh blocks stay as they are this long: more may come to be merged with them. */
const coldAfterMs = 10 * 60_000
/** Rows a second: above the first, merging takes a fifth of the time at most; above the second it waits altogether. */
const busyRowsPerS = 5_000
const floodRowsPerS = 40_000

export function startCompactor(o: { store: Store; acceptedRows: () => bigint; clock: Clock; log: Logger }): Compactor {
  const stopping = new AbortController()
  let running: Promise<void> = Promise.resolve()

  let lastRows = o.acceptedRows()
  let lastMs = o.clock.monotonicMs()
  /** Since the last time it was asked. */
  const rowsPerS = (): number => {
    const rows = o.acceptedRows()
    const nowMs = o.clock.monotonicMs()
    const speed = Number(rows - lastRows) / Math.max(0.1, (nowMs - lastMs) / 1_000)
    lastRows = rows
    lastMs = nowMs
    return speed
  }

  const round = async () => {
    for (let speed = rowsPerS(); speed < floodRowsPerS && !stopping.signal.aborted; speed = rowsPerS()) {
      const startedMs = o.clock.monotonicMs()
      if (!(await o.store.compact({ coldAfterMs }))) return
      if (speed > busyRowsPerS) await sleep((o.clock.monotonicMs() - startedMs) * 4, stopping.signal).catch(() => {})
    }
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
