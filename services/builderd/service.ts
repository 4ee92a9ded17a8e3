// Everything builderd is made of, built once, in order; stopped in reverse.

import { randomUUID } from 'node:crypto'
import { chown, mkdir, rm } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { createHealth, createHttp, serveOnly } from '#platform/http'
import { type Base, type Running, startSequence } from '#platform/lifecycle'
import { migrate, openSql, resolveDatabase, type Sql } from '#platform/postgres'
import { createPort, createRpc } from '#platform/rpc'
import { startTracing } from '#platform/telemetry'
import { deriveKey, loadSecret } from '#platform/tenancy/secret'
import { openTenancy } from '#platform/tenancy/tenancy'
import { openOutbox } from '#platform/usage/outbox'
import { createAccess } from './access.ts'
import { makeJob } from './build/make-job.ts'
import type { Config } from './config.ts'
import { watchCredentials } from './credentials.ts'
import { databaseUrlOf } from './database.ts'
import { type Folders, foldersOf } from './folders.ts'
import { addBuildLogs } from './http/build-logs.ts'
import { addBuilds } from './http/builds.ts'
import { addHealth, healthBody } from './http/health.ts'
import { formatOldError, identifyHttp } from './http/refusals.ts'
import { normaliseRegistry } from './images/reference.ts'
import { createMetrics, registryLabel } from './metrics.ts'
import { openLogFeed } from './queue/log-feed.ts'
import { startMaintenance } from './queue/maintenance.ts'
import { openMeasuring } from './queue/measuring.ts'
import { startRun } from './queue/runner.ts'
import { openScheduler } from './queue/scheduler.ts'
import { type LimitSettings, runningMsMax, tierLimits, tiers, weightOf } from './quotas/limits.ts'
import { canonicalPath, routes } from './rpc/builder-service.ts'
import type { Context } from './rpc/context.ts'
import { storedRequest } from './rpc/create-build.ts'
import { unseal } from './secrets.ts'
import type { Build } from './store/build.ts'
import { loadSealedSecrets } from './store/builds.ts'
import { freeBytesMin, giveTo, isSystemRootWritable, makeFolders, requireFile, spaceOf } from './store/disk.ts'
import type { Ends } from './store/finish.ts'
import { loadClusterId, openInstance, registerInstance } from './store/instance.ts'
import { requeue } from './store/leases.ts'
import { isTier } from './store/tenants.ts'
import { usageEventsOf } from './usage-events.ts'
import { probeIsolation } from './worker/process.ts'

const readMaxBytes = 1024 * 1024
/** Of the embedded server's 60; on one's own server the guide's figure. */
const embeddedConnections = 10
const ownConnections = 25

