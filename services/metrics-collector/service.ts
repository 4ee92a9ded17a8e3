// Wiring: every object of a running collector, built once, top to bottom.

import type { Base } from '#platform/lifecycle'
import { startSequence } from '#platform/lifecycle/sequence'
import type { Clock } from '#platform/time'
import { rfc3339 } from '#platform/time'
import type { HealthReport, StatusResponse } from './api.ts'
import { bootClock } from './clock-epoch.ts'
import { startCollecting } from './collecting.ts'
import type { Config } from './config.ts'
import { openClient } from './delivery/client.ts'
import { startClockCheck } from './delivery/clock-check.ts'
import { readTokenFile, remoteTokenFile } from './delivery/token-file.ts'
import { startUploader } from './delivery/uploader.ts'
import { StartError } from './errors.ts'
import { type HealthFacts, healthReadings, healthReport } from './health.ts'
import { serveHttp } from './http/server.ts'
import { startMaintenance } from './maintenance.ts'
import { newestSamples } from './newest.ts'
import { openQueries } from './query/run.ts'
import { counter, gauge, type Reading, toSeries } from './sample.ts'
import { readBootId } from './sources/boot-id.ts'
import { selfSource } from './sources/self.ts'
import { describeFamily, makeSources } from './sources/sources.ts'
import { newStats, statsReadings, toMicroseconds } from './stats.ts'
import { openChunks } from './store/chunks.ts'
import { dropReasons } from './store/ledger.ts'
import { openStore } from './store/store.ts'

export type CollectorBase = Pick<Base, 'log' | 'version'> & { clock?: Clock }

export interface RunningCollector {
  url: string
  close(): Promise<void>
  /** False once a loop is past the time by which it promised progress. */
  isAlive(): boolean
  status(): StatusResponse
}

/** For one answer of the clock check. */
const clockTimeoutMs = 10_000

/** Wall time before this was never set by anyone. */
const buildMs = Date.UTC(2026, 0, 1)

