// Block device counters from /proc/diskstats.

import { counter, gauge, type Reading } from '../sample.ts'
import { type Roots, readProc } from './files.ts'

export async function readDisk(roots: Roots, isAllowed: (device: string) => boolean): Promise<Reading[]> {
  const text = readProc(roots, 'diskstats')
  return text === undefined ? [] : parseDiskstats(text, isAllowed)
}

/** The kernel counts sectors of 512 bytes here whatever the device's own sector size is. */
const sectorBytes = 512

/** Fields in file order after major, minor and name. Kernels before 4.18 end at io_time_weighted, before 5.5 at discards. */
const fields: readonly { name: string; kind: 'c' | 'g'; scale: number }[] = [
  { name: 'node_disk_reads_completed_total', kind: 'c', scale: 1 },
  { name: 'node_disk_reads_merged_total', kind: 'c', scale: 1 },
  { name: 'node_disk_read_bytes_total', kind: 'c', scale: sectorBytes },
  { name: 'node_disk_read_time_seconds_total', kind: 'c', scale: 1e-3 },
  { name: 'node_disk_writes_completed_total', kind: 'c', scale: 1 },
  { name: 'node_disk_writes_merged_total', kind: 'c', scale: 1 },
  { name: 'node_disk_written_bytes_total', kind: 'c', scale: sectorBytes },
  { name: 'node_disk_write_time_seconds_total', kind: 'c', scale: 1e-3 },
  { name: 'node_disk_io_now', kind: 'g', scale: 1 },
  { name: 'node_disk_io_time_seconds_total', kind: 'c', scale: 1e-3 },
  { name: 'node_disk_io_time_weighted_seconds_total', kind: 'c', scale: 1e-3 },
  { name: 'node_disk_discards_completed_total', kind: 'c', scale: 1 },
  { name: 'node_disk_discards_merged_total', kind: 'c', scale: 1 },
  { name: 'node_disk_discarded_sectors_total', kind: 'c', scale: 1 },
  { name: 'node_disk_discard_time_seconds_total', kind: 'c', scale: 1e-3 },
  { name: 'node_disk_flush_requests_total', kind: 'c', scale: 1 },
  { name: 'node_disk_flush_requests_time_seconds_total', kind: 'c', scale: 1e-3 },
]

export function parseDiskstats(text: string, isAllowed: (device: string) => boolean): Reading[] {
  const readings: Reading[] = []
  for (const line of text.split('\n')) {
    const [, , device, ...values] = line.trim().split(/\s+/, 3 + fields.length)
    if (device === undefined || !isAllowed(device)) continue
    for (const [index, { name, kind, scale }] of fields.entries()) {
      const text = values[index]
      if (text === undefined || !/^\d+$/.test(text)) break
      // Dividing keeps milliseconds exact where multiplying by 0.001 would not.
      const value = scale < 1 ? Number(text) / Math.round(1 / scale) : Number(text) * scale
      readings.push((kind === 'c' ? counter : gauge)(name, value, { device }))
    }
  }
  return readings
}

export const diskHelp = {
  node_disk_reads_completed_total: 'Reads completed.',
  node_disk_reads_merged_total: 'Adjacent reads merged into one.',
  node_disk_read_bytes_total: 'Bytes read.',
  node_disk_read_time_seconds_total: 'Seconds spent reading, summed over requests.',
  node_disk_writes_completed_total: 'Writes completed.',
  node_disk_writes_merged_total: 'Adjacent writes merged into one.',
  node_disk_written_bytes_total: 'Bytes written.',
  node_disk_write_time_seconds_total: 'Seconds spent writing, summed over requests.',
  node_disk_io_now: 'Requests in progress.',
  node_disk_io_time_seconds_total: 'Seconds during which at least one request was in progress.',
  node_disk_io_time_weighted_seconds_total: 'Seconds of requests in progress, weighted by their number.',
  node_disk_discards_completed_total: 'Discards completed.',
  node_disk_discards_merged_total: 'Adjacent discards merged into one.',
  node_disk_discarded_sectors_total: 'Sectors of 512 bytes discarded.',
  node_disk_discard_time_seconds_total: 'Seconds spent discarding, summed over requests.',
  node_disk_flush_requests_total: 'Cache flushes completed.',
  node_disk_flush_requests_time_seconds_total: 'Seconds spent flushing caches.',
} as const
