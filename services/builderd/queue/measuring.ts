// The numbers on /metrics: counted as things happen, or asked of the database every few seconds.

import type { Sql } from '#platform/postgres'
import type { Clock } from '#platform/time'
import type { Step } from '../build/job.ts'
import type { Folders } from '../folders.ts'
import type { Metrics } from '../metrics.ts'
import { type LimitSettings, tierLimits } from '../quotas/limits.ts'
import type { Violation } from '../quotas/violation.ts'
import type { Build } from '../store/build.ts'
import { findBuild } from '../store/builds.ts'
import { spaceOf } from '../store/disk.ts'
import { loadBusy } from '../store/tenants.ts'
import type { LogFeed } from './log-feed.ts'
import type { Verdict } from './runner.ts'
import type { Scheduler } from './scheduler.ts'

export interface Measuring {
  watch(scheduler: Scheduler): void
  onStep(step: Step, seconds: number, hasFailed: boolean, registry: string): void
  onEnded(build: Build, verdict: Verdict, registry: string): void
  onViolation(tenantId: string, violation: Violation): void
  close(): void
}

const everyMs = 5_000
const tenantsMax = 1_000
const others = '_other'

export function openMeasuring(o: {
  sql: Sql
  clock: Clock
  metrics: Metrics
  folders: Folders
  limitSettings: LimitSettings
  feed: LogFeed
}): Measuring {
  const { sql, clock, metrics: m, folders } = o
  const namedTenants = new Set<string>()
  let scheduler: Scheduler | undefined
  let cpu = process.cpuUsage()
  let cpuAtMs = clock.monotonicMs()

  /** The first tenants that are refused get a name of their own; a label set must not grow with callers. */
  const tenantLabel = (tenantId: string) => {
    if (namedTenants.size < tenantsMax) namedTenants.add(tenantId)
    return namedTenants.has(tenantId) ? tenantId : others
  }

  const look = async () => {
    const { tenants, all } = await loadBusy(sql, tenantsMax)
    for (const gauge of [m.queueSize, m.queued]) gauge.set(Number(all.queued))
    const running = scheduler?.running() ?? []
    for (const gauge of [m.active, m.concurrent]) gauge.set(running.length)
    m.tenantActive.reset()
    for (const { build } of running) m.tenantActive.labels(build.tenantId).inc()
    for (const gauge of [m.tenantUse, m.tenantLimit, m.tenantStorage, m.storageRatio]) gauge.reset()
    for (const { tenantId, tier, active, storedBytes } of tenants) {
      const limits = tierLimits(tier, o.limitSettings)
      m.tenantUse.labels(tenantId, 'concurrent_builds').set(active)
      m.tenantLimit.labels(tenantId, 'concurrent_builds').set(limits.buildsMax)
      m.tenantUse.labels(tenantId, 'storage').set(Number(storedBytes))
      m.tenantLimit.labels(tenantId, 'storage').set(limits.storageBytesMax)
      m.tenantStorage.labels(tenantId).set(Number(storedBytes))
      m.storageRatio.labels(tenantId).set(Number(storedBytes) / limits.storageBytesMax)
    }
    m.followers.set(o.feed.followers())
    await lookAtMachine()
  }
  const lookAtMachine = async () => {
    m.memory.set(process.memoryUsage.rss())
    const nowMs = clock.monotonicMs()
    const used = process.cpuUsage(cpu)
    m.cpu.set(((used.user + used.system) / 1_000 / Math.max(1, nowMs - cpuAtMs)) * 100)
    cpu = process.cpuUsage()
    cpuAtMs = nowMs
    for (const path of new Set([folders.output, folders.cache, folders.scratch])) {
      const { freeBytes, totalBytes } = await spaceOf(path)
      m.diskUsed.labels(path).set(totalBytes - freeBytes)
      m.diskFree.labels(path).set(freeBytes)
    }
    const { freeBytes, totalBytes } = await spaceOf(folders.root)
    m.mountFree.labels(folders.root).set(freeBytes)
    m.mountTotal.labels(folders.root).set(totalBytes)
  }
  // A database that is away leaves the last numbers; /health says that it is away.
  const timer = setInterval(() => void look().catch(() => {}), everyMs)
  void look().catch(() => {})

  return {
    watch(running) {
      scheduler = running
    },
    onStep(step, seconds, hasFailed, registry) {
      m.steps.labels(step).inc()
      m.stepSeconds.labels(step).observe(seconds)
      if (hasFailed) m.stepErrors.labels(step).inc()
      else if (step === 'pull') {
        m.pullSeconds.observe(seconds)
        m.pullRegistrySeconds.labels(registry).observe(seconds)
      } else if (step === 'index') m.extractSeconds.observe(seconds)
      else if (step === 'verify') m.optimizeSeconds.observe(seconds)
      if (step === 'resolve' && !hasFailed) m.pulls.labels(registry).inc()
    },
    onEnded(build, verdict, registry) {
      if (verdict === 'LOST') m.leasesExpired.inc()
      if (verdict === 'LOST' || verdict === 'REQUEUED') return
      void findBuild(sql, build.buildId, null)
        .then(ended => {
          // Deleted in the same breath: then what the claim knew has to do.
          const known = ended ?? build
          const status = verdict.toLowerCase()
          m.builds.labels(status, 'docker_image', 'docker_extract', build.tier).inc()
          for (const histogram of [m.buildsSeconds, m.buildSeconds])
            histogram.labels('docker_image', status).observe(Number(known.runningMs) / 1_000)
          if (verdict === 'FAILED') m.errors.labels(known.errorMessage.split(':')[0] ?? 'INTERNAL').inc()
          if (verdict === 'CANCELLED') m.cancellations.inc()
          m.pulledBytes.labels(registry).inc(Number(known.pulledBytes))
          if (!known.metrics) return
          m.imageBytes.observe(known.metrics.originalBytes)
          m.rootfsBytes.observe(known.metrics.rootfsBytes)
          if (known.metrics.originalBytes > 0) m.ratio.observe(known.metrics.rootfsBytes / known.metrics.originalBytes)
        })
        .catch(() => {})
    },
    onViolation(tenantId, { quotaType }) {
      const label = tenantLabel(tenantId)
      m.violations.labels(label, quotaType).inc()
      m.tenantViolations.labels(label, quotaType).inc()
    },
    close: () => clearInterval(timer),
  }
}
