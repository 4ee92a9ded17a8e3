// builderd's own metric families. Labels are bounded: the busiest tenants by name, the rest together; registries that
// are configured or well known by name, the rest as `other`.

import { Counter, Gauge, Histogram, type Registry } from '#platform/telemetry'

const buildSeconds = [1, 5, 10, 30, 60, 120, 300, 600, 900, 1_800, 3_600]
const stepSeconds = [0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300]
const mib = 1024 ** 2

export type Metrics = ReturnType<typeof createMetrics>

export function createMetrics(registry: Registry) {
  const registers = [registry]
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    new Counter<L>({ name, help, labelNames, registers })
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    new Gauge<L>({ name, help, labelNames, registers })
  const histogram = <L extends string>(name: string, help: string, labelNames: readonly L[], buckets: number[]) =>
    new Histogram<L>({ name, help, labelNames, buckets, registers })
  return {
    builds: counter('builderd_builds_total', 'Builds that ended on this instance.', [
      'status',
      'source_type',
      'build_type',
      'tenant_tier',
    ]),
    buildsSeconds: histogram(
      'builderd_builds_duration_seconds',
      'Running time of builds, queue excluded.',
      ['source_type', 'status'],
      buildSeconds,
    ),
    buildSeconds: histogram(
      'builderd_build_duration_seconds',
      'The same as builderd_builds_duration_seconds.',
      ['source_type', 'status'],
      buildSeconds,
    ),
    stepSeconds: histogram('builderd_build_step_duration_seconds', 'Time per step of a build.', ['step'], stepSeconds),
    pullSeconds: histogram(
      'builderd_pull_duration_seconds',
      'Resolving and pulling.',
      [],
      [1, 5, 10, 30, 60, 120, 300, 600],
    ),
    extractSeconds: histogram(
      'builderd_extract_duration_seconds',
      'Unpacking and merging layers.',
      [],
      [0.1, 0.5, 1, 5, 10, 30, 60, 120],
    ),
    optimizeSeconds: histogram(
      'builderd_optimize_duration_seconds',
      'Verifying and publishing.',
      [],
      [0.1, 0.5, 1, 5, 10, 30, 60],
    ),
    steps: counter('builderd_build_steps_total', 'Steps that ended.', ['step']),
    stepErrors: counter('builderd_build_step_errors_total', 'Steps that failed or were stopped.', ['step']),
    errors: counter('builderd_build_errors_total', 'Failed builds by code.', ['code']),
    cancellations: counter('builderd_build_cancellations_total', 'Builds cancelled while they ran here.', []),
    queueSize: gauge(
      'builderd_builds_queue_size',
      'Builds that wait, in all of the database: use max() over instances.',
      [],
    ),
    queued: gauge('builderd_queued_builds', 'The same as builderd_builds_queue_size.', []),
    active: gauge('builderd_active_builds', 'Builds running on this instance.', []),
    concurrent: gauge('builderd_builds_concurrent', 'The same as builderd_active_builds.', []),
    tenantActive: gauge('builderd_tenant_builds_active', 'Builds running on this instance, by tenant.', ['tenant_id']),
    tenantUse: gauge('builderd_tenant_quota_usage', 'What a tenant uses of a quota.', ['tenant_id', 'quota_type']),
    tenantLimit: gauge('builderd_tenant_quota_limit', 'What a tenant may use.', ['tenant_id', 'quota_type']),
    tenantStorage: gauge('builderd_tenant_storage_usage_bytes', 'Artifacts of a tenant.', ['tenant_id']),
    storageRatio: gauge('builderd_storage_quota_usage_ratio', 'Artifacts of a tenant as a share of its quota.', [
      'tenant_id',
    ]),
    violations: counter('builderd_quota_violations_total', 'Requests refused by a quota.', ['tenant_id', 'quota_type']),
    tenantViolations: counter(
      'builderd_tenant_quota_violations_total',
      'The same as builderd_quota_violations_total.',
      ['tenant_id', 'quota_type'],
    ),
    pulls: counter('builderd_docker_pulls_total', 'Images resolved.', ['registry']),
    pullRegistrySeconds: histogram(
      'builderd_docker_pull_duration_seconds',
      'Resolving and pulling, by registry.',
      ['registry'],
      [1, 5, 10, 30, 60, 120, 300, 600],
    ),
    pulledBytes: counter('builderd_pulled_bytes_total', 'Bytes that came over the network.', ['registry']),
    cacheHits: counter('builderd_docker_cache_hits_total', 'Layers that were in the cache and could be used.', []),
    cacheMisses: counter('builderd_docker_cache_misses_total', 'Layers that were fetched.', []),
    cacheBytes: gauge('builderd_cache_size_bytes', 'Size of the cache.', ['cache_type']),
    cacheEvictions: counter('builderd_cache_evictions_total', 'Files taken out of the cache.', []),
    imageBytes: histogram(
      'builderd_image_size_bytes',
      'Unpacked layers of images.',
      [],
      [mib, 10 * mib, 100 * mib, 1024 * mib, 10_240 * mib],
    ),
    rootfsBytes: histogram(
      'builderd_rootfs_size_bytes',
      'Finished images.',
      [],
      [mib, 10 * mib, 100 * mib, 512 * mib, 1024 * mib, 5_120 * mib],
    ),
    ratio: histogram(
      'builderd_compression_ratio',
      'Finished image over unpacked layers.',
      [],
      [0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.5, 2],
    ),
    memory: gauge('builderd_memory_usage_bytes', 'Resident memory of the daemon.', []),
    cpu: gauge('builderd_cpu_usage_percent', 'CPU of the daemon since the last look, 100 is one core.', []),
    diskUsed: gauge('builderd_disk_usage_bytes', 'Used bytes of the file system of a folder.', ['path']),
    diskFree: gauge('builderd_disk_free_bytes', 'Free bytes of the file system of a folder.', ['path']),
    mountFree: gauge('disk_free_bytes', 'Free bytes where the artifacts are.', ['mountpoint']),
    mountTotal: gauge('disk_total_bytes', 'All bytes where the artifacts are.', ['mountpoint']),
    info: gauge('builderd_info', 'Always 1; the labels say which build runs.', ['version', 'commit']),
    followers: gauge('builderd_log_followers', 'Readers that wait for log lines.', []),
    leasesExpired: counter('builderd_leases_expired_total', 'Builds this instance lost to another.', []),
  }
}

const wellKnown = new Set([
  'docker.io',
  'ghcr.io',
  'quay.io',
  'gcr.io',
  'registry.k8s.io',
  'public.ecr.aws',
  'mcr.microsoft.com',
])

/** A registry as a label. */
export function registryLabel(registry: string, configured: readonly string[]): string {
  return wellKnown.has(registry) || configured.includes(registry) ? registry : 'other'
}
