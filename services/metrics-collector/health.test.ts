import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type HealthFacts, healthReport } from './health.ts'
import { newStats } from './stats.ts'

const nowMs = Date.UTC(2024, 0, 15, 10, 30)

function facts(change: (facts: HealthFacts) => void = () => {}): HealthFacts {
  const { sources } = newStats(['cpu'], nowMs, 0)
  Object.assign(sources.get('cpu') ?? {}, { samples: 8 })
  const made: HealthFacts = {
    nowMs,
    uptimeMs: 3_600_400,
    sources,
    uploader: {
      isEnabled: true,
      intervalMs: 30_000,
      lastSuccessMs: nowMs - 10_000,
      sinceSuccessMs: 10_000,
      pending: 120,
      samplesPerInterval: 65,
      trouble: '',
    },
    storage: {
      databaseBytes: 1_048_576,
      walBytes: 4_096,
      walBytesMax: 64 * 1024 * 1024,
      pending: 120,
      writeError: undefined,
    },
    time: { skewMs: 150, warnMs: 2_000, trouble: '', isHolding: false },
  }
  change(made)
  return made
}

test('the guide’s health report, key for key and in its order', () => {
  const timestamp = '2024-01-15T10:30:00Z'
  assert.equal(
    JSON.stringify(healthReport(facts())),
    JSON.stringify({
      status: 'ok',
      timestamp,
      uptime_seconds: 3600,
      components: {
        'collector.cpu': { status: 'ok', message: 'collecting metrics', timestamp, details: { metrics_collected: 8 } },
        uploader: {
          status: 'ok',
          message: 'uploading metrics',
          timestamp,
          details: { last_upload_time: '2024-01-15T10:29:50Z', pending_count: 120, time_since_upload_seconds: 10 },
        },
        storage: {
          status: 'ok',
          message: 'storage operational',
          timestamp,
          details: { database_size_bytes: 1048576, wal_size_bytes: 4096, pending_count: 120 },
        },
        time: { status: 'ok', message: 'time synchronized', timestamp, details: { skew_ms: 150 } },
      },
    }),
  )
})

test('each component is judged by its table', () => {
  const cases: [(facts: HealthFacts) => void, string, string, RegExp][] = [
    [f => (f.uploader.sinceSuccessMs = 61_000), 'uploader', 'degraded', /2× interval/],
    [f => (f.uploader.sinceSuccessMs = 301_000), 'uploader', 'degraded', /10× interval/],
    [f => (f.uploader.pending = 5_000), 'uploader', 'degraded', /^elevated pending/],
    [f => (f.uploader.pending = 10_000), 'uploader', 'degraded', /^high pending/],
    [f => Object.assign(f.uploader, { sinceSuccessMs: 601_000, pending: 10_000 }), 'uploader', 'degraded', /10×/],
    [
      f => Object.assign(f.uploader, { sinceSuccessMs: 601_000, pending: 10_001 }),
      'uploader',
      'error',
      /over 10 minutes/,
    ],
    [f => Object.assign(f.uploader, { samplesPerInterval: 10_000, pending: 29_000 }), 'uploader', 'ok', /uploading/],
    [f => (f.uploader.trouble = 'the endpoint refuses the token'), 'uploader', 'degraded', /token/],
    [f => Object.assign(f.uploader, { isEnabled: false, sinceSuccessMs: 1e9 }), 'uploader', 'ok', /^upload disabled$/],
    [f => (f.storage.walBytes = 65 * 1024 * 1024), 'storage', 'degraded', /over its limit/],
    [f => (f.storage.writeError = 'disk I/O error (SQLITE_IOERR, 10)'), 'storage', 'error', /SQLITE_IOERR/],
    [f => (f.time.skewMs = -2_001), 'time', 'degraded', /-2001 ms off/],
    [f => (f.time.isHolding = true), 'time', 'degraded', /samples are held/],
    [f => (f.time.trouble = 'clock check failed: no route'), 'time', 'degraded', /no route/],
    [f => (f.time.skewMs = 2_000), 'time', 'ok', /synchronized/],
  ]
  for (const [change, component, status, message] of cases) {
    const report = healthReport(facts(change))
    assert.equal(report.components[component]?.status, status)
    assert.match(report.components[component]?.message ?? '', message)
    assert.equal(report.status, status)
  }
})

test('one failed source degrades, all of them are an error', () => {
  const { sources } = newStats(['cpu', 'disk'], nowMs, 0)
  const fail = (name: string) => Object.assign(sources.get(name) ?? {}, { status: 'error', error: 'EIO' })
  fail('disk')
  assert.equal(healthReport(facts(f => Object.assign(f, { sources }))).status, 'degraded')
  fail('cpu')
  assert.equal(healthReport(facts(f => Object.assign(f, { sources }))).status, 'error')
})
