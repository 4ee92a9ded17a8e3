// What is done now and then: log partitions, the blob cache, leftovers of crashes, counters against rows.

import { rm } from 'node:fs/promises'
import { arrayLiteral, type Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import { forgetBlob } from '../store/blobs.ts'
import { evictBlobs, listArtifacts } from '../store/disk.ts'
import { turnLogPartitions } from '../store/logs.ts'
import { reconcileUsage } from '../store/tenants.ts'

export interface MaintenanceOptions {
  sql: Sql
  log: Logger
  clock: Clock
  cacheDir: string
  outputDir: string
  cacheBytesMax: number
  cacheRetentionMs: number
  cleanupIntervalMs: number
  quotaCheckIntervalMs: number
  onCache: (bytes: number, evicted: number) => void
}

const logDays = 30
/** A folder without a build that wants it may be one that is just being published. */
const leftoverMs = 3_600_000

export async function startMaintenance(o: MaintenanceOptions): Promise<{ close(): Promise<void> }> {
  const { sql, log, clock } = o
  const chores: [name: string, everyMs: number, work: () => Promise<unknown>][] = [
    [
      'log partitions',
      Math.min(o.cleanupIntervalMs, 6 * 3_600_000),
      () => turnLogPartitions(sql, clock.now(), logDays),
    ],
    ['cache', o.cleanupIntervalMs, () => cleanCache(o)],
    ['leftovers', o.cleanupIntervalMs, () => removeLeftovers(o)],
    [
      'quota counters',
      o.quotaCheckIntervalMs,
      async () => {
        const differed = await reconcileUsage(sql)
        if (differed.length > 0)
          log.warn(
            { tenants: differed.slice(0, 20), count: differed.length },
            'quota counters differed from what they count; put right',
          )
      },
    ],
  ]
  const busy = new Set<Promise<unknown>>()
  const run = (name: string, work: () => Promise<unknown>) => {
    const done = work()
      .catch(error => log.warn({ err: error, chore: name }, 'maintenance failed; tried again next time'))
      .finally(() => busy.delete(done))
    busy.add(done)
    return done
  }
  // Lines of today need their partition before the first build.
  await turnLogPartitions(sql, clock.now(), logDays)
  const timers = chores.map(([name, everyMs, work]) => setInterval(() => void run(name, work), everyMs))
  for (const [name, , work] of chores.slice(1)) void run(name, work)
  return {
    async close() {
      for (const timer of timers) clearInterval(timer)
      await Promise.all(busy)
    },
  }
}

async function cleanCache(o: MaintenanceOptions) {
  const { removed, bytes } = await evictBlobs(o.cacheDir, {
    nowMs: Date.now(), // File times are the system's, whatever clock the service runs on.
    unusedMsMax: o.cacheRetentionMs,
    bytesMax: o.cacheBytesMax,
  })
  for (const digest of removed) await forgetBlob(o.sql, digest)
  o.onCache(bytes, removed.length)
}

/** Stagings nobody will rename any more, and folders of deleted builds. What no row knows at all is left to a person. */
async function removeLeftovers({ sql, outputDir }: MaintenanceOptions) {
  const old = (await listArtifacts(outputDir)).filter(artifact => Date.now() - artifact.changedAtMs > leftoverMs)
  const deleted = await sql<{ buildId: string }[]>`
    select build_id as "buildId" from builderd.builds
    where build_id = any(${arrayLiteral(old.map(artifact => artifact.buildId))}::text[])
      and (deleted_at is not null or state in ('FAILED', 'CANCELLED'))`
  const gone = new Set(deleted.map(row => row.buildId))
  for (const artifact of old)
    if (artifact.isStaging || gone.has(artifact.buildId)) await rm(artifact.path, { recursive: true, force: true })
}
