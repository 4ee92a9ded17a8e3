// builderd's settings: the guide's names under UNKEY_BUILDERD_, and a few of our own.

import {
  bool,
  bytes,
  type ConfigOf,
  count,
  defineConfig,
  duration,
  host,
  list,
  oneOf,
  type Problem,
  port,
  ratio,
  secret,
  secretList,
  setting,
  text,
  url,
} from '#platform/config'
import { isHost } from './images/reference.ts'

const tiers = ['free', 'pro', 'enterprise', 'dedicated'] as const

/** Storage backends other tools of this kind offer; the messages say what works instead. */
const otherBackends = ['gcs', 'azure', 'ceph', 'iscsi'] as const

export const spec = defineConfig({
  service: 'builderd',
  prefixes: ['UNKEY_BUILDERD_'],
  file: { format: 'env' },
  settings: {
    // Server
    host: setting(host, { env: ['HOST', 'ADDRESS'], default: '127.0.0.1', doc: 'Address of the API and metrics.' }),
    port: setting(port, { env: 'PORT', default: '8082', doc: 'TCP port of the API.' }),
    isMetricsEnabled: setting(bool, { env: 'METRICS_ENABLED', default: 'true', doc: 'Serve the metrics port.' }),
    metricsPort: setting(port, { env: 'METRICS_PORT', default: '9090', doc: 'TCP port of metrics and health.' }),
    shutdownTimeoutMs: setting(duration.positive, {
      env: 'SHUTDOWN_TIMEOUT',
      default: '15s',
      doc: 'Time running builds get to finish when stopping; the rest is queued again.',
    }),
    healthRateLimit: setting(count.between(1, 1_000_000), {
      env: 'RATE_LIMIT',
      default: '100',
      doc: 'GET /health per second and client address, with a burst of 10.',
    }),
    isRateLimitEnabled: setting(bool, {
      env: 'RATE_LIMIT_ENABLED',
      default: 'false',
      doc: 'Limit RPCs per tenant by tier. Not there yet; true refuses the start.',
    }),
    authMode: setting(oneOf('auto', 'required'), {
      env: 'AUTH_MODE',
      default: 'auto',
      doc: '`auto`: open until the first credential with a builds scope or AUTH_TOKENS exists.',
    }),
    authTokens: setting(secretList, {
      env: 'AUTH_TOKENS',
      default: '',
      doc: 'Static credentials, `tenant:token`, comma separated.',
    }),

    // Builds
    buildsMax: setting(count.between(1, 1_000), {
      env: 'MAX_CONCURRENT_BUILDS',
      default: '5',
      doc: 'Builds this daemon runs at once.',
    }),
    buildTimeoutMs: setting(duration.between(1_000, 24 * 3_600_000), {
      env: 'BUILD_TIMEOUT',
      default: '15m',
      doc: 'Longest a build may run, queue excluded; a tier or request may only shorten it.',
    }),
    queuedMax: setting(count.between(1, 10_000_000), {
      env: 'MAX_QUEUED',
      default: '10000',
      doc: 'Builds that may wait in all.',
    }),
    scratchDir: setting(text, { env: 'SCRATCH_DIR', doc: 'Unfinished images; empty when no build runs.' }),
    outputDir: setting(text, { env: 'ROOTFS_OUTPUT_DIR', doc: 'Finished artifacts, a folder per build.' }),
    workspaceDir: setting(text, { env: 'WORKSPACE_DIR', doc: 'Contexts of Dockerfile builds.' }),
    cacheDir: setting(text, { env: 'CACHE_DIR', doc: 'Blobs pulled from registries.' }),
    cleanupIntervalMs: setting(duration.between(1_000, 24 * 3_600_000), {
      env: 'CLEANUP_INTERVAL',
      default: '1h',
      doc: 'How often old logs and unused cache files are removed.',
    }),
    workerMemoryBytesMax: setting(bytes.between(128 * 1024 ** 2, 2 ** 50), {
      env: 'MAX_BUILD_MEMORY',
      default: '2147483648',
      doc: 'A build process that grows past this is stopped.',
    }),
    initBinary: setting(text, {
      env: 'INIT_BINARY',
      doc: 'Static init program placed at /usr/bin/metald-init. Without one the image gets none, and the build log says so.',
    }),

    // Storage
    storageBackend: setting(oneOf('local', 'filesystem', 'nfs', 's3', 'minio', ...otherBackends), {
      env: 'STORAGE_BACKEND',
      default: 'local',
      doc: 'Where artifacts are: `local`, `filesystem` and `nfs` mean ROOTFS_OUTPUT_DIR. Others refuse the start for now.',
    }),
    retentionDays: setting(count.between(1, 36_500), {
      env: 'STORAGE_RETENTION_DAYS',
      doc: 'Days an artifact is kept, instead of the tier’s.',
    }),
    storageGbMax: setting(count.between(1, 1_000_000), {
      env: 'STORAGE_MAX_SIZE_GB',
      default: '100',
      doc: 'Space for artifacts of all tenants, GB of 1000³ bytes. CreateBuild is refused when they fill it.',
    }),
    cacheGbMax: setting(count.between(1, 1_000_000), {
      env: 'STORAGE_CACHE_MAX_SIZE_GB',
      default: '50',
      doc: 'Space for pulled blobs, GB; the least recently used go first.',
    }),
    cacheRetentionMs: setting(duration.positive, {
      env: 'CACHE_RETENTION',
      default: '168h',
      doc: 'A blob nobody used for this long is removed.',
    }),

    // Registries
    pullTimeoutMs: setting(duration.positive, {
      env: ['DOCKER_PULL_TIMEOUT', 'DOCKER_TIMEOUT'],
      default: '10m',
      doc: 'Longest all pulling of one build may take.',
    }),
    pullPolicy: setting(oneOf('always', 'missing', 'never'), {
      env: 'DOCKER_PULL_POLICY',
      default: 'always',
      doc: '`always` asks the registry for every build. The other two refuse the start for now.',
    }),
    defaultRegistry: setting(text.matching(/^[A-Za-z0-9.:[\]-]{1,255}$/, 'a host with or without port'), {
      env: 'DEFAULT_REGISTRY',
      default: 'docker.io',
      doc: 'Registry of references that name none.',
    }),
    imageGbMax: setting(count.between(1, 100_000), {
      env: 'DOCKER_MAX_IMAGE_SIZE_GB',
      default: '5',
      doc: 'Largest image, compressed layers together, GB.',
    }),
    imageBytesMax: setting(bytes.between(1, Number.MAX_SAFE_INTEGER), {
      env: 'MAX_IMAGE_SIZE',
      doc: 'The same in bytes; wins when set.',
    }),
    allowedRegistries: setting(list, {
      env: ['DOCKER_ALLOWED_REGISTRIES', 'ALLOWED_REGISTRIES'],
      default: '',
      doc: 'Registries any tenant may use. When set it replaces every tier’s list.',
    }),
    insecureRegistries: setting(list, {
      env: 'DOCKER_INSECURE_REGISTRIES',
      default: '',
      doc: 'host:port of registries spoken to in plain HTTP, also at private addresses; allowed for every tenant.',
    }),
    allowedPrivateHosts: setting(list, {
      env: 'ALLOWED_PRIVATE_HOSTS',
      default: '',
      doc: 'host[:port] or CIDR that may be private: token servers and redirect targets of registries.',
    }),
    localSourcesDir: setting(text, {
      env: 'LOCAL_SOURCES_DIR',
      doc: 'OCI layouts below it can be built as `oci:path:tag` by callers with builds:admin. Unset: refused.',
    }),

    // Tenants
    defaultTier: setting(oneOf(...tiers), {
      env: ['TENANT_DEFAULT_TIER', 'DEFAULT_TENANT_TIER'],
      default: 'free',
      doc: 'Tier of tenants nobody has set one for.',
    }),
    quotaCheckIntervalMs: setting(duration.between(1_000, 24 * 3_600_000), {
      env: 'TENANT_QUOTA_CHECK_INTERVAL',
      default: '5m',
      doc: 'How often quota counters are compared with the rows they count.',
    }),
    tenantMemoryBytesMax: setting(bytes, {
      env: 'TENANT_DEFAULT_MAX_MEMORY_BYTES',
      doc: 'Default tier: memory of a build.',
    }),
    tenantCoresMax: setting(count, { env: 'TENANT_DEFAULT_MAX_CPU_CORES', doc: 'Default tier: cores of a build.' }),
    tenantDiskBytesMax: setting(bytes, {
      env: 'TENANT_DEFAULT_MAX_DISK_BYTES',
      doc: 'Default tier: unpacked layers and image of a build.',
    }),
    tenantTimeoutS: setting(count, {
      env: 'TENANT_DEFAULT_TIMEOUT_SECONDS',
      doc: 'Default tier: running time of a build.',
    }),
    tenantBuildsMax: setting(count, {
      env: 'TENANT_DEFAULT_MAX_CONCURRENT_BUILDS',
      doc: 'Default tier: builds running at once.',
    }),
    tenantDailyBuildsMax: setting(count, {
      env: 'TENANT_DEFAULT_MAX_DAILY_BUILDS',
      doc: 'Default tier: builds accepted per UTC day.',
    }),
    tenantStorageBytesMax: setting(bytes, {
      env: 'TENANT_DEFAULT_MAX_STORAGE_BYTES',
      doc: 'Default tier: artifacts kept.',
    }),
    tenantBuildMinutesMax: setting(count, {
      env: 'TENANT_DEFAULT_MAX_BUILD_TIME_MINUTES',
      doc: 'Default tier: running time of a build.',
    }),

    // Isolation and encryption
    isIsolated: setting(bool, {
      env: ['ENABLE_ISOLATION', 'TENANT_ISOLATION_ENABLED'],
      default: 'true',
      doc: 'Build in a child process, as another user when started as root and the folders allow it.',
    }),
    buildUid: setting(count.between(0, 2 ** 32 - 2), {
      env: 'BUILD_USER_ID',
      default: '1000',
      doc: 'User that build processes drop to.',
    }),
    buildGid: setting(count.between(0, 2 ** 32 - 2), {
      env: 'BUILD_GROUP_ID',
      default: '1000',
      doc: 'Group that build processes drop to.',
    }),
    isEncryptionWanted: setting(bool, {
      env: 'ENABLE_ENCRYPTION',
      default: 'false',
      doc: 'Encrypt artifacts at rest. Not there yet: artifacts are stored in the clear and the start warns.',
    }),

    // Database
    databaseType: setting(oneOf('sqlite', 'embedded', 'postgres'), {
      env: 'DATABASE_TYPE',
      doc: '`postgres` needs DATABASE_URL or DATABASE_HOST; the other two mean the embedded PostgreSQL.',
    }),
    databaseUrl: setting(text, {
      env: 'DATABASE_URL',
      doc: 'PostgreSQL of builderd; wins over PURSER_DATABASE_URL. `file:` and `sqlite:` mean the embedded one.',
    }),
    databaseHost: setting(host, { env: 'DATABASE_HOST', doc: 'PostgreSQL without a URL: host.' }),
    databasePort: setting(port, { env: 'DATABASE_PORT', default: '5432', doc: 'Port.' }),
    databaseName: setting(text, { env: 'DATABASE_NAME', default: 'builderd', doc: 'Database.' }),
    databaseUser: setting(text, { env: 'DATABASE_USERNAME', default: 'builderd', doc: 'Role.' }),
    databasePassword: setting(secret, { env: 'DATABASE_PASSWORD', doc: 'Password.' }),
    databaseSslMode: setting(text, { env: 'DATABASE_SSL_MODE', default: 'disable', doc: 'sslmode.' }),
    databaseConnectionsMax: setting(count.between(4, 1_000), {
      env: 'DATABASE_MAX_CONNECTIONS',
      default: '10',
      doc: 'Connections of this daemon. The embedded server allows 60 in all.',
    }),

    // Telemetry
    isOtelEnabled: setting(bool, { env: 'OTEL_ENABLED', default: 'false', doc: 'Send traces.' }),
    otelEndpoint: setting(text, { env: 'OTEL_ENDPOINT', default: 'localhost:4318', doc: 'OTLP/HTTP collector.' }),
    otelSamplingRate: setting(ratio, {
      env: ['OTEL_SAMPLING_RATE', 'OTEL_SAMPLE_RATE'],
      default: '1.0',
      doc: 'Share of traces that are sent.',
    }),
    otelPrometheusPort: setting(port, {
      env: 'OTEL_PROMETHEUS_PORT',
      doc: 'A second metrics port, as older units have it (9466).',
    }),
    otelPrometheusHost: setting(host, {
      env: 'OTEL_PROMETHEUS_INTERFACE',
      default: '127.0.0.1',
      doc: 'Address of that second port.',
    }),

    // TLS
    tlsMode: setting(oneOf('disabled', 'file', 'spiffe'), {
      env: 'TLS_MODE',
      doc: '`file` serves TLS from the files below; `spiffe` refuses the start for now.',
    }),
    isTlsEnabled: setting(bool, { env: 'TLS_ENABLED', default: 'false', doc: 'true means TLS_MODE=file.' }),
    tlsCertFile: setting(text, { env: 'TLS_CERT_FILE', doc: 'Certificate chain, PEM.' }),
    tlsKeyFile: setting(text, { env: 'TLS_KEY_FILE', doc: 'Private key, PEM.' }),
    tlsCaFile: setting(text, {
      env: 'TLS_CA_FILE',
      doc: 'When set, clients must present a certificate that this authority signed.',
    }),

    // Hand-over
    isAssetManagerEnabled: setting(bool, {
      env: 'ASSETMANAGER_ENABLED',
      default: 'false',
      doc: 'Register artifacts with an asset manager. Not there yet; true refuses the start.',
    }),
    assetManagerUrl: setting(url, { env: 'ASSETMANAGER_ENDPOINT', doc: 'Where the asset manager is. Not used yet.' }),

    givenDataDir: setting(text, {
      bare: ['PURSER_DATA_DIR'],
      doc: 'When set, builderd’s folders default to places below it; otherwise below /var/lib/builderd when that is writable.',
    }),
  },
  // Names of the guide for parts that are not there yet. They change nothing; the start says so once.
  alsoKnown: [
    'RATE_LIMIT_REQUESTS',
    'HEALTH_CHECK_ENABLED',
    'HEALTH_CHECK_INTERVAL',
    'LOG_FILE',
    'ADVERTISE_URL',
    'ALLOWED_ORIGINS',
    'MAX_BUILD_CPU',
    'RETRY_MAX',
    'RETRY_BASE',
    'RETRY_CAP',
    'BOOT_PROOF',
    'BOOT_KERNEL',
    'SIGNING_KEY',
    'SIGNING_KEY_FILE',
    'MAX_STORAGE_SIZE',
    'STORAGE_CACHE_ENABLED',
    'S3_BUCKET',
    'S3_REGION',
    'S3_ENDPOINT',
    'S3_ACCESS_KEY_ID',
    'S3_SECRET_ACCESS_KEY',
    'S3_SECRET_ACCESS_KEY_FILE',
    'S3_PREFIX',
    'S3_ENCRYPTION',
    'S3_FORCE_PATH_STYLE',
    'MINIO_ENDPOINT',
    'MINIO_ACCESS_KEY',
    'MINIO_SECRET_KEY',
    'MINIO_SECRET_KEY_FILE',
    'MINIO_BUCKET',
    'DOCKER_REGISTRY_AUTH',
    'BLOCKED_DOMAINS',
    'DOCKER_REGISTRY_MIRROR',
    'DOCKER_SOCKET',
    'DOCKER_HOST',
    'DOCKER_LOCAL_IMAGES',
    'TENANT_AUTO_CREATE',
    'TENANTS_FILE',
    'ENABLE_SECCOMP',
    'ENABLE_CGROUPS',
    'NETWORK_MODE',
    'APPARMOR_PROFILE',
    'SELINUX_CONTEXT',
    'ENCRYPTION_KEY',
    'ENCRYPTION_KEY_FILE',
    'ENCRYPTION_TIERS',
    'ENABLE_AUDIT_LOGGING',
    'AUDIT_LOG_FILE',
    'DATABASE_DATA_DIR',
    'DATABASE_IDLE_TIMEOUT',
    'DATABASE_CONNECT_TIMEOUT',
    'ASSETMANAGER_REQUIRED',
    'KERNELS_DIR',
    'WEBHOOK_TIMEOUT',
    'OTEL_INSECURE',
    'OTEL_SERVICE_NAME',
    'OTEL_SERVICE_VERSION',
    'OTEL_PROMETHEUS_ENABLED',
    'OTEL_HIGH_CARDINALITY_ENABLED',
    'SPIFFE_SOCKET',
    'USE_PIPELINE_EXECUTOR',
    'DOCKER_VERSION',
    'STORAGE_NODES',
  ].map(name => `UNKEY_BUILDERD_${name}`),
  check(values) {
    const problems: Problem[] = []
    const refuse = (name: string, problem: string, value?: string) =>
      problems.push({ name: `UNKEY_BUILDERD_${name}`, problem, ...(value === undefined ? {} : { value }) })

    if (values.databaseType === 'postgres' && values.databaseUrl === undefined && values.databaseHost === undefined)
      refuse('DATABASE_TYPE', 'is postgres, which needs DATABASE_URL or DATABASE_HOST', 'postgres')
    const backend = values.storageBackend
    if (backend === 's3' || backend === 'minio')
      refuse('STORAGE_BACKEND', 'is not there yet; use local, or mount the bucket and use nfs', backend)
    else if (otherBackends.some(other => other === backend))
      refuse('STORAGE_BACKEND', 'is not supported; mount the store and use nfs, or use local', backend)
    if (values.pullPolicy !== 'always') refuse('DOCKER_PULL_POLICY', 'is not there yet; use always', values.pullPolicy)
    if (values.isRateLimitEnabled) refuse('RATE_LIMIT_ENABLED', 'is not there yet; leave it false', 'true')
    if (values.isAssetManagerEnabled)
      refuse('ASSETMANAGER_ENABLED', 'is not there yet; leave it false, or builds would claim to be registered', 'true')
    if (values.tlsMode === 'spiffe') refuse('TLS_MODE', 'is not there yet; use file or disabled', 'spiffe')
    const wantsTls = values.tlsMode === 'file' || (values.tlsMode === undefined && values.isTlsEnabled)
    if (wantsTls && (values.tlsCertFile === undefined || values.tlsKeyFile === undefined))
      refuse('TLS_CERT_FILE', 'and TLS_KEY_FILE are both needed for TLS')
    for (const entry of values.authTokens)
      if (!/^[A-Za-z0-9][A-Za-z0-9._:@-]*:[\x21-\x7e]{16,}$/.test(entry))
        refuse('AUTH_TOKENS', 'has an entry that is not tenant:token with a token of at least 16 characters')
    for (const registry of [...values.insecureRegistries, ...values.allowedRegistries])
      if (!isHost(registry))
        refuse('DOCKER_ALLOWED_REGISTRIES', 'and DOCKER_INSECURE_REGISTRIES hold host[:port]', registry)
    if (!isHost(values.defaultRegistry)) refuse('DEFAULT_REGISTRY', 'must be a host with or without port')
    return problems
  },
})

export type Config = ConfigOf<typeof spec>
