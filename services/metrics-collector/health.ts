// The health report in the guide's shape, computed from what is known at this moment.

import type { HealthComponent, HealthReport, HealthStatus } from './api.ts'
import { gauge, type Reading } from './sample.ts'
import type { SourceStats } from './stats.ts'

export interface HealthFacts {
  nowMs: number
  uptimeMs: number
  sources: ReadonlyMap<string, SourceStats>
  uploader: {
    isEnabled: boolean
    intervalMs: number
    lastSuccessMs: number
    sinceSuccessMs: number
    pending: number
    /** Samples collected in one upload interval. */
    samplesPerInterval: number
    trouble: string
  }
  storage: {
    databaseBytes: number
    walBytes: number
    walBytesMax: number
    pending: number
    writeError: string | undefined
  }
  /** `trouble`: why the clock could not be compared; empty when it could, or when there is nothing to compare with. */
  time: { skewMs: number | undefined; warnMs: number; trouble: string; isHolding: boolean }
}

export function healthReport(facts: HealthFacts): HealthReport {
  const timestamp = wholeSeconds(facts.nowMs)
  const components: Record<string, HealthComponent> = {}
  for (const [name, source] of facts.sources) {
    components[`collector.${name}`] = {
      status: source.status,
      message: source.status === 'ok' ? 'collecting metrics' : source.error,
      timestamp,
      details: { metrics_collected: source.samples },
    }
  }
  const { uploader, storage, time } = facts
  components.uploader = {
    ...uploaderHealth(facts.uploader),
    timestamp,
    details: {
      last_upload_time: wholeSeconds(uploader.lastSuccessMs),
      pending_count: uploader.pending,
      time_since_upload_seconds: Math.floor(uploader.sinceSuccessMs / 1_000),
    },
  }
  components.storage = {
    ...storageHealth(storage),
    timestamp,
    details: {
      database_size_bytes: storage.databaseBytes,
      wal_size_bytes: storage.walBytes,
      pending_count: storage.pending,
    },
  }
  components.time = {
    ...timeHealth(time),
    timestamp,
    // Null while there is nothing to compare the clock with: a 0 would claim that somebody looked.
    details: { skew_ms: time.skewMs === undefined ? null : Math.round(time.skewMs) },
  }
  return { status: overall(components), timestamp, uptime_seconds: Math.floor(facts.uptimeMs / 1_000), components }
}

type Verdict = Pick<HealthComponent, 'status' | 'message'>

function uploaderHealth(u: HealthFacts['uploader']): Verdict {
  if (!u.isEnabled) return { status: 'ok', message: 'upload disabled' }
  const intervalMs = Math.max(u.intervalMs, 1_000)
  const pendingHigh = Math.max(5_000, 3 * u.samplesPerInterval)
  if (u.sinceSuccessMs > 600_000 && u.pending > 2 * pendingHigh)
    return { status: 'error', message: 'no upload for over 10 minutes with high pending metric count' }
  if (u.trouble !== '') return { status: 'degraded', message: u.trouble }
  if (u.sinceSuccessMs > 10 * intervalMs)
    return { status: 'degraded', message: 'no upload within 10× interval threshold' }
  if (u.sinceSuccessMs > 2 * intervalMs)
    return { status: 'degraded', message: 'no upload within 2× interval threshold' }
  if (u.pending >= 2 * pendingHigh) return { status: 'degraded', message: 'high pending metric count' }
  if (u.pending >= pendingHigh) return { status: 'degraded', message: 'elevated pending metric count' }
  return { status: 'ok', message: 'uploading metrics' }
}

function storageHealth(s: HealthFacts['storage']): Verdict {
  if (s.writeError !== undefined) return { status: 'error', message: s.writeError }
  if (s.walBytes > s.walBytesMax)
    return { status: 'degraded', message: `write-ahead log is ${s.walBytes} bytes, over its limit of ${s.walBytesMax}` }
  return { status: 'ok', message: 'storage operational' }
}

function timeHealth(t: HealthFacts['time']): Verdict {
  if (t.isHolding)
    return { status: 'degraded', message: 'clock is not trusted, samples are held until it was compared' }
  if (t.trouble !== '') return { status: 'degraded', message: t.trouble }
  if (t.skewMs === undefined) return { status: 'ok', message: 'no time reference to compare with' }
  if (Math.abs(t.skewMs) > t.warnMs)
    return { status: 'degraded', message: `clock is ${Math.round(t.skewMs)} ms off, over the threshold of ${t.warnMs}` }
  return { status: 'ok', message: 'time synchronized' }
}

function overall(components: Readonly<Record<string, HealthComponent>>): HealthStatus {
  const entries = Object.entries(components)
  const collectors = entries.filter(([name]) => name.startsWith('collector.')).map(([, { status }]) => status)
  const others = entries.filter(([name]) => !name.startsWith('collector.')).map(([, { status }]) => status)
  if (others.includes('error')) return 'error'
  if (collectors.length > 0 && collectors.every(status => status === 'error')) return 'error'
  return [...collectors, ...others].every(status => status === 'ok') ? 'ok' : 'degraded'
}

const healthValue = { ok: 0, degraded: 1, error: 2 } as const satisfies Record<HealthStatus, number>

/** The report as gauges: 0 ok, 1 degraded, 2 error. */
export function healthReadings(report: HealthReport): Reading[] {
  const worst = (prefix: string) =>
    Math.max(
      ...Object.entries(report.components)
        .filter(([name]) => name === prefix || name.startsWith(`${prefix}.`))
        .map(([, { status }]) => healthValue[status]),
    )
  return [
    gauge('system_health_status', healthValue[report.status]),
    ...['collector', 'uploader', 'storage', 'time'].map(part => gauge(`${part}_health_status`, worst(part))),
  ]
}

function wholeSeconds(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`
}
