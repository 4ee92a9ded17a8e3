// What a journal shows: how full, how old, how fast, what failed.

import { Counter, Gauge, Histogram, type Registry } from '../telemetry.ts'

export interface JournalMetrics {
  appended(ms: number): void
  synced(ms: number): void
  failed(kind: 'DISK_FULL' | 'DISK_ERROR' | 'SYNC' | 'FULL'): void
  /** This journal is no longer part of the gauges. */
  close(): void
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

/** The families of one prefix. A process may have several journals under it, and open one again after closing it: the
 *  counters go on, and the gauges show all that are open together. */
interface Families {
  open: Set<JournalGauges>
  append: Histogram
  sync: Histogram
  errors: Counter<'kind'>
}

const familiesOf = new WeakMap<Registry, Map<string, Families>>()

/** Without a registry nothing is kept. */
export function journalMetrics(
  registry: Registry | undefined,
  prefix: string,
  gauges: JournalGauges,
  syncName = `${prefix}_fsync_duration_seconds`,
): JournalMetrics {
  if (!registry) return { appended() {}, synced() {}, failed() {}, close() {} }
  const known = familiesOf.get(registry) ?? new Map<string, Families>()
  familiesOf.set(registry, known)
  const families = known.get(prefix) ?? registerFamilies(registry, prefix, syncName)
  known.set(prefix, families)
  families.open.add(gauges)
  return {
    appended: ms => families.append.observe(ms / 1e3),
    synced: ms => families.sync.observe(ms / 1e3),
    failed: kind => families.errors.inc({ kind }),
    close: () => void families.open.delete(gauges),
  }
}

function registerFamilies(registry: Registry, prefix: string, syncName: string): Families {
  const registers = [registry]
  const open = new Set<JournalGauges>()
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name: `${prefix}_${name}`,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  const sum = (of: (gauges: JournalGauges) => number) => () => [...open].reduce((total, one) => total + of(one), 0)
  gauge(
    'bytes',
    'Bytes in the journal that some reader still needs.',
    sum(one => one.bytes()),
  )
  gauge(
    'capacity_bytes',
    'Bytes at which appends are refused.',
    sum(one => one.bytesMax),
  )
  gauge(
    'disk_bytes',
    'Bytes of all segment files, kept ones included.',
    sum(one => one.diskBytes()),
  )
  gauge(
    'damaged_ranges',
    'Ranges found unreadable since the start.',
    sum(one => one.damagedRanges()),
  )
  gauge('oldest_pending_seconds', 'Age of the oldest batch that some reader still needs.', () =>
    [...open].reduce((oldest, one) => Math.max(oldest, one.oldestAgeMs() / 1e3), 0),
  )
  return {
    open,
    append: new Histogram({
      name: `${prefix}_append_duration_seconds`,
      help: 'From append to acknowledgement, the wait for the sync included.',
      buckets,
      registers,
    }),
    sync: new Histogram({
      name: syncName,
      help: 'Duration of one fdatasync, shared by a group of appends.',
      buckets,
      registers,
    }),
    errors: new Counter({
      name: `${prefix}_errors_total`,
      help: 'Groups refused by the disk (DISK_FULL, DISK_ERROR; SYNC beside it when the fsync failed), appends refused as FULL.',
      labelNames: ['kind'],
      registers,
    }),
  }
}
