// What the collector counts about itself. Plain numbers: they are stored and forwarded like any other sample.

import { counter, gauge, type Reading } from './sample.ts'

export interface Histogram {
  /** Upper bounds in seconds, ascending; +Inf is implied. */
  bounds: readonly number[]
  /** Not cumulative; one more than bounds. */
  counts: number[]
  sum: number
}

/** Decades: enough to tell a healthy source from a dying disk, and cheap to store at every tick. */
const durationBounds = [0.001, 0.01, 0.1, 1, 10]

export function newHistogram(bounds: readonly number[] = durationBounds): Histogram {
  return { bounds, counts: Array.from({ length: bounds.length + 1 }, () => 0), sum: 0 }
}

export function observe(histogram: Histogram, seconds: number): void {
  const bucket = histogram.bounds.findIndex(bound => seconds <= bound)
  const index = bucket < 0 ? histogram.bounds.length : bucket
  histogram.counts[index] = (histogram.counts[index] ?? 0) + 1
  histogram.sum = toMicroseconds(histogram.sum + seconds)
}

/** Clocks resolve no better, and VictoriaMetrics keeps 15 digits: a longer tail would not be read back as it was sent. */
export function toMicroseconds(seconds: number): number {
  return Math.round(seconds * 1e6) / 1e6
}

export function histogramReadings(name: string, histogram: Histogram, labels: Record<string, string> = {}): Reading[] {
  let cumulative = 0
  const buckets = histogram.counts.map((count, index) => {
    cumulative += count
    const bound = histogram.bounds[index]
    return counter(`${name}_bucket`, cumulative, { ...labels, le: bound === undefined ? '+Inf' : String(bound) })
  })
  return [...buckets, counter(`${name}_sum`, histogram.sum, labels), counter(`${name}_count`, cumulative, labels)]
}

export type SourceStatus = 'ok' | 'error'

export interface SourceStats {
  status: SourceStatus
  /** Why the last run failed; empty when it worked. */
  error: string
  /** Samples of the last run. */
  samples: number
  /** Wall time of the last run, Unix milliseconds; undefined before the first. */
  lastRunMs: number | undefined
  collected: number
  failed: number
  durationS: Histogram
}

export interface UploadStats {
  uploaded: number
  failures: Map<string, number>
  retries: number
  durationS: Histogram
  sentBytes: Map<'live' | 'backfill' | 'audit', number>
  /** Wall and monotonic time of the last success; an empty queue counts as one. */
  lastSuccessMs: number
  lastSuccessMonoMs: number
  /** Why nothing goes out at the moment, in the words of the health page; empty when all is well. */
  trouble: string
}

export interface Stats {
  startWallMs: number
  startMonoMs: number
  sources: Map<string, SourceStats>
  ticksMissed: number
  clockSteps: number
  upload: UploadStats
}

export function newStats(sourceNames: readonly string[], wallMs: number, monoMs: number): Stats {
  return {
    startWallMs: wallMs,
    startMonoMs: monoMs,
    sources: new Map(
      sourceNames.map(name => [
        name,
        {
          status: 'ok',
          error: '',
          samples: 0,
          lastRunMs: undefined,
          collected: 0,
          failed: 0,
          durationS: newHistogram(),
        },
      ]),
    ),
    ticksMissed: 0,
    clockSteps: 0,
    upload: {
      uploaded: 0,
      failures: new Map(),
      retries: 0,
      durationS: newHistogram([0.01, 0.1, 1, 10]),
      sentBytes: new Map(),
      lastSuccessMs: wallMs,
      lastSuccessMonoMs: monoMs,
      trouble: '',
    },
  }
}

/** The counters above as readings. */
export function statsReadings(stats: Stats): Reading[] {
  const { upload } = stats
  return [
    ...[...stats.sources].flatMap(([collector, source]) => [
      counter('collector_metrics_collected_total', source.collected, { collector }),
      counter('collector_metrics_failed_total', source.failed, { collector }),
      ...histogramReadings('collector_collection_duration_seconds', source.durationS, { collector }),
    ]),
    counter('collector_ticks_missed_total', stats.ticksMissed),
    gauge('uploader_last_success_timestamp', Math.floor(upload.lastSuccessMs / 1_000)),
    counter('uploader_metrics_uploaded_total', upload.uploaded),
    ...[...upload.failures].map(([reason, n]) => counter('uploader_upload_failures_total', n, { reason })),
    counter('uploader_retries_total', upload.retries),
    ...histogramReadings('uploader_upload_duration_seconds', upload.durationS),
    ...[...upload.sentBytes].map(([kind, n]) => counter('uploader_sent_bytes_total', n, { kind })),
  ]
}
