// What tenants sent today, for their quotas: what the ledger has of all replicas, and what waits in this one's journal.

import type { Sql } from '#platform/postgres'
import type { Volume } from '../access/volume.ts'
import { loadBytesSince } from '../store/reconcile.ts'
import type { Backlog } from './backlog.ts'

const everyMs = 5_000
const dayMs = 86_400_000

/** The function stops it. */
export function followDayUsage(o: {
  volume: Volume
  backlog: Backlog
  reads: () => Sql | undefined
  /** Whether anybody has a quota. */
  isWanted: () => boolean
}): () => void {
  let isReading = false
  const read = async () => {
    const sql = o.reads()
    if (!sql || isReading || !o.isWanted()) return
    isReading = true
    try {
      const begun = o.volume.mark()
      const sinceMs = begun.day * dayMs
      // First what waits: a commit in between is counted twice for five seconds rather than not at all.
      const waiting = o.backlog.pending().filter(item => item.hourMs >= sinceMs)
      const used = await loadBytesSince(sql, sinceMs)
      for (const { tenant, bytes } of waiting) used.set(tenant, (used.get(tenant) ?? 0) + bytes)
      o.volume.setDay(used, begun)
    } catch {
      // The database is away: what was known stays, and grows by what is charged here.
    } finally {
      isReading = false
    }
  }
  const timer = setInterval(() => void read(), everyMs)
  timer.unref()
  void read()
  return () => clearInterval(timer)
}