export async function start(config: Config, base: Base): Promise<Running> {
  const { log, clock, registry, version } = base
  const parts = startSequence(log)
  const startedMonotonicMs = clock.monotonicMs()
  const folders = makeFolders(foldersOf(config, isSystemRootWritable()))
  const secret = await loadSecret({
    ...(config.platformSecret === undefined ? {} : { secret: config.platformSecret }),
    dataDir: config.dataDir,
  })
  if (config.initBinary !== undefined) requireFile(config.initBinary, 'UNKEY_BUILDERD_INIT_BINARY')
  const instance = await parts.add('instance', () => openInstance(folders.root))
  const { user, isolation } = await chooseIsolation(config, folders, base)
  // What the life before left unfinished is rewritten anyway. Nothing else: the folder may be someone's /tmp.
  if (instance.previousId !== undefined)
    await rm(join(folders.scratch, instance.previousId), { recursive: true, force: true })
  const scratchDir = join(folders.scratch, instance.id)
  await mkdir(scratchDir, { recursive: true, mode: 0o750 })
  parts.onClose('scratch', () => rm(scratchDir, { recursive: true, force: true }))

  const database = await parts.add('database', () =>
    resolveDatabase({ url: databaseUrlOf(config), dir: join(folders.root, 'postgres'), dataDir: config.dataDir, log }),
  )
  const max =
    config.databaseConnectionsMax ?? (database.isEmbedded || config.isSupervised ? embeddedConnections : ownConnections)
  const sql = openSql({ url: database.url, max, applicationName: 'builderd', log })
  parts.onClose('sql', () => sql.end({ timeout: 5 }))
  await migrate(sql, { schema: 'builderd', folder: new URL('./migrations/', import.meta.url), log })
  const tenancy = await parts.add('tenancy', () => openTenancy({ sql, secret, log, clock, registry }))
  const hasCredentials = await watchCredentials(tenancy, log)

  const metrics = createMetrics(registry)
  metrics.info.labels(version, process.version).set(1)
  const clusterId = await loadClusterId(sql)
  const outbox = await parts.add('usage', () =>
    openOutbox({
      sql,
      schema: 'builderd',
      service: 'builderd',
      clusterId,
      billagedUrl: config.billagedUrl,
      secret,
      log,
      clock,
      registry,
    }),
  )
  const configured = [...config.insecureRegistries, ...config.allowedRegistries].map(normaliseRegistry)
  const labelOf = (build: Build) => registryLabel(build.imageRef.split('/')[0] ?? '', configured)
  const ends: Ends = {
    sql,
    onFinished: (tx, finished) => outbox.report(tx, usageEventsOf(finished, clock.now(), labelOf(finished.build))),
  }
  if (instance.previousId !== undefined) {
    const count = await requeue(ends, { owner: instance.previousId }, 'restarted', clock.now())
    if (count > 0) log.info({ builds: count }, 'builds of the life before are queued again')
  }

  const limitSettings = limitSettingsOf(config)
  const capabilities = {
    formats: ['tar'],
    sources: ['docker_image', ...(config.localSourcesDir === undefined ? [] : ['oci'])],
    init: config.initBinary !== undefined,
    encryption: false,
    isolation,
  }
  await registerInstance(sql, instance.id, version, capabilities)
  const sealKey = deriveKey(secret, 'builderd build secrets')
  const room = createRoom(folders, config, sql)
  const feed = await parts.add('logs', () => openLogFeed(sql))
  const measuring = openMeasuring({ sql, clock, metrics, folders, limitSettings, feed })

  const scheduler = await openScheduler({
    ends,
    log,
    clock,
    owner: instance.id,
    slots: config.buildsMax,
    tiers: () =>
      tiers.map(tier => ({ tier, buildsMax: tierLimits(tier, limitSettings).buildsMax, weight: weightOf[tier] })),
    mayStart: room.hasRoom,
    startRun: (build, lease) =>
      startRun(build, lease, {
        ends,
        log,
        clock,
        scratchDir,
        outputDir: folders.output,
        user,
        isolation,
        memoryBytesMax: Math.min(
          config.workerMemoryBytesMax,
          Math.max(workerMemoryBytesMin, build.limits.memoryBytesMax),
        ),
        runningMsMax: runningMsMax(build.limits, config.buildTimeoutMs),
        makeJob: (claimed, dir) => jobOf(claimed, dir),
        onStep: (step, seconds, hasFailed) => measuring.onStep(step, seconds, hasFailed, labelOf(build)),
        onBlob: wasCached => (wasCached ? metrics.cacheHits : metrics.cacheMisses).inc(),
      }),
    onEnded: (build, verdict) => measuring.onEnded(build, verdict, labelOf(build)),
  })
  measuring.watch(scheduler)
  parts.onClose('measuring', async () => measuring.close())
  parts.onClose('builds', () => scheduler.close(config.shutdownTimeoutMs), {
    timeoutMs: config.shutdownTimeoutMs + 5_000,
  })
  await parts.add('maintenance', () =>
    startMaintenance({
      sql,
      log,
      clock,
      cacheDir: folders.cache,
      outputDir: folders.output,
      cacheBytesMax: config.cacheGbMax * 1_000_000_000,
      cacheRetentionMs: config.cacheRetentionMs,
      cleanupIntervalMs: config.cleanupIntervalMs,
      quotaCheckIntervalMs: config.quotaCheckIntervalMs,
      onCache(bytes, evicted) {
        metrics.cacheBytes.labels('blobs').set(bytes)
        metrics.cacheEvictions.inc(evicted)
      },
    }),
  )

  async function jobOf(build: Build, dir: string) {
    const sealed = await loadSealedSecrets(sql, build.buildId)
    return makeJob(storedRequest(build.config, config.defaultRegistry), {
      insecureRegistries: config.insecureRegistries,
      allowedPrivateHosts: config.allowedPrivateHosts,
      imageBytesMax: config.imageBytesMax ?? config.imageGbMax * 1_000_000_000,
      pullTimeoutMs: config.pullTimeoutMs,
      cacheDir: folders.cache,
      localSourcesDir: config.localSourcesDir,
      initBinary: config.initBinary,
      userAgent: `purser-builderd/${version}`,
      scratchDir: dir,
      registries: build.limits.registries,
      diskBytesMax: build.limits.diskBytesMax,
      manifestDigest: build.manifestDigest,
      credentials: sealed && unseal(sealKey, build.buildId, sealed),
    })
  }

  const access = createAccess({
    authenticate: tenancy.authenticate,
    hasCredentials,
    secret,
    authMode: config.authMode,
    authTokens: config.authTokens,
    clock,
  })
  const context: Context = {
    sql,
    ends,
    access,
    feed,
    log,
    clock,
    limitSettings,
    platformTier(tenantId) {
      const tier = tenancy.tenants.bySlug(tenantId)?.tier
      return tier !== null && tier !== undefined && isTier(tier) ? tier : undefined
    },
    defaultRegistry: config.defaultRegistry,
    localSourcesDir: config.localSourcesDir,
    queuedMax: config.queuedMax,
    outputDir: folders.output,
    sealKey,
    hasRoom: room.hasRoom,
    onViolation: measuring.onViolation,
  }

  const health = createHealth({ clock })
  health.add(
    'database',
    async () => {
      await sql`select 1`
      return { status: 'ok' }
    },
    { required: true },
  )
  health.add('queue', () => ({ status: scheduler.isConnected() ? 'ok' : 'degraded' }))
  health.add('disk', async () =>
    (await room.hasRoom()) ? { status: 'ok' } : { status: 'degraded', detail: 'nearly full' },
  )
  health.add('usage', () => outbox.status())
  const healthContext = {
    health,
    clock,
    version,
    startedMonotonicMs,
    auth: access.mode,
    capabilities,
    perSecondMax: config.healthRateLimit,
  }
  const tracing = config.isOtelEnabled
    ? await parts.add('tracing', () =>
        startTracing({
          service: 'builderd',
          version,
          endpoint: config.otelEndpoint,
          samplingRate: config.otelSamplingRate,
        }),
      )
    : undefined

  const app = createHttp({
    service: 'builderd',
    base,
    health,
    bodyBytesMax: readMaxBytes,
    ownRoutes: ['/health'],
    authorizeDetailed: request => void identifyHttp(context, request, 'builds:read', { tenantOptional: true }),
    formatError: formatOldError,
    ...(tracing && { tracing }),
  })
  addHealth(app, healthContext)
  addBuildLogs(app, context)
  addBuilds(app, context)
  await app.ready()
  parts.onClose('http', async () => app.close())

  const rpc = createRpc({
    routes: routes(context),
    fallback: (req: IncomingMessage, res: ServerResponse) => app.routing(req, res),
    readMaxBytes,
    log,
    registry,
    ...(tracing && { tracing }),
  })
  const wantsTls = config.tlsMode === 'file' || (config.tlsMode === undefined && config.isTlsEnabled)
  const port = createPort({
    handler(req, res) {
      req.url = canonicalPath(req.url ?? '/')
      rpc(req, res)
    },
    log,
    ...(wantsTls && config.tlsCertFile !== undefined && config.tlsKeyFile !== undefined
      ? {
          tls: {
            cert: config.tlsCertFile,
            key: config.tlsKeyFile,
            ...(config.tlsCaFile === undefined ? {} : { ca: config.tlsCaFile }),
          },
        }
      : {}),
  })
  const serveMetrics = (host: string, metricsPort: number, variable: string) =>
    parts.add('metrics', () =>
      serveOnly(registry, health, {
        host,
        port: metricsPort,
        variable,
        service: 'builderd',
        version,
        healthBody: () => healthBody(healthContext),
      }),
    )
  const metricsUrl = config.isMetricsEnabled
    ? (await serveMetrics(config.host, config.metricsPort, 'UNKEY_BUILDERD_METRICS_PORT')).url
    : undefined
  if (config.otelPrometheusPort !== undefined)
    await serveMetrics(config.otelPrometheusHost, config.otelPrometheusPort, 'UNKEY_BUILDERD_OTEL_PROMETHEUS_PORT')
  const { url } = await parts.add('port', async () => ({
    url: await port.listen(config.host, config.port, { variable: 'UNKEY_BUILDERD_PORT' }),
    async close() {
      for (const end of app.openStreams) end()
      await port.close(2_000)
    },
  }))
  // Last in, first out: while builds finish, their owners can still look at them.
  parts.onClose('drain', () => scheduler.close(config.shutdownTimeoutMs), {
    timeoutMs: config.shutdownTimeoutMs + 5_000,
  })
  warn(config, access.mode(), base)
  log.info({ url, metricsUrl, auth: access.mode(), isolation, outputDir: folders.output }, 'builderd listens')
  return {
    url,
    async close() {
      health.draining()
      await parts.close()
    },
  }
}

