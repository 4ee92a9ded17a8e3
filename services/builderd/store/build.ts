// A build as the rest of the service knows it, and the columns it is read from.

import type { Queryable } from '#platform/postgres'
import type { BuildMetrics, ImageMetadata } from '../build/job.ts'
import type { BuildState } from '../build-state.ts'
import type { Limits, Tier } from '../quotas/limits.ts'
import { stateOf } from './logs.ts'

export interface Build {
  buildId: string
  tenantId: string
  customerId: string
  tier: Tier
  name: string
  /** builder.v1.BuildConfig, secrets removed. */
  config: Buffer
  labels: Record<string, string>
  imageRef: string
  manifestDigest: string | null
  state: BuildState
  limits: Limits
  attempt: number
  leaseEpoch: bigint
  createdAt: Date
  startedAt: Date | null
  completedAt: Date | null
  runningMs: bigint
  pulledBytes: bigint
  progress: number
  step: string
  errorMessage: string
  rootfsPath: string
  rootfsBytes: bigint | null
  rootfsSha256: string | null
  imageMetadata: ImageMetadata | null
  metrics: BuildMetrics | null
  isolation: Isolation | null
}

/** How apart a build ran from everything else. */
export interface Isolation {
  sandboxId: string
  /** What was really in force: `process`, `user:1000`. */
  securityContexts: readonly string[]
}

export function buildColumns(sql: Queryable) {
  return sql`
    build_id as "buildId", tenant_id as "tenantId", customer_id as "customerId", tier, name, config, labels,
    image_ref as "imageRef", manifest_digest as "manifestDigest", state, limits, attempt, lease_epoch as "leaseEpoch",
    created_at as "createdAt", started_at as "startedAt", completed_at as "completedAt", running_ms as "runningMs",
    pulled_bytes as "pulledBytes", progress, step, error_message as "errorMessage", rootfs_path as "rootfsPath",
    rootfs_bytes as "rootfsBytes", rootfs_sha256 as "rootfsSha256", image_metadata as "imageMetadata", metrics, isolation`
}

export type BuildRow = Omit<Build, 'state'> & { state: string }

export function toBuild(row: BuildRow): Build {
  return { ...row, state: stateOf(row.state) }
}
