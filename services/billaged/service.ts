import { join } from 'node:path'
import type { FastifyRequest } from 'fastify'
import { createHealth, createHttp, type HealthCheck, Problem, serveOnly } from '#platform/http'
import { openJournal } from '#platform/journal'
import { type Base, type Running, type StartSequence, startSequence } from '#platform/lifecycle'
import { isUnavailable, migrate, openSql, resolveDatabase, type Sql, subscribe } from '#platform/postgres'
import { createPort, createRpc } from '#platform/rpc'
import { startTracing } from '#platform/telemetry'
import { deriveKey, loadSecret } from '#platform/tenancy/secret'
import { openTenancy } from '#platform/tenancy/tenancy'
import { nowNs } from '#platform/time'
import { type Caller, createRecogniser, may } from './access.ts'
import { announceHostDown } from './alerts/announcements.ts'
import { summariseVms } from './alerts/vm-summary.ts'
import { startWatch } from './alerts/watch.ts'
import type { CloseContext } from './close/context.ts'
import { startRetention } from './close/retention.ts'
import { startSweep } from './close/sweep.ts'
import type { Config } from './config.ts'
import { openMeterList } from './events/meter-list.ts'
import { authorizeRoutes, mustBeAllowed } from './http/authorize.ts'
import { budgetRoutes } from './http/budgets.ts'
import { closeRoutes } from './http/close.ts'
import { creditRoutes } from './http/credits.ts'
import { customerRoutes } from './http/customers.ts'
import { debugRoutes } from './http/debug.ts'
import { eventListRoutes } from './http/event-list.ts'
import { eventRoutes } from './http/events.ts'
import { createHealthBody, healthRoutes, statsOf } from './http/health.ts'
import { idempotency } from './http/idempotency.ts'
import { invoiceRoutes } from './http/invoices.ts'
import { meterQueryRoutes } from './http/meter-query.ts'
import { meterRoutes, metersChannel } from './http/meters.ts'
import { openapiRoute } from './http/openapi.ts'
import { outageRoutes } from './http/outages.ts'
import { planRoutes } from './http/plans.ts'
import { portalRoutes } from './http/portal.ts'
import { portalTokenRoutes } from './http/portal-tokens.ts'
import { quarantineRoutes } from './http/quarantine.ts'
import { receiptRoutes } from './http/receipts.ts'
import { reconcileRoutes } from './http/reconcile.ts'
import { spendRoutes } from './http/spend.ts'
import { streamRoutes } from './http/stream.ts'
import { stripeRoutes } from './http/stripe.ts'
import { subjectRoutes } from './http/subjects.ts'
import { unratedRoutes } from './http/unrated.ts'
import { vmRoutes } from './http/vms.ts'
import { webhookRoutes } from './http/webhooks.ts'
import { startFolder } from './intake/folder.ts'
import { startHours } from './intake/hours.ts'
import { createIntake } from './intake/intake.ts'
import { createRateLimiter } from './intake/rate-limit.ts'
import { createReceiptClock } from './intake/receipt-clock.ts'
import { signingKey } from './invoices/receipt.ts'
import { loadTypefaces } from './invoices/typefaces.ts'
import { observe, observeActivity, summarise } from './observe.ts'
import { billingRoutes, billingService } from './rpc/billing-service.ts'
import { createDirect } from './rpc/direct.ts'
import { openDamage, prepareCorruptFolder } from './store/damage.ts'
import { chooseDataDir, loadAdminKey } from './store/data-dir.ts'
import { touchesOfFacts, writeFacts } from './store/facts.ts'
import { adoptRules } from './store/fold-queue.ts'
import { loadMeters, seedMeters } from './store/meters.ts'
import { seedPlans } from './store/plans.ts'
import {
  type Backlog,
  databaseNow,
  joinReplicas,
  leaveReplicas,
  loadReplicaId,
  othersAreBehind,
  reportBacklog,
  waitForReplicas,
} from './store/replica.ts'
import { createRunningUsage } from './store/running.ts'
import { type PartReader, TooManySeries } from './store/series.ts'
import { customersOfSubjects } from './store/subjects.ts'
import { webhooksChannel } from './store/webhooks.ts'
import { createCostHub } from './stream/costs.ts'
import { createPushCounter, createStripeAdapter, openStripe } from './stripe/adapter.ts'
import { startFollowing } from './stripe/follow.ts'
import { type SpiffeTls, startSpiffeTls } from './tls/spiffe.ts'
import { createActivity } from './usage/activity.ts'
import type { FoldRules } from './usage/fold.ts'
import { startDelivering } from './webhooks/deliver.ts'
import { createReach } from './webhooks/reach.ts'

