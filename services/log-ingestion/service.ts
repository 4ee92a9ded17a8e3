// Every object of the service, made once, by hand, top to bottom. Intake listens first: it needs the disk and nothing else.

import { randomBytes, randomUUID } from 'node:crypto'
import { chmod, mkdir, open, readFile, rename } from 'node:fs/promises'
import { createServer } from 'node:http'
import { BlockList } from 'node:net'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Counter, Histogram } from 'prom-client'
import { closeHttp, createHealth, createHttp, listen } from '#platform/http'
import { openJournal } from '#platform/journal'
import { type Base, type Running, type StartSequence, startSequence } from '#platform/lifecycle'
import { createRpc } from '#platform/rpc'
import { deriveKey, loadSecret } from '#platform/tenancy/secret'
import { sleep } from '#platform/time'
import { clientAddress, trustedProxies } from './access/client-address.ts'
import { adminScopes, createDirectory, parseStaticKey, type StaticKey, writeScopes } from './access/directory.ts'
import { createGuesses } from './access/guesses.ts'
import { openKeySnapshot } from './access/key-snapshot.ts'
import { openRequestLimits } from './access/request-limits.ts'
import { createVolume } from './access/volume.ts'
import { createBufferPool } from './buffer-pool.ts'
import { type Config, chainHasNoEffect, databaseUrlOf, stateDirOf, storageOf } from './config.ts'
import { addAdmin } from './http/admin.ts'
import { fetchTokens } from './http/admit-request.ts'
import { createInflightBytes } from './http/body.ts'
import { createBrowserDoor } from './http/browser.ts'
import { authorize } from './http/caller.ts'
import type { QueryContext } from './http/context.ts'
import { addFaults } from './http/faults.ts'
import { createGate } from './http/gate.ts'
import { acceptHttp2 } from './http/h2c.ts'
import { addHealth } from './http/health.ts'
import { createIntake } from './http/intake.ts'
import { addIntakeStatus } from './http/intake-status.ts'
import { readBodiesAsJson } from './http/json-bodies.ts'
import { addKeys } from './http/keys.ts'
import { addLedger } from './http/ledger.ts'
import { addNotices } from './http/notices.ts'
import { readOwnPages } from './http/own-pages.ts'
import { addOwnSession, signInByKey } from './http/own-session.ts'
import { addQuarantine } from './http/quarantine.ts'
import { addReading } from './http/reading.ts'
import { addReceipts } from './http/receipts.ts'
import { addSignIn } from './http/sign-in.ts'
import { addStorage } from './http/storage.ts'
import { addUsers } from './http/users.ts'
import { isTailUpgrade } from './http/web-socket.ts'
import { createRedaction, type Redaction } from './json/metadata.ts'
import { openAcceptance } from './pipeline/acceptance.ts'
import { openAdmission } from './pipeline/admission.ts'
import { createBacklog } from './pipeline/backlog.ts'
import { openDatabase } from './pipeline/database.ts'
import { followDayUsage } from './pipeline/day-usage.ts'
import { forgetDeleted } from './pipeline/forget-deleted.ts'
import { createForgetExpired } from './pipeline/forget-expired.ts'
import { createJournalShares } from './pipeline/journal-shares.ts'
import { createMetrics } from './pipeline/metrics.ts'
import { createPeople } from './pipeline/people.ts'
import { createProgress } from './pipeline/progress.ts'
import { captureSelfLogs } from './pipeline/self-logs.ts'
import { createSettlement } from './pipeline/settlement.ts'
import { createSharedResends } from './pipeline/shared-resends.ts'
import { watchSurroundings } from './pipeline/surroundings.ts'
import { createTailHub } from './pipeline/tail-hub.ts'
import { createTurns } from './pipeline/turns.ts'
import { startUpkeep } from './pipeline/upkeep.ts'
import { journalReader } from './pipeline/writer.ts'
import { createReceipts } from './receipt.ts'
import { createRedis } from './redis.ts'
import { needRestart } from './reload.ts'
import { logsServicePath, otlpRoutes } from './rpc/otlp.ts'
import { noLimits } from './rules/limits.ts'
import { startRules } from './rules/start.ts'
import { findRange } from './store/commits.ts'
import { findOwners } from './store/idempotency.ts'
import { createVisibility } from './store/visibility.ts'
import { parseAllowed, parseHostPort } from './syslog/addresses.ts'
import { createSyslogKey } from './syslog/key.ts'
import { type SyslogListeners, startSyslog } from './syslog/listeners.ts'

