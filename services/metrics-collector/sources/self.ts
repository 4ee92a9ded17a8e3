// The collector's own series and those of its process.

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { counter, gauge, type Reading } from '../sample.ts'
import { toMicroseconds } from '../stats.ts'
import { countProcEntries, type Roots } from './files.ts'

/** Coarse on purpose: every sample of it wakes the process, and an idle collector should sleep. */
const lagResolutionMs = 250

/** `own` gives what the service counts itself. */
export function selfSource(roots: Roots, version: string, own: () => Reading[]) {
  const lag = monitorEventLoopDelay({ resolution: lagResolutionMs })
  lag.enable()
  const startS = Math.round(Date.now() / 1_000 - process.uptime())
  const build = { version, runtime: process.version }
  return {
    async read(): Promise<Reading[]> {
      const cpu = process.cpuUsage()
      const lagS = lag.count === 0 ? 0 : Math.max(0, lag.percentile(99) / 1e9 - lagResolutionMs / 1_000)
      lag.reset()
      const openFiles = countProcEntries(roots, 'self/fd')
      return [
        ...own(),
        counter('process_cpu_seconds_total', (cpu.user + cpu.system) / 1e6),
        gauge('process_resident_memory_bytes', process.memoryUsage.rss()),
        ...(openFiles === undefined ? [] : [gauge('process_open_fds', openFiles)]),
        gauge('process_start_time_seconds', startS),
        gauge('nodejs_eventloop_lag_p99_seconds', toMicroseconds(lagS)),
        gauge('collector_build_info', 1, build),
        gauge('metrics_collector_build_info', 1, build),
      ]
    },
    close(): void {
      lag.disable()
    },
  }
}

export const selfHelp = {
  system_health_status: 'Health of everything: 0 ok, 1 degraded, 2 error.',
  collector_health_status: 'Health of the sources: 0 ok, 1 degraded, 2 error.',
  uploader_health_status: 'Health of the upload: 0 ok, 1 degraded, 2 error.',
  storage_health_status: 'Health of the storage: 0 ok, 1 degraded, 2 error.',
  time_health_status: 'Health of the clock: 0 ok, 1 degraded, 2 error.',
  uploader_last_success_timestamp: 'Unix time of the last successful upload; an empty queue counts as one.',
  collector_metrics_collected_total: 'Samples read, by source.',
  collector_metrics_failed_total: 'Runs that failed, by source.',
  collector_collection_duration_seconds: 'Time a source took.',
  collector_ticks_missed_total: 'Grid points that passed without a reading.',
  uploader_metrics_uploaded_total: 'Samples the endpoint took.',
  uploader_upload_failures_total: 'Requests that failed, by reason.',
  uploader_retries_total: 'Requests sent again.',
  uploader_upload_duration_seconds: 'Time a request took.',
  uploader_sent_bytes_total: 'Bytes of request bodies, by kind.',
  storage_database_size_bytes: 'Size of the database file.',
  storage_wal_size_bytes: 'Size of the write-ahead log.',
  storage_metrics_pending_upload: 'Samples waiting for their upload.',
  storage_oldest_pending_seconds: 'Age of the oldest sample waiting for its upload.',
  quarantine_samples: 'Samples set aside because the endpoint refused them.',
  storage_commit_seconds: 'Time the newest commit took.',
  samples_dropped_total: 'Samples that will never be delivered, by reason.',
  storage_series: 'Series known.',
  process_cpu_seconds_total: 'CPU time of this process.',
  process_resident_memory_bytes: 'Resident memory of this process.',
  process_open_fds: 'Open descriptors of this process.',
  process_start_time_seconds: 'Unix time this process started.',
  nodejs_eventloop_lag_p99_seconds: 'Delay of the event loop since the last reading, 99th percentile.',
  collector_build_info: 'Always 1; the labels say which build runs.',
  metrics_collector_build_info: 'Always 1; the labels say which build runs.',
} as const
