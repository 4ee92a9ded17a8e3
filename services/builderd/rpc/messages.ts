// Builds, limits and log lines as builder.v1 messages.

import { create, fromBinary } from '@bufbuild/protobuf'
import { type Timestamp, timestampFromDate, timestampFromMs } from '@bufbuild/protobuf/wkt'
import {
  BuildConfigSchema,
  type BuildJob,
  BuildJobSchema,
  BuildState,
  type StreamBuildLogsResponse,
  StreamBuildLogsResponseSchema,
  type TenantResourceLimits,
  TenantResourceLimitsSchema,
  TenantTier,
} from '#proto/builder/v1/builder_pb'
import type { BuildState as State } from '../build-state.ts'
import type { Limits, Tier } from '../quotas/limits.ts'
import type { Build } from '../store/build.ts'
import type { StoredLine } from '../store/logs.ts'

export const stateNumber: Readonly<Record<State, BuildState>> = {
  PENDING: BuildState.PENDING,
  PULLING: BuildState.PULLING,
  EXTRACTING: BuildState.EXTRACTING,
  BUILDING: BuildState.BUILDING,
  OPTIMIZING: BuildState.OPTIMIZING,
  COMPLETED: BuildState.COMPLETED,
  FAILED: BuildState.FAILED,
  CANCELLED: BuildState.CANCELLED,
  CLEANING: BuildState.CLEANING,
}

export const tierNumber: Readonly<Record<Tier, TenantTier>> = {
  free: TenantTier.FREE,
  pro: TenantTier.PRO,
  enterprise: TenantTier.ENTERPRISE,
  dedicated: TenantTier.DEDICATED,
}

export function jobMessage(build: Build, logs: readonly StoredLine[] = []): BuildJob {
  const { metrics, imageMetadata, isolation } = build
  return create(BuildJobSchema, {
    buildId: build.buildId,
    config: fromBinary(BuildConfigSchema, build.config),
    state: stateNumber[build.state],
    ...whenSet('createdAt', build.createdAt),
    ...whenSet('startedAt', build.startedAt),
    ...whenSet('completedAt', build.completedAt),
    rootfsPath: build.rootfsPath,
    rootfsSizeBytes: build.rootfsBytes ?? 0n,
    rootfsChecksum: build.rootfsSha256 ?? '',
    ...(imageMetadata && {
      imageMetadata: {
        ...imageMetadata,
        layers: [...imageMetadata.layers],
        command: [...imageMetadata.command],
        entrypoint: [...imageMetadata.entrypoint],
        exposedPorts: [...imageMetadata.exposedPorts],
        volumes: [...imageMetadata.volumes],
      },
    }),
    ...(metrics && {
      metrics: {
        pullDurationMs: BigInt(metrics.pullMs),
        extractDurationMs: BigInt(metrics.extractMs),
        buildDurationMs: BigInt(metrics.buildMs),
        optimizeDurationMs: BigInt(metrics.optimizeMs),
        totalDurationMs: build.runningMs,
        originalSizeBytes: BigInt(metrics.originalBytes),
        rootfsSizeBytes: BigInt(metrics.rootfsBytes),
        compressionRatio: BigInt(compressionRatio(metrics.originalBytes, metrics.rootfsBytes)),
        memoryPeakBytes: BigInt(metrics.memoryPeakBytes),
        diskUsageBytes: BigInt(metrics.diskBytes),
        cpuCoresUsed: 1,
      },
    }),
    ...(isolation && {
      isolation: { sandboxId: isolation.sandboxId, securityContexts: [...isolation.securityContexts] },
    }),
    errorMessage: build.errorMessage,
    buildLogs: logs.map(
      line => `${new Date(line.atMs).toISOString()} ${line.level.toUpperCase()} ${line.component} ${line.message}`,
    ),
    progressPercent: build.progress,
    currentStep: build.step,
  })
}

/** Percent saved, rounded down; a tar is usually a little larger than its layers were. */
export function compressionRatio(originalBytes: number, rootfsBytes: number): number {
  return originalBytes === 0 ? 0 : Math.floor((100 * (originalBytes - rootfsBytes)) / originalBytes)
}

export function limitsMessage(limits: Limits): TenantResourceLimits {
  return create(TenantResourceLimitsSchema, {
    maxMemoryBytes: BigInt(limits.memoryBytesMax),
    maxCpuCores: limits.coresMax,
    maxDiskBytes: BigInt(limits.diskBytesMax),
    timeoutSeconds: limits.timeoutS,
    maxConcurrentBuilds: limits.buildsMax,
    maxDailyBuilds: limits.dailyBuildsMax,
    maxStorageBytes: BigInt(limits.storageBytesMax),
    maxBuildTimeMinutes: limits.buildMinutesMax,
    allowedRegistries: [...(limits.registries ?? [])],
    allowedGitHosts: [...(limits.gitHosts ?? [])],
    allowExternalNetwork: limits.hasNetwork,
    allowPrivilegedBuilds: false,
    blockedCommands: [...limits.blockedCommands],
    sandboxLevel: limits.sandboxLevel,
  })
}

export function logMessage(line: StoredLine): StreamBuildLogsResponse {
  return create(StreamBuildLogsResponseSchema, {
    timestamp: timestampFromMs(line.atMs),
    level: line.level,
    message: line.message,
    component: line.component,
    metadata: { ...line.metadata, cursor: String(line.seq) },
  })
}

function whenSet<K extends string>(key: K, date: Date | null): Partial<Record<K, Timestamp>> {
  return date === null ? {} : ({ [key]: timestampFromDate(date) } as Record<K, Timestamp>)
}