const bodyBytesMax = 32 * 1024 * 1024
const drainMs = 10_000
const foldDrainMs = 20_000
/** A close waits for the next report of every replica. */
const reportBacklogEveryMs = 2_000
const journalReader = 'database'

export async function start(config: Config, base: Base): Promise<Running> {
  const parts = startSequence(base.log)
  try {
    return await startParts(config, base, parts)
  } catch (error) {
    await parts.close().catch(() => {})
    throw error
  }
}

async function startParts(config: Config, base: Base, parts: StartSequence): Promise<Running> {
  const { log, clock, registry, version } = base
  const dataDir = await chooseDataDir({
    configured: config.billagedDataDir,
    platformDir: config.dataDir,
    isSupervised: config.isSupervised,
  })
  // A file that is no font is told now, not at the first close.
  loadTypefaces(config.invoiceFonts)
  const apiKey = await loadAdminKey(dataDir, config.apiKey)
  const secret = await loadSecret({
    dataDir: config.dataDir,
    ...(config.platformSecret === undefined ? {} : { secret: config.platformSecret }),
  })
  const database = await parts.add('database', () =>
    resolveDatabase({ url: config.databaseUrl ?? config.platformDatabaseUrl, dir: join(dataDir, 'postgres'), log }),
  )
  const sql = openSql({ url: database.url, max: 8, applicationName: 'billaged', log })
  parts.onClose('connections', () => sql.end({ timeout: 5 }))
  const tenancy = await parts.add('tenancy', () => openTenancy({ sql, secret, log, clock, registry }))
  await migrate(sql, { schema: 'billaged', folder: new URL('./migrations/', import.meta.url), log })
  await adoptRules(sql, rulesOf(config))
  await seedMeters(sql)
  await seedPlans(sql)
  const meterList = await openMeterList(() => loadMeters(sql))
  const { meters } = meterList

  const replica = await loadReplicaId(dataDir)
  const damage = await openDamage(await prepareCorruptFolder(dataDir), base)
  const journal = await parts.add('journal', () =>
    openJournal({
      dir: join(dataDir, 'journal'),
      bytesMax: config.journalBytesMax,
      readers: [journalReader],
      log,
      registry,
      metricPrefix: 'billaged_journal',
      syncMetric: 'billaged_journal_fsync_seconds',
      clock,
    }),
  )
  damage.watch(journal)
  parts.onClose('damage', () => damage.close())
  // Stopped after folding is, so that its last word is the last.
  parts.onClose(
    'backlog report',
    reportRegularly(sql, replica, () => ({ bytes: journal.bytes, oldestMs: journal.oldestAgeMs }), log),
  )
  const leaseNs = BigInt(config.heartbeatLeaseMs) * 1_000_000n
  const running = createRunningUsage({ replica, nowNs: () => nowNs(clock) })
  const folder = startFolder({
    journal,
    reader: journalReader,
    from: await joinReplicas(sql, replica),
    async write(facts, position, mayOverlap) {
      const counts = await writeFacts(sql, facts, { replica, position, meters, leaseNs, mayOverlap })
      running.touched(touchesOfFacts(facts))
      return counts
    },
    setAside: damage.batch,
    onExpired: count => intake.countExpired(count),
    base,
  })
  parts.onClose('folding', () => folder.close(foldDrainMs), { timeoutMs: foldDrainMs + 1_000 })
  const intake = createIntake({
    journal,
    ack: config.ack,
    waitUntilFolded: folder.waitUntilFolded,
    isHighCardinality: config.isHighCardinality,
    base,
  })
  parts.onClose('intake', () => intake.close())
  const observed = observeActivity(base)
  const activity = createActivity({
    clock,
    leaseMs: config.heartbeatLeaseMs,
    silenceMsMax: config.maxGapCapMs,
    events: {
      ...observed,
      leaseExpired(instanceId) {
        observed.leaseExpired(instanceId)
        announceHostDown(sql, instanceId, clock.now()).catch(error => log.warn({ err: error }, 'host.down not told'))
      },
    },
  })
  const receipt = await parts.add('receipt clock', async () => createReceiptClock(base))
  const limiter = createRateLimiter(clock, config.rateLimitSamples)
  observe({ base, journal, intake, folder, activity })
  parts.onClose('usage summary', summarise({ base, everyMs: config.aggregationIntervalMs, intake, activity }))

  const health = createHealth({ clock })
  health.add('journal', intake.health, { required: true })
  health.add('folding', folder.health)
  health.add('damage', damage.health)
  health.add('database', () => pingDatabase(sql), { required: config.ack === 'database' })
  health.add('intake', () =>
    config.ingestAuth === 'guide'
      ? { status: 'ok', detail: 'intake is open: INGEST_AUTH=guide asks senders for no proof' }
      : { status: 'ok', detail: `INGEST_AUTH=${config.ingestAuth}` },
  )
  if (config.ingestAuth === 'guide') log.warn('intake is open: INGEST_AUTH=guide asks senders for no proof')

  const recognise = createRecogniser({ authenticate: tenancy.authenticate, secret, apiKey, clock })
  const healthBody = createHealthBody({ checks: health, clock, version })
  const tracing = config.isOtelEnabled
    ? await parts.add('tracing', () =>
        startTracing({
          service: config.otelServiceName,
          version: config.otelServiceVersion ?? version,
          endpoint: config.otelEndpoint,
          samplingRate: config.otelSamplingRate,
        }),
      )
    : undefined
  const traced = tracing === undefined ? {} : { tracing }
  const app = createHttp({
    service: 'billaged',
    base,
    health,
    ownRoutes: ['/health'],
    authorizeDetailed(request) {
      const caller = recognise(request.headers.authorization)
      if (!(typeof caller === 'object' && may(caller, 'billaged:read') && caller.tenant === null))
        mustBeAllowed(caller === 'none' && request.ip === '127.0.0.1' ? loopback : caller, 'billaged:read')
    },
    ...traced,
  })
  authorizeRoutes(app, recognise)
  if (!config.isPrometheusEnabled) app.addHook('onRequest', hideMetrics)
  healthRoutes(app, {
    healthBody,
    checks: health,
    stats: () =>
      statsOf({
        activeVms: activity.countActive(),
        aggregationIntervalMs: config.aggregationIntervalMs,
        journalBytes: journal.bytes,
      }),
  })
  openapiRoute(app, { version })
  eventRoutes(app, {
    intake,
    clock,
    maxFutureMs: config.maxFutureMs,
    maxPastMs: config.maxPastMs,
    customersOf: subjects => customersOfSubjects(sql, subjects),
  })
  const reader: PartReader = { sql, onCorruptPart: damage.part, running }
  const listening = await subscribe(sql, metersChannel, () => {
    meterList.reload().catch(error => log.warn({ err: error }, 'meters could not be read again; the old ones are used'))
  })
  parts.onClose('meter changes', () => listening.close())
  const reads = {
    sql,
    reader,
    rules: rulesOf(config),
    meters,
    clock,
    async isComplete(waitMs: number) {
      if (waitMs === 0) return folder.isCaughtUp() && !(await othersAreBehind(sql, replica))
      const [deadlineMs, end] = [clock.monotonicMs() + waitMs, journal.end]
      const began = await databaseNow(sql)
      if (!(await folder.waitUntilFolded(end, waitMs))) return false
      return (await waitForReplicas(sql, replica, { began, deadlineMs, clock })).length === 0
    },
    audit: tenancy.audit,
  }
  parts.onClose('VM summary', summariseVms({ ...reads, base, everyMs: config.aggregationIntervalMs }))
  const pushes = createPushCounter(registry)
  const stripe =
    config.stripeApiKey === undefined
      ? null
      : createStripeAdapter({
          pushes,
          sql,
          base,
          stripe: await openStripe({ apiKey: config.stripeApiKey, apiBase: config.stripeApiBase }),
          mode: config.stripeMode ?? 'invoices',
          reader,
          meters,
          rules: rulesOf(config),
        })
  if (stripe !== null) parts.onClose('Stripe', startFollowing(stripe, config.aggregationIntervalMs))
  const closing: CloseContext = {
    ...(stripe === null ? {} : { push: stripe.push }),
    sql,
    reader,
    rules: rulesOf(config),
    meters,
    clock,
    log,
    replica,
    signingKey: signingKey(deriveKey(secret, 'billaged receipts')),
    issuer: issuerOf(config),
    acknowledgedEnd: () => journal.end,
    damage: damage.list,
    waitUntilFolded: folder.waitUntilFolded,
    audit: tenancy.audit,
  }
  parts.onClose(
    'retention',
    startRetention(closing, {
      samplesMs: config.retentionSamplesMs,
      usageMs: config.retentionUsageMs,
      everyMs: 10 * config.aggregationIntervalMs,
    }),
  )
  parts.onClose('hours of usage', startHours({ reader, rules: rulesOf(config), base }))
  parts.onClose(
    'close sweep',
    startSweep(closing, { graceMs: config.closeGraceMs, everyMs: config.aggregationIntervalMs, registry }),
  )
  const webhooks = {
    sql,
    base,
    reach: createReach({ deny: config.webhookDeny, allow: config.webhookAllow }),
    key: deriveKey(secret, 'billaged webhooks'),
  }
  const deliverer = startDelivering(webhooks)
  parts.onClose('webhooks', () => deliverer.close(), { timeoutMs: 12_000 })
  const announced = await subscribe(sql, webhooksChannel, () => deliverer.wake())
  parts.onClose('webhook announcements', () => announced.close())
  parts.onClose(
    'budget watch',
    startWatch({
      reader,
      meters,
      rules: rulesOf(config),
      base,
      everyMs: config.aggregationIntervalMs,
      graceMs: config.closeGraceMs,
    }),
  )
  const spiffe =
    config.tlsMode === 'spiffe'
      ? await parts.add('identity', () => startSpiffeTls(config.spiffeSocket, base))
      : undefined
  if (spiffe !== undefined) health.add('tls', spiffe.health)
  const isTls = config.isTlsEnabled || config.tlsMode !== 'disabled'
  const costs = createCostHub({ ...reads, log })
  parts.onClose('live costs', () => costs.close())
  app.register(async scope => {
    scope.setErrorHandler(sayWhenAway)
    idempotency(scope, { sql, clock, log, key: deriveKey(secret, 'billaged idempotent answers') })
    streamRoutes(scope, { ...reads, costs })
    portalTokenRoutes(scope, reads)
    portalRoutes(scope, { ...reads, secret, publicKey: closing.signingKey.publicKey, costs, isTls })
    budgetRoutes(scope, reads)
    stripeRoutes(scope, { ...reads, stripe, webhookSecret: config.stripeWebhookSecret })
    webhookRoutes(scope, { ...reads, webhooks })
    customerRoutes(scope, reads)
    spendRoutes(scope, reads)
    planRoutes(scope, reads)
    meterRoutes(scope, { ...reads, reloadMeters: meterList.reload })
    meterQueryRoutes(scope, reads)
    subjectRoutes(scope, reads)
    debugRoutes(scope, reads)
    eventListRoutes(scope, reads)
    vmRoutes(scope, reads)
    invoiceRoutes(scope, closing)
    closeRoutes(scope, closing)
    unratedRoutes(scope, closing)
    reconcileRoutes(scope, closing)
    creditRoutes(scope, closing)
    outageRoutes(scope, { ...closing, isComplete: reads.isComplete })
    receiptRoutes(scope, closing)
    quarantineRoutes(scope, { ...closing, intake })
  })
  await app.ready()
  parts.onClose('http', () => app.close())

  const { maxFutureMs, maxPastMs } = config
  const billing = { mode: config.ingestAuth, recognise, intake, activity, receipt, limiter, maxFutureMs, maxPastMs }
  const port = createPort({
    handler: createRpc({
      routes: billingRoutes(billing),
      direct: createDirect({ calls: billingService(billing), intake }),
      fallback: app.routing,
      readMaxBytes: bodyBytesMax,
      log,
      registry,
      ...traced,
    }),
    log,
    headersBytesMax: 1024 * 1024,
    ...tlsOf(config, spiffe),
  })
  spiffe?.onRotation(() => {
    port.reloadTls().catch(error => log.error({ err: error }, 'the new identity cannot be used'))
  })
  const url = await port.listen(config.address, config.port, { variable: 'BILLAGED_PORT' })
  parts.onClose('api', () => port.close(drainMs), { timeoutMs: drainMs + 1_000 })
  // They would not end by themselves, and the drain would wait for them.
  parts.onClose('streams', async () => {
    for (const end of app.openStreams) end()
  })
  const metrics = await parts.add('metrics', () =>
    serveOnly(config.isPrometheusEnabled ? registry : null, health, {
      host: config.prometheusInterface,
      port: config.prometheusPort,
      variable: 'BILLAGED_OTEL_PROMETHEUS_PORT',
      service: 'billaged',
      version,
      healthBody,
    }),
  )
  log.info({ url, metricsUrl: metrics.url, dataDir }, 'listening')

  return {
    url,
    async close() {
      health.draining()
      await parts.close()
    },
    async reload(next: Config) {
      await port.reloadTls()
      log.level = next.logLevel
      limiter.set(next.rateLimitSamples)
    },
  }
}
const loopback: Caller = { tenant: null, scopes: new Set(['billaged:read']), name: 'loopback' }