/** Node, undici and a mebibyte buffer or two need this much before the first byte of an image. */
const workerMemoryBytesMin = 256 * 1024 ** 2

function limitSettingsOf(config: Config): LimitSettings {
  const figures = {
    buildsMax: config.tenantBuildsMax,
    dailyBuildsMax: config.tenantDailyBuildsMax,
    buildMinutesMax: config.tenantBuildMinutesMax,
    timeoutS: config.tenantTimeoutS,
    memoryBytesMax: config.tenantMemoryBytesMax,
    coresMax: config.tenantCoresMax,
    diskBytesMax: config.tenantDiskBytesMax,
    storageBytesMax: config.tenantStorageBytesMax,
  }
  const given = Object.entries(figures).filter(([, value]) => value !== undefined)
  return {
    defaultTier: config.defaultTier,
    defaultFigures: Object.fromEntries(given),
    allowedRegistries:
      config.allowedRegistries.length > 0 ? config.allowedRegistries.map(normaliseRegistry) : undefined,
    retentionDays: config.retentionDays,
  }
}

/** As another user when we may, in a process of its own in any case; what was reached is what is shown. */
async function chooseIsolation(config: Config, folders: Folders, { log }: Base) {
  const own = { user: undefined, isolation: ['process', 'process-group', 'memory:watched'] }
  if (process.getuid?.() !== 0 || !config.isIsolated || config.buildUid === 0) return own
  const user = { uid: config.buildUid, gid: config.buildGid }
  const probe = join(folders.scratch, `.probe-${randomUUID()}`)
  try {
    await mkdir(probe, { mode: 0o700 })
    await chown(probe, user.uid, user.gid)
    const problem = await probeIsolation(user, probe)
    if (problem === undefined) {
      await giveTo(user, folders.cache)
      return { user, isolation: [...own.isolation, `user:${user.uid}`] }
    }
    log.warn({ problem, uid: user.uid }, 'build processes run as root: the build user cannot reach the program')
    return own
  } finally {
    await rm(probe, { recursive: true, force: true })
  }
}