const headerBytesMax = 16 * 1024
const consoleFolder = fileURLToPath(new URL('../../console/dist/', import.meta.url))
/** Longer than the idle time of usual load balancers, so that it is they who close. */
const keepAliveMs = 75_000
/** A start is useful before the database is: after this long it is reported ready as it is. */
const databaseWaitMs = 10_000
/** For a statement that is under way when we stop. */
const lastWordMs = 1_000
/** Of buffers kept for reuse: what a few busy senders and two batches hold. */
export const poolBytesMax = 4 * 1024 * 1024

export interface Service extends Running {
  syslog: Pick<SyslogListeners, 'tcp' | 'udp'>
}

export async function start(config: Config, base: Base): Promise<Service> {
  const parts = startSequence(base.log)
  try {
    return await startParts(config, base, parts)
  } catch (error) {
    await parts.close().catch(() => {})
    throw error
  }
}

async function startParts(config: Config, base: Base, parts: StartSequence): Promise<Service> {
  const { log, clock, registry } = base
  const startedMonotonicMs = clock.monotonicMs()
  /** What a reload replaces; settings that need a restart are read from `config`. */
  let current = config
  const dir = stateDirOf(config)
  const trusted = trustedProxies(config.trustedProxies)
  await mkdir(dir, { recursive: true, mode: 0o700 })

  const journal = await parts.add('journal', () =>
    openJournal({
      dir: join(dir, 'journal'),
      bytesMax: config.journalBytesMax,
      keepBytes: config.journalKeepBytes,
      readers: [journalReader],
      log,
      registry,
      metricPrefix: 'log_ingestion_journal',
      clock,
    }),
  )
  // The journal's lock is held: what else is in this folder is ours too.
  const replica = await replicaOf(dir)
  const secret = await loadSecret({
    dataDir: config.purserDir ?? dir,
    ...(config.platformSecret === undefined ? {} : { secret: config.platformSecret }),
  })
  const redis =
    config.redisUrl === undefined
      ? undefined
      : createRedis(config.redisUrl, log, {
          // Replicas of one installation have its secret in common.
          namespace: deriveKey(secret, 'redis namespace').toString('hex').slice(0, 12),
        })
  if (redis) parts.onClose('redis', () => redis.close())
  const databaseUrl = databaseUrlOf(config)
  if (config.isChained && storageOf(config) === 'columnar') throw new Error(`LOG_INGESTION_CHAIN ${chainHasNoEffect}.`)
  const hasOwnInstallation = databaseUrl === undefined || config.isSupervised
  const writeKeyPath = hasOwnInstallation ? join(dir, 'write-key') : undefined
  const staticKeys = await staticKeysOf(config, writeKeyPath)
  if (hasOwnInstallation)
    log.info({ path: join(dir, 'write-key') }, 'a key that may send to tenant public is in this file')

  const keySnapshot = await openKeySnapshot({ path: join(dir, 'keys.json'), secret, clock, log })
  const directory = createDirectory({ secret, clock, staticKeys, snapshot: keySnapshot })
  let sensitiveKeys = createRedaction(config.redactKeys)
  // One object for everybody who decodes; a reload changes what it knows.
  const redaction: Redaction = {
    watch: (bytes, from, to, hasEscape) => sensitiveKeys.watch(bytes, from, to, hasEscape),
    redacts: key => sensitiveKeys.redacts(key),
  }
  const receipts = createReceipts(deriveKey(secret, 'log receipt'))
  const progress = createProgress({ clock })
  const hub = createTailHub({
    journal,
    replica,
    placeKey: deriveKey(secret, 'tail place'),
    log,
    end: () => ({ ...journal.end, rows: acceptance.rows }),
    stored: () =>
      rules.isReady && database.parts ? { sql: database.parts.reads, store: database.parts.store } : undefined,
    redis,
    view: tenant => visibility.view(tenant),
    onDropped: rows => metrics.tailDropped(rows),
  })
  const metrics = createMetrics(registry, {
    pendingRows: () => progress.pendingRows(),
    isDatabaseUp: () => database.health().status === 'ok',
    imbalanceRows: () => progress.imbalanceRows,
    quarantineRows: () => progress.quarantinedRows,
    tails: () => hub.count,
  })
  const entryRules = {
    messageBytesMax: config.messageBytesMax,
    metadataBytesMax: config.metadataBytesMax,
    timestampPastMaxMs: config.timestampPastMaxMs,
    timestampFutureMaxMs: config.timestampFutureMaxMs,
    redaction,
  }
  const settlement = createSettlement({
    clock,
    isStored: async place => database.parts !== undefined && (await findRange(database.parts.reads, place)).isStored,
  })
  const backlog = createBacklog(journal.end)
  const shares = createJournalShares({
    journalBytes: () => journal.bytes,
    bytesMax: config.journalBytesMax,
    backlog,
  })
  const pool = createBufferPool({ bytesMax: poolBytesMax })
  parts.onClose('buffers', async () => pool.close())
  const acceptance = await parts.add('acceptance', () =>
    openAcceptance({
      journal,
      bytesMax: config.journalBytesMax,
      dir,
      log,
      committedRows: () => progress.committedRows,
      claim: shares.claim,
      onAccepted(accepted, header) {
        progress.accepted(accepted.rows, accepted.receivedUs)
        backlog.accepted(accepted, header)
        hub.publish(accepted, header.tenant)
      },
    }),
  )
  progress.begin(acceptance.rows, acceptance.committedRowsHint)
  const begin = { position: journal.end, rows: acceptance.rows }

  const sharedResends =
    redis && config.dedupeWindowMs > 0
      ? createSharedResends({ redis, replica, windowMs: config.dedupeWindowMs, begin: begin.position, sleep })
      : undefined
  const visibility = createVisibility(() => clock.now())
  const people = createPeople({
    jwtSecret: config.jwtSecret,
    secretMark: deriveKey(secret, 'replicas agree'),
    onOpen: jwtSecret => directory.trustTokens(jwtSecret),
    log,
  })
  const rules = await startRules({
    config,
    dir,
    installationDir: config.purserDir ?? dir,
    secret,
    replica,
    watermarkUs: () => progress.watermarkUs(),
    pendingRows: () => progress.pendingRows(),
    onOlderDatabase() {
      progress.doubt()
      database.parts?.writer.recheck()
    },
    clock,
    log,
    registry,
  })
  const database = openDatabase({
    url: databaseUrl,
    dir: join(dir, 'postgres'),
    readUrl: config.readUrl,
    poolMax: config.dbPoolMax,
    statementTimeoutMs: config.dbStatementTimeoutMs,
    storage: storageOf(config),
    indexProfile: config.indexProfile,
    isChained: config.isChained,
    visibility,
    tenants: [...new Set(staticKeys.map(key => key.tenant))],
    secret,
    journal,
    begin,
    pool,
    replica,
    get batchRows() {
      return current.batchRows
    },
    get flushIntervalMs() {
      return current.batchFlushIntervalMs
    },
    clock,
    log,
    registry,
    metrics,
    onCommitted(outcome) {
      progress.committed(outcome)
      backlog.committed(outcome.records)
      settlement.committed(outcome.position)
      sharedResends?.committed(outcome.records)
      metrics.settled(outcome)
    },
    onCaughtUp(rows, position) {
      progress.caughtUp(rows)
      settlement.committed(position)
    },
    acceptedRows: () => progress.acceptedRows,
    resends: sharedResends && { isInDoubt: sharedResends.isInDoubt, windowMs: config.dedupeWindowMs },
    onDrained: ({ reads }) => rules.drained({ reads }),
    async onReady({ tenancy, writer, reads, store }) {
      await rules.connect({ reads, store })
      directory.connect(tenancy)
      keySnapshot.follow({ sql: reads, tenancy })
      await people.connect({ reads, tenancy })
      progress.follow(writer)
    },
  })
  // What talks to the database is not waited for beyond its time: a statement may hang, the journal has it all and is
  // closed with a sync after these, and a transaction that ends with its connection has not happened.
  const hurried = Promise.withResolvers<void>()
  const closeWithin = (name: string, timeoutMs: number, close: () => Promise<void>) =>
    parts.onClose(name, () => endedOrLeft(close(), timeoutMs, hurried.promise), { timeoutMs: timeoutMs + 5_000 })
  closeWithin('database', config.shutdownTimeoutMs + lastWordMs, () => database.close(config.shutdownTimeoutMs))
  const admission = await openAdmission({
    journal,
    journalDir: join(dir, 'journal'),
    dedupeWindowMs: config.dedupeWindowMs,
    idempotencyTtlMs: config.idempotencyTtlMs,
    clock,
    log,
    findOwners: marks =>
      database.parts && database.health().status === 'ok' ? findOwners(database.parts.reads, marks) : undefined,
    onEvicted: (kind, count) => metrics.forgotten(kind, count),
    shared: sharedResends,
  })
  const forgetExpired = createForgetExpired({ journal, acceptance, retention: () => rules.book.retention, clock })
  const upkeep = startUpkeep({
    database,
    progress,
    replica,
    dir,
    idempotencyTtlMs: config.idempotencyTtlMs,
    secret,
    billagedUrl: config.billagedUrl,
    async forget() {
      await forgetDeleted({ journal, acceptance, deletions: rules.deletions, clock })
      await forgetExpired()
    },
    clock,
    log,
    registry,
  })
  closeWithin('upkeep', lastWordMs, () => upkeep.close())
  closeWithin('rules', lastWordMs, () => rules.close())
  closeWithin('users and keys', lastWordMs, () => people.close())
  const surroundings = watchSurroundings({ dir, reads: () => database.parts?.reads, registry, log })
  closeWithin('surroundings', lastWordMs, () => surroundings.close())
  void database.ready.then(() => surroundings.round()).catch(() => {})

  const isJournalNearlyFull = () => journal.bytes >= config.journalBytesMax * 0.95
  const health = createHealth({ clock })
  health.add('database', () => database.health())
  health.add('journal', () =>
    journal.bytes > config.journalBytesMax / 2
      ? { status: 'degraded', detail: `${journal.bytes} of ${config.journalBytesMax} bytes wait for the database` }
      : { status: 'ok' },
  )
  health.add('quarantine', () =>
    progress.hasRecentQuarantine()
      ? { status: 'degraded', detail: 'entries were set aside within the last hour; see: purser logs quarantine list' }
      : { status: 'ok' },
  )
  if (redis) health.add('redis', () => redis.status())
  if (config.readUrl !== undefined)
    health.add('read replica', () => database.replicaHealth() ?? { status: 'degraded', detail: 'not reached yet' })
  upkeep.addHealth(health)

  let isDraining = false
  const requestLimits = await openRequestLimits({
    redis,
    replica,
    dir,
    rps: config.rateLimitRps,
    burst: config.rateLimitBurst,
    clock,
    log,
    registry,
  })
  parts.onClose('request limits', () => requestLimits.close())
  const volume = createVolume({
    clock,
    tokens: requestLimits.tokens,
    dayTotals: requestLimits.dayTotals,
    limits: () => rules.book.limits,
    rowsPerSecond: () => current.rateLimitRowsPerSecond,
    bytesPerSecond: () => current.rateLimitBytesPerSecond,
  })
  const stopDayUsage = followDayUsage({
    volume,
    backlog,
    reads: () => database.parts?.reads,
    isWanted: () => rules.book.limits !== noLimits,
  })
  parts.onClose('daily usage', async () => stopDayUsage())
  const access = {
    directory,
    get buckets() {
      return current.isRateLimited ? requestLimits.other : undefined
    },
    guesses: createGuesses({ clock }),
  }
  const intake = createIntake({
    clock,
    directory,
    acceptance,
    turns: createTurns(),
    admission,
    settlement,
    receipts,
    metrics,
    rules: entryRules,
    lineBytesMax: config.lineBytesMax,
    bodyBytesMax: config.bodyBytesMax,
    entriesMax: config.rowsPerRequestMax,
    batchErrors: config.batchErrors,
    elasticVersion: config.elasticVersion,
    inflight: createInflightBytes(config.inflightBytesMax, config.bodyBytesMax),
    pool,
    get buckets() {
      return current.isRateLimited ? requestLimits.intake : undefined
    },
    get volume() {
      return current.isRateLimited ? volume : undefined
    },
    guesses: access.guesses,
    clientAddress: request => clientAddress(trusted, request),
    isDraining: () => isDraining,
    drainRetryS: () => progress.drainRetryS(),
    oldestAllowedMs: tenant => rules.book.oldestAllowedMs(tenant),
    redactionOf: tenant => rules.book.redactionOf(tenant),
    observe: (route, method, status, seconds) => observe(route, method, status, seconds),
    log,
  })
  let closeHttp2: (drainMs: number) => Promise<void> = async () => {}
  const rpc = createRpc({
    routes: otlpRoutes(intake),
    fallback: (request, response) => {
      if (!intake.http(request, response)) app.routing(request, response)
    },
    readMaxBytes: config.bodyBytesMax,
    log,
    registry,
  })
  const ownPages = config.budgetguardUrl === undefined ? readOwnPages(consoleFolder) : undefined
  const ownSession = { access, secret, clock, version: base.version }
  const browser = createBrowserDoor({
    origins: () => current.corsOrigins,
    consoleUrl: config.budgetguardUrl,
    ownPages,
  })
  const app = createHttp({
    service: 'log-ingestion',
    base,
    health,
    ownRoutes: ['/health', '/health/ready'],
    trustedProxies: config.trustedProxies,
    authorizeDetailed: request => void authorize(access, request, 'logs:read'),
    serverFactory: handler => {
      const server = createServer(
        {
          maxHeaderSize: headerBytesMax,
          headersTimeout: config.readTimeoutMs,
          requestTimeout: config.readTimeoutMs,
          connectionsCheckingInterval: 1_000,
          keepAliveTimeout: keepAliveMs,
          noDelay: true,
          shouldUpgradeCallback: isTailUpgrade,
        },
        (request, response) => {
          // A reader that stopped reading must not hold its answer for ever. Live tails end only by themselves.
          response.once('prefinish', () => {
            const timer = setTimeout(() => response.destroy(), config.writeTimeoutMs)
            response.once('close', () => clearTimeout(timer))
          })
          if (browser(request, response)) return
          if (request.url?.startsWith(logsServicePath)) rpc(request, response)
          else if (!intake.http(request, response)) handler(request, response)
        },
      )
      closeHttp2 = acceptHttp2(server, {
        // What node:http2 offers for node:http's objects is all that these read.
        handler: (request, response) => rpc(request, response),
        headersBytesMax: headerBytesMax,
        requestTimeoutMs: config.readTimeoutMs,
        log,
      })
      return server
    },
    formatError(problem, request, reply) {
      const error = problem.extra.error ?? problem.message
      if (problem.reason === 'NOT_FOUND' && request.is404) void reply.send({ error: 'Not found' })
      else if (/^\/(admin|auth)\b/.test(request.url))
        void reply.send(problem.reason === 'INVALID_JSON' ? { error: 'Invalid request', details: error } : { error })
      else if (/^\/(api\/v1\/(faults|notices|users)|v1\/notices)\b/.test(request.url))
        void reply.send(
          problem.reason === 'INVALID_JSON' ? { error: 'Invalid request body', details: error } : { error },
        )
      else
        void reply.type('application/problem+json').send({
          type: `docs/errors.md#${problem.reason.toLowerCase()}`,
          title: problem.title,
          status: problem.status,
          detail: problem.message,
          reason: problem.reason,
          requestId: request.id,
          ...problem.extra,
          error,
        })
      return true
    },
  })
  const observe = httpObserver(base)
  readBodiesAsJson(app)
  if (redis) fetchTokens(app, access)
  addHealth(app, { health, notice: () => people.notice, isReady: () => !isDraining && !isJournalNearlyFull() })
  const context: QueryContext = {
    access,
    gate: createGate(),
    clock,
    log,
    metrics,
    hub,
    receipts,
    replica,
    // Before, nobody knows what is hidden and what has expired.
    store: () => (rules.isReady ? database.parts?.queries : undefined),
    reads: () => database.parts?.reads,
    watermarkUs: () => database.parts?.queriesWatermarkUs ?? progress.watermarkUs(),
    intake: () => ({
      startedMonotonicMs,
      pendingRows: progress.pendingRows(),
      storedRows: database.parts?.writer.status().stored ?? 0,
      flushes: database.parts?.writer.status().flushes ?? 0,
      failures: database.parts?.writer.status().failures ?? 0,
      isWriterHealthy: database.health().status === 'ok',
      problem: database.problem,
      batchRows: current.batchRows,
      flushIntervalMs: current.batchFlushIntervalMs,
      isRateLimited: current.isRateLimited,
      rateLimitRps: current.rateLimitRps,
    }),
  }
  addReading(app, context, { version: base.version, lokiLabels: config.lokiLabels })
  addReceipts(app, context)
  addIntakeStatus(app, { ...context, backlog, tenants: metrics.tenants }, registry)
  addStorage(app, context)
  addLedger(app, { ...context, backlog, imbalanceRows: () => upkeep.compare().then(() => progress.imbalanceRows) })
  addQuarantine(app, { ...context, acceptance, rules: entryRules, tenancy: () => database.parts?.tenancy })
  addAdmin(app, context)
  rules.addRoutes(app, context, { tenancy: () => database.parts?.tenancy, decoderRedaction: redaction })
  const peopleContext = {
    access,
    tenancy: () => database.parts?.tenancy,
    apiKeys: () => people.open?.apiKeys,
    users: () => people.open?.users,
  }
  addKeys(app, peopleContext)
  addUsers(app, peopleContext)
  addFaults(app, { ...peopleContext, clock, faults: () => people.open?.faults })
  addNotices(app, { access, clock, redaction, faults: () => people.open?.faults })
  addSignIn(app, {
    clock,
    people: () => people.open,
    isRegistrationOpen: () => current.registration === 'open',
    signInByKey: ownPages && ((request, reply, adminKey) => signInByKey(ownSession, request, reply, adminKey)),
  })
  if (ownPages) addOwnSession(app, ownSession)

  parts.onClose('tails', async () => hub.close())
  const url = await listen(app, {
    host: config.serverHost,
    port: config.serverPort,
    variable: 'LOG_INGESTION_SERVER_PORT',
  })
  const leave = () => {
    isDraining = true
    health.draining()
    settlement.endWaiting()
  }
  parts.onClose('http', async () => {
    leave()
    await Promise.all([closeHttp(app, { drainMs: 5_000 }), closeHttp2(5_000)])
  })
  const syslog = await startSyslog({
    tcp: config.syslogTcp === undefined ? undefined : parseHostPort(config.syslogTcp),
    udp: config.syslogUdp === undefined ? undefined : parseHostPort(config.syslogUdp),
    tls:
      config.syslogTlsCert === undefined || config.syslogTlsKey === undefined
        ? undefined
        : { cert: config.syslogTlsCert, key: config.syslogTlsKey },
    allow: parseAllowed(config.syslogAllow) ?? new BlockList(),
    zone: config.syslogTimezone,
    caller: createSyslogKey({ name: config.syslogKey, directory, tenancy: () => database.parts?.tenancy }),
    intake,
    messageBytesMax: config.lineBytesMax,
    log,
    registry,
  })
  parts.onClose('syslog', async () => {
    // It listens a moment longer to those who were sending; nobody else is let in meanwhile.
    leave()
    await syslog.close()
  })
  if (config.hasSelfLogs) {
    const patterns = () => rules.book.redactionOf('public')
    const stopCapture = captureSelfLogs({ log, acceptance, clock, redaction, patterns })
    parts.onClose('self logs', async () => stopCapture())
  }
  const waited = new AbortController()
  await Promise.race([database.ready, sleep(databaseWaitMs, waited.signal).catch(() => {})])
  waited.abort()
  return {
    url,
    syslog: { tcp: syslog.tcp, udp: syslog.udp },
    close: () => parts.close(),
    hurry: () => hurried.resolve(),
    async reload(next: Config) {
      const keys = await staticKeysOf(next, writeKeyPath)
      const tenancy = database.parts?.tenancy
      for (const slug of new Set(keys.map(key => key.tenant)))
        if (tenancy) await tenancy.tenants.ensure(slug, { kind: 'system', name: 'configuration' })
      // Nothing below can fail: it is all applied, or nothing was.
      directory.setStatic(keys)
      for (const buckets of [requestLimits.other, requestLimits.intake])
        buckets.configure({ rps: next.rateLimitRps, burst: next.rateLimitBurst })
      current = next
      log.level = next.logLevel
      sensitiveKeys = createRedaction(next.redactKeys)
      rules.reload(next)
      metrics.reloaded(true)
      const settings = needRestart(config, next)
      if (settings.length > 0) log.warn({ settings }, 'these settings changed and apply after a restart')
    },
    reloadRefused: () => metrics.reloaded(false),
  }
}