function rulesOf(config: Config): FoldRules {
  return {
    maxVcpus: BigInt(config.maxVcpus),
    minGapNs: BigInt(config.minGapMs) * 1_000_000n,
    maxGapCapNs: BigInt(config.maxGapCapMs) * 1_000_000n,
    leaseNs: BigInt(config.heartbeatLeaseMs) * 1_000_000n,
  }
}

function issuerOf(config: Config): CloseContext['issuer'] {
  const address = (config.sellerAddress ?? '').split('|').map(line => line.trim())
  return {
    seller: {
      name: config.sellerName,
      address: address.filter(line => line !== ''),
      taxId: config.sellerTaxId ?? null,
    },
    terms: config.paymentTerms ?? null,
    fonts: config.invoiceFonts,
  }
}

function tlsOf(config: Config, spiffe: SpiffeTls | undefined) {
  if (spiffe !== undefined) return { tls: spiffe }
  return config.isTlsEnabled || config.tlsMode === 'file' ? { tls: tlsFiles(config) } : {}
}

function tlsFiles({ tlsCertFile, tlsKeyFile, tlsCaFile }: Config) {
  if (tlsCertFile === undefined || tlsKeyFile === undefined) throw new Error('BUG: the schema asks for both files')
  return { cert: tlsCertFile, key: tlsKeyFile, ...(tlsCaFile === undefined ? {} : { ca: tlsCaFile }) }
}