/** Resolves when the first tick is committed and the port answers. `secret` is the platform's, when there is one. */
export async function start(config: Config, base: CollectorBase, secret?: Buffer): Promise<RunningCollector> {
  const { log, version } = base
  const clock = base.clock ?? bootClock
  const sequence = startSequence(log)
  for (const warning of config.warnings) log.warn(warning)
  try {
    return await startParts()
  } catch (error) {
    await sequence.close().catch(() => {})
    throw error
  }

  async function startParts(): Promise<RunningCollector> {
    const remote = config.remoteEnabled === false ? undefined : config.remoteUrl
    const clientOptions = { tokenFile: remoteTokenFile(config, log), token: config.remoteAuthToken }
    const bootId = readBootId(config.roots)
    const hostLabels = { ...config.externalLabels, device_id: config.deviceId }
    const stats = newStats([...config.intervalsMs.keys()], clock.now(), clock.monotonicMs())
    const store = await openStore({
      path: config.storagePath,
      bytesMax: config.storageBytesMax,
      walBytesMax: config.walCheckpointSizeMb * 1024 * 1024,
      localRetentionMs: config.localRetentionMs,
      ageMsMax: config.storageAgeMsMax,
      hostLabels,
      limits: { seriesMax: config.seriesMax, newPerDayMax: config.newSeriesPerDayMax },
      bootId,
      buildMs,
      output: remote === undefined ? undefined : 'default',
      nowMs: clock.now(),
    })
    sequence.onClose('store', async () => store.close())

    const clockUrl = config.clockUrl ?? (remote === undefined ? undefined : new URL('/health', remote).href)
    const clockCheck =
      clockUrl === undefined
        ? undefined
        : await sequence.add('clock check', async () =>
            startClockCheck({
              url: clockUrl,
              endpoint: remote,
              client: openClient({ ...clientOptions, timeoutMs: clockTimeoutMs }),
              intervalMs: config.clockCheckIntervalMs,
              warnMs: config.clockWarnMs,
              clock,
              log,
              onReading: store.frames.trustClock,
            }),
          )
    const clockState = () => clockCheck?.state() ?? { skewMs: undefined, trouble: '' }

    const health = (): HealthReport => {
      const { databaseBytes, walBytes } = store.retention.size()
      const facts: HealthFacts = {
        nowMs: clock.now(),
        uptimeMs: clock.monotonicMs() - stats.startMonoMs,
        sources: stats.sources,
        uploader: {
          isEnabled: remote !== undefined,
          intervalMs: config.uploadIntervalMs,
          lastSuccessMs: stats.upload.lastSuccessMs,
          sinceSuccessMs: clock.monotonicMs() - stats.upload.lastSuccessMonoMs,
          pending: store.pendingSamples,
          samplesPerInterval: samplesPer(config.uploadIntervalMs),
          trouble: stats.upload.trouble,
        },
        storage: {
          databaseBytes,
          walBytes,
          walBytesMax: config.walCheckpointSizeMb * 1024 * 1024,
          pending: store.pendingSamples,
          writeError: store.writeError,
        },
        time: {
          ...clockState(),
          warnMs: config.clockWarnMs,
          isHolding: remote !== undefined && !store.frames.isClockTrusted,
        },
      }
      return healthReport(facts)
    }
    const samplesPer = (ms: number) => {
      let samples = 0
      for (const [name, intervalMs] of config.intervalsMs)
        samples += ((stats.sources.get(name)?.samples ?? 0) * ms) / intervalMs
      return samples
    }

    const oldestPendingS = () => {
      const stampMs = store.oldestPendingStampMs()
      return stampMs === undefined ? 0 : Math.max(0, Math.round(clock.now() - stampMs) / 1_000)
    }

    const self = selfSource(config.roots, version, () => [
      ...statsReadings(stats),
      ...healthReadings(health()),
      ...storeReadings(),
    ])
    sequence.onClose('self', async () => self.close())
    const storeReadings = (): Reading[] => {
      const { databaseBytes, walBytes } = store.retention.size()
      return [
        gauge('storage_database_size_bytes', databaseBytes),
        gauge('storage_wal_size_bytes', walBytes),
        gauge('storage_metrics_pending_upload', store.pendingSamples),
        gauge('storage_oldest_pending_seconds', oldestPendingS()),
        gauge('quarantine_samples', store.quarantinedSamples()),
        gauge('storage_commit_seconds', toMicroseconds(store.commitMs / 1_000)),
        gauge('storage_series', store.series.byId.size),
        ...dropReasons.map(reason => counter('samples_dropped_total', store.dropped(reason), { reason })),
      ]
    }
    const readTime = async (): Promise<Reading[]> => {
      const { skewMs } = clockState()
      return [
        gauge('node_time_seconds', clock.now() / 1_000),
        counter('clock_step_total', stats.clockSteps),
        gauge('clock_trusted', store.frames.isClockTrusted ? 1 : 0),
        ...(skewMs === undefined
          ? []
          : [gauge('time_skew_ms', Math.round(skewMs)), gauge('clock_skew_seconds', Math.round(skewMs) / 1_000)]),
      ]
    }

    const newest = newestSamples(2.5 * Math.max(...config.intervalsMs.values()))
    store.onCommit(newest.take)
    store.onCommit(committed => {
      if (committed.isNewEpoch) stats.clockSteps++
    })

    // Before collecting, so that it stops after it: the last tick goes out too.
    const uploader =
      remote === undefined || !store.delivery
        ? undefined
        : startUploader({
            store,
            chunks: openChunks(store.database, store.frames, store.series, store.delivery),
            client: openClient({ ...clientOptions, timeoutMs: config.remoteTimeoutMs }),
            url: remote,
            config,
            stats: stats.upload,
            clock,
            log,
            version,
            clockKnown: clockCheck?.first ?? Promise.resolve(),
          })
    if (uploader) sequence.onClose('uploader', uploader.close, { timeoutMs: config.drainTimeoutMs + 5_000 })

    const sources = makeSources(config, { time: readTime, self: () => self.read() })
    const collecting = await sequence.add('collecting', async () =>
      startCollecting({
        sources,
        clock,
        stats,
        record: tick => store.record(tick) !== undefined,
        recordError: () => store.writeError,
        onFailure: (source, error) => log.warn({ source, error }, 'a source failed'),
      }),
    )
    await sequence.add('maintenance', async () => startMaintenance({ store, clock, config, log }))

    // Nobody is answered before something is stored.
    await collecting.first.catch(error => {
      throw new StartError(error instanceof Error ? error.message : String(error))
    })

    const status = (): StatusResponse => {
      const report = health()
      const { databaseBytes, usedBytes, walBytes } = store.retention.size()
      return {
        version,
        deviceId: config.deviceId,
        status: report.status,
        uptimeS: report.uptime_seconds,
        intervalsMs: Object.fromEntries(config.intervalsMs),
        series: store.series.byId.size,
        newestStampMs: store.frames.newestStampMs,
        storage: {
          path: config.storagePath,
          databaseBytes,
          usedBytes,
          walBytes,
          bytesMax: config.storageBytesMax,
          commitMs: store.commitMs,
        },
        upload: {
          isEnabled: remote !== undefined,
          pending: store.pendingSamples,
          uploaded: stats.upload.uploaded,
          lastSuccess: rfc3339(stats.upload.lastSuccessMs),
          trouble: stats.upload.trouble,
        },
        dropped: Object.fromEntries(dropReasons.map(reason => [reason, store.dropped(reason)])),
      }
    }
    const queries = openQueries({
      store,
      lookbackMs: Math.max(300_000, 2.5 * Math.max(...config.intervalsMs.values())),
      onDamaged: seq => log.error({ seq }, 'a damaged frame is left out of a query'),
    })
    const server = await sequence.add('http', () =>
      serveHttp(config.listen, {
        health,
        // Health is of this moment, not of the last tick; a database that cannot be written must show.
        newest: () => [
          ...newest.exposed().filter(sample => !sample.name.endsWith('_health_status')),
          ...healthReadings(health()).map(reading => ({ ...reading, labels: toSeries(reading, hostLabels).labels })),
        ],
        describe: describeFamily,
        sourceNames: [...config.intervalsMs.keys()],
        queries,
        series: () => store.series.byId.values(),
        nowMs: () => clock.now(),
        version,
        access: { apiToken: readTokenFile('api.token_file', config.apiTokenFile), secret, clock },
        live: { onCommit: store.onCommit, newest: newest.tick },
        allowOrigins: config.apiAllowOrigins,
        status,
        losses: sinceMs => store.ledger.list(sinceMs, 1_000),
        log,
      }),
    )
    return {
      url: server.url,
      close: () => sequence.close(),
      isAlive: () =>
        clock.monotonicMs() < Math.min(collecting.promisedMs, uploader?.promisedMs ?? Number.POSITIVE_INFINITY),
      status,
    }
  }
}