async function endedOrLeft(ended: Promise<void>, timeoutMs: number, hurried: Promise<void>): Promise<void> {
  const timeout = new AbortController()
  try {
    await Promise.race([ended, hurried, sleep(timeoutMs, timeout.signal)])
  } finally {
    timeout.abort()
    // Nobody waits for it any more.
    ended.catch(() => {})
  }
}

/** Which journal this is, for ever: made at the first start. */
async function replicaOf(dir: string): Promise<string> {
  const path = join(dir, 'replica')
  const known = await readFile(path, 'utf8').catch(() => '')
  if (/^[0-9a-f-]{36}$/.test(known.trim())) return known.trim()
  const replica = randomUUID()
  await writeDurably(path, replica)
  return replica
}

async function staticKeysOf(config: Config, writeKeyPath: string | undefined): Promise<StaticKey[]> {
  const keys: StaticKey[] = [
    ...config.apiKeys.map(text => ({ ...parseStaticKey(text), scopes: writeScopes })),
    ...config.adminApiKeys.map(text => ({ ...parseStaticKey(text), scopes: adminScopes })),
  ]
  if (writeKeyPath !== undefined) {
    let key = (await readFile(writeKeyPath, 'utf8').catch(() => '')).trim()
    if (key === '') {
      key = `${randomBytes(32).toString('base64url')}=`
      await writeDurably(writeKeyPath, key)
    }
    keys.push({ key, tenant: 'public', name: 'write-key', scopes: writeScopes })
  }
  return keys
}

/** Readable by us alone, whole or not at all, and still there after a power cut. */
async function writeDurably(path: string, content: string): Promise<void> {
  const temporary = `${path}.${process.pid}`
  const file = await open(temporary, 'w', 0o600)
  try {
    await file.writeFile(`${content}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await chmod(temporary, 0o600)
  await rename(temporary, path)
  const folder = await open(dirname(path), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** The intake answers beside Fastify and is counted in the same families. */
function httpObserver({ registry }: Base): (route: string, method: string, status: number, seconds: number) => void {
  const requests = registry.getSingleMetric('log_ingestion_http_requests_total')
  const durations = registry.getSingleMetric('log_ingestion_http_request_duration_seconds')
  if (!(requests instanceof Counter && durations instanceof Histogram))
    throw new Error('BUG: createHttp registered no metrics')
  return (route, method, status, seconds) => {
    requests.labels(route, method, String(status)).inc()
    durations.labels(route).observe(seconds)
  }
}
