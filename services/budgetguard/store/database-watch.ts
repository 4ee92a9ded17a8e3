// Whether Postgres answers, asked every second, for health and readiness.

import type { Sql } from '#platform/postgres'
import type { Clock } from '#platform/time'

export interface DatabaseWatch {
  isUp(): boolean
  /** 0 while it is up. */
  downMs(): number
  latencyMs(): number
  close(): void
}

const everyMs = 1_000

export function watchDatabase(sql: Sql, clock: Clock): DatabaseWatch {
  let downSinceMs: number | undefined
  let latencyMs = 0
  let isAsking = false
  const ask = async () => {
    if (isAsking) {
      // The last question is still open after a second: that is an answer too.
      downSinceMs ??= clock.monotonicMs()
      return
    }
    isAsking = true
    const startedMs = clock.monotonicMs()
    try {
      await sql`select 1`
      latencyMs = Math.round((clock.monotonicMs() - startedMs) * 10) / 10
      downSinceMs = undefined
    } catch {
      downSinceMs ??= startedMs
    } finally {
      isAsking = false
    }
  }
  const timer = setInterval(() => void ask(), everyMs)
  timer.unref()
  return {
    isUp: () => downSinceMs === undefined,
    downMs: () => (downSinceMs === undefined ? 0 : clock.monotonicMs() - downSinceMs),
    latencyMs: () => latencyMs,
    close: () => clearInterval(timer),
  }
}