/** Free space, asked at most every few seconds. */
function createRoom(folders: Folders, config: Config, sql: Sql) {
  let asked: { atMs: number; answer: Promise<boolean> } | undefined
  const look = async () => {
    const { freeBytes, totalBytes } = await spaceOf(folders.output)
    if (freeBytes < freeBytesMin(totalBytes)) return false
    const [stored] = await sql<{ bytes: bigint }[]>`
      select coalesce(sum(stored_bytes + reserved_bytes), 0)::int8 as bytes from builderd.tenant_usage`
    return (stored?.bytes ?? 0n) < BigInt(config.storageGbMax) * 1_000_000_000n
  }
  return {
    hasRoom(): Promise<boolean> {
      const nowMs = performance.now()
      if (!asked || nowMs - asked.atMs > 2_000) asked = { atMs: nowMs, answer: look() }
      return asked.answer
    },
  }
}

function warn(config: Config, auth: 'open' | 'required', { log }: Base) {
  if (auth === 'open')
    log.warn(
      'access is open: anyone who reaches this port may build as any tenant. A key with a builds scope, AUTH_TOKENS or AUTH_MODE=required closes it.',
    )
  if (config.isEncryptionWanted)
    log.warn('ENABLE_ENCRYPTION is set, but encryption at rest is not there yet: artifacts are stored in the clear')
  if (config.initBinary === undefined)
    log.info(
      'no INIT_BINARY: images get /container.cmd and /container.env, but no /usr/bin/metald-init unless they bring their own (CUSTOM)',
    )
}
