// What a journal shows: how full, how old, how fast, what failed.

import { Counter, Gauge, Histogram, type Registry } from '../telemetry.ts'

export interface JournalMetrics {
  appended(ms: number): void
  synced(ms: number): void
  failed(kind: 'DISK_FULL' | 'DISK_ERROR' | 'SYNC' | 'FULL'): void
}

export interface JournalGauges {
  bytes(): number
  bytesMax: number
  diskBytes(): number
  oldestAgeMs(): number
  damagedRanges(): number
}

/** Seconds. A sync takes 0.1 ms on a good SSD, 10 ms on a disk, and seconds on one that is dying. */
const buckets = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5]

/** Without a registry nothing is kept. */
export function journalMetrics(registry: Registry | undefined, prefix: string, gauges: JournalGauges): JournalMetrics {
  if (!registry) return { appended() {}, synced() {}, failed() {} }
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name: `${prefix}_${name}`,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  gauge('bytes', 'Bytes in the journal that some reader still needs.', gauges.bytes)
  gauge('capacity_bytes', 'Bytes at which appends are refused.', () => gauges.bytesMax)
  gauge('disk_bytes', 'Bytes of all segment files, kept ones included.', gauges.diskBytes)
  gauge(
    'oldest_pending_seconds',
    'Age of the oldest batch that some reader still needs.',
    () => gauges.oldestAgeMs() / 1e3,
  )
  gauge('damaged_ranges', 'Ranges found unreadable since the start.', gauges.damagedRanges)
  const append = new Histogram({
    name: `${prefix}_append_duration_seconds`,
    help: 'From append to acknowledgement, the wait for the sync included.',
    buckets,
    registers,
  })
  const sync = new Histogram({
    name: `${prefix}_fsync_duration_seconds`,
    help: 'Duration of one fdatasync, shared by a group of appends.',
    buckets,
    registers,
  })
  const errors = new Counter({
    name: `${prefix}_errors_total`,
    help: 'Groups refused by the disk (DISK_FULL, DISK_ERROR; SYNC beside it when the fsync failed), appends refused as FULL.',
    labelNames: ['kind'],
    registers,
  })
  return {
    appended: ms => append.observe(ms / 1e3),
    synced: ms => sync.observe(ms / 1e3),
    failed: kind => errors.inc({ kind }),
  }
}