async function hideMetrics(request: FastifyRequest) {
  if (request.routeOptions.url === '/metrics')
    throw new Problem({ status: 404, reason: 'NOT_FOUND', detail: 'Metrics are off: OTEL_PROMETHEUS_ENABLED=false.' })
}

/** Reading needs the database; when it is away that is no bug of ours, and the caller may come back. */
async function sayWhenAway(error: unknown): Promise<never> {
  if (error instanceof TooManySeries) throw new Problem({ status: 400, reason: 'TOO_MANY_VMS', detail: error.message })
  if (!isUnavailable(error)) throw error
  throw new Problem({
    status: 503,
    reason: 'DATABASE_AWAY',
    detail: 'The database cannot be asked now; try again. What is sent meanwhile is kept.',
    headers: { 'retry-after': '5' },
    cause: error,
  })
}

async function pingDatabase(sql: Sql): Promise<HealthCheck> {
  await sql`select 1`
  return { status: 'ok' }
}

/** Other replicas tell from this whether everything that was acknowledged anywhere is folded. */
function reportRegularly(sql: Sql, replica: string, measure: () => Backlog, log: Base['log']) {
  const report = () => reportBacklog(sql, replica, measure)
  const timer = setInterval(() => {
    report().catch(error => log.debug({ err: error }, 'backlog not reported'))
  }, reportBacklogEveryMs)
  return async () => {
    clearInterval(timer)
    await (measure().bytes === 0 ? leaveReplicas(sql, replica) : report()).catch(() => {})
  }
}
