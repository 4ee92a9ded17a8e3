// Everything built once, top to bottom: database → tenants → prices and budgets → journal and its recovery → the book
// → providers → HTTP. Closing runs upwards: no new calls, running ones end, the ledger is folded, slices go back.

import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { closeHttp, createHealth, createHttp, isLoopback, listen, type Problem } from '#platform/http'
import { readBuiltFiles } from '#platform/http/built-files'
import { type Base, type Running, type StartSequence, startSequence } from '#platform/lifecycle'
import { formatUsd } from '#platform/money'
import { migrate, resolveDatabase, type Sql, type Tx } from '#platform/postgres'
import { startTracing } from '#platform/telemetry'
import { loadSecret } from '#platform/tenancy/secret'
import { openTenancy, type Tenancy, type Tenant } from '#platform/tenancy/tenancy'
import { sleep } from '#platform/time'
import { openOutbox } from '#platform/usage/outbox'
import { Book } from './book.ts'
import type { Config } from './config.ts'
import { renderError } from './dialects/errors.ts'
import { Refusal } from './errors.ts'
import type { FoldPlan } from './fold-plan.ts'
import { echoModels, guideModels } from './guide-prices.ts'
import { type Admission, openAdmission } from './holds/admission.ts'
import { openFold } from './holds/fold.ts'
import { openLeases } from './holds/leases.ts'
import { recoverJournal } from './holds/recovery.ts'
import { createSerial } from './holds/serial.ts'
import { claimDeadSlots, claimSlot, type Slot } from './holds/slot.ts'
import { registerAdmin } from './http/admin/admin.ts'
import { aiScope } from './http/admin/keys.ts'
import { type AdminKey, loadAdminKey } from './http/admin-key.ts'
import { createAuthenticate } from './http/caller.ts'
import { registerConsole } from './http/console/console.ts'
import { registerGateway } from './http/gateway.ts'
import { type Liveness, registerHealth } from './http/health.ts'
import { createOperators } from './http/operator.ts'
import { createRates } from './http/rates.ts'
import { implicitBudgets } from './implicit-budgets.ts'
import { createLiveHub, type LiveHub } from './observe/live.ts'
import { createMetrics, watchGauges } from './observe/metrics.ts'
import { createObserver } from './observe/observer.ts'
import { usageEvents } from './observe/usage.ts'
import { openEcho } from './providers/echo.ts'
import { openOpenAi } from './providers/openai.ts'
import type { Provider } from './providers/provider.ts'
import { syncImplicitBudgets } from './store/budgets.ts'
import { openPools, waitForDatabase } from './store/database.ts'
import { watchDatabase } from './store/database-watch.ts'
import { beginLife } from './store/nodes.ts'
import { seedModels } from './store/prices.ts'
import { writeRunFile } from './store/run-file.ts'
import { hasSettings, storeSettings } from './store/settings.ts'
import { watchCatalog } from './store/watch-catalog.ts'

const consoleFolder = fileURLToPath(new URL('../../console/dist/', import.meta.url))
/** A supervisor gives its children 30 s in all; folding and returning slices needs some of them. */
const supervisedDrainMsMax = 20_000
const journalFullShare = 0.9

export async function start(config: Config, base: Base): Promise<Running> {
  const { log, registry, clock } = base
  const isProduction = config.nodeEnv === 'production'
  const dataDir = join(config.dataDir, 'budgetguard')
  const parts = startSequence(log)
  warnAboutUnserved(config, base)

  const { pools, secret, tenancy, databaseWatch, databaseUrl } = await openStores(config, base, parts, dataDir)
  const sql = pools.money
  const adminKey = await loadAdminKey({ configured: config.adminApiKey, isProduction, folder: dataDir })
  announceAdminKey(adminKey, base)

  // --- catalogue: prices, budgets, settings ----------------------------------------------------------------------
  await seedModels(sql, guideModels, 'guide')
  await seedModels(sql, echoModels, 'built-in')
  const implicitFor = (tenant: Tenant) => implicitBudgets(config, tenant.timezone)
  const syncBudgets = (tenants: readonly Tenant[]) =>
    syncImplicitBudgets(
      sql,
      tenants.map(tenant => ({ tenantId: tenant.id, implicit: implicitFor(tenant) })),
    )
  await syncBudgets(tenancy.tenants.list())
  const catalog = await parts.add('catalogue', () => watchCatalog(sql, log))
  const lacksBudgets = (tenant: Tenant) => !catalog.current.budgets.has(tenant.id) && implicitFor(tenant).length > 0
  /** Tenants are made by every service; none of them calls a model before its implicit budgets are there. */
  const ensureBudgets = async (tenants: readonly Tenant[]) => {
    const missing = tenants.filter(lacksBudgets)
    if (missing.length === 0) return
    await syncBudgets(missing)
    await catalog.reload()
  }

  // --- observing -------------------------------------------------------------------------------------------------
  const metrics = createMetrics(registry)
  const live = createLiveHub()
  const observer = createObserver({
    metrics,
    live,
    modelLabel: name => catalog.current.modelByName.get(name)?.model ?? 'other',
  })
  const outbox = await parts.add('usage outbox', () =>
    openOutbox({
      sql,
      schema: 'budgetguard',
      service: 'budgetguard',
      clusterId: 'default',
      ...(config.billagedUrl === undefined ? {} : { billagedUrl: config.billagedUrl }),
      secret,
      log,
      clock,
      registry,
    }),
  )
  const report = (tx: Tx, plan: FoldPlan) => outbox.report(tx, usageEvents(plan))

  // --- journal: ours, and those of processes that died here ------------------------------------------------------
  const nodesDir = join(dataDir, 'nodes')
  const journalSettings = { bytesMax: config.journalBytes, log, clock }
  const slot = await parts.add('journal', async () => {
    const claimed = await claimSlot(nodesDir, { ...journalSettings, registry, metricPrefix: 'budgetguard_journal' })
    return { ...claimed, close: () => claimed.journal.close() }
  })
  const recover = async ({ nodeId, journal }: Slot) => {
    const identity = { nodeId, host: hostname(), pid: process.pid, version: base.version }
    const life = await beginLife(sql, identity)
    const found = await recoverJournal({ sql, journal, life, policy: config.orphanSettle, report, log, clock })
    if (found.orphans === 0) return life
    metrics.holdsReaped.labels('orphan').inc(found.orphans)
    const bookedUsd = formatUsd(found.settled)
    log.warn(
      { holds: found.orphans, bookedUsd, policy: config.orphanSettle },
      'holds of a process that died were ended',
    )
    return life
  }
  const life = await recover(slot).catch(async (error: unknown) => {
    await parts.close()
    throw error
  })
  for (const dead of await claimDeadSlots(nodesDir, slot.index, journalSettings)) {
    await recover(dead).catch((error: unknown) =>
      log.error(
        { err: error, slot: dead.index },
        'the journal of a dead process could not be recovered; the next start tries again',
      ),
    )
    await dead.journal.close()
  }

  // --- the book --------------------------------------------------------------------------------------------------
  const book = new Book()
  const foldSerial = createSerial()
  const leases = await openLeases({
    sql,
    book,
    node: life,
    log,
    clock,
    foldSerial,
    observe: {
      acquired: seconds => metrics.leaseAcquireSeconds.observe(seconds),
      recalled: () => metrics.leaseRecalls.inc(),
      frozen: count => metrics.leasesLost.inc(count),
    },
  })
  const fold = await openFold({
    sql,
    journal: slot.journal,
    nodeId: life.id,
    log,
    clock,
    serial: foldSerial,
    report,
    onFolded(plan, folded) {
      if (folded === null) {
        // It happened; what the slices gave is not known. Take the most they can have given, and ask later.
        for (const { accountId, fence, amount } of plan.settled)
          if (fence === life.fence) book.folded(accountId, { settled: amount, consumed: amount, central: null })
        leases.distrust(plan.settled.map(entry => entry.accountId))
        return
      }
      for (const { accountId, fence, settled, consumed, central } of folded.accounts)
        book.folded(
          accountId,
          fence === life.fence ? { settled, consumed, central } : { settled: 0n, consumed: 0n, central },
        )
      for (const { status, count } of folded.rows) metrics.ledgerRows.labels(status).inc(count)
      if (folded.overspend > 0n) {
        metrics.overspend.inc(Number(folded.overspend))
        log.error({ overspendUsd: formatUsd(folded.overspend) }, 'a provider charged beyond a hard budget')
      }
    },
  })
  fold.run()
  const admission = openAdmission({
    book,
    leases,
    journal: slot.journal,
    journalBytesMax: config.journalBytes,
    node: life,
    orphanPolicy: config.orphanSettle,
    log,
    clock,
    observe: observer,
  })
  parts.onClose(
    'ledger and slices',
    async () => {
      await untilNoHolds(book)
      await admission.close()
      await fold.close()
      const isSettled = await fold.catchUp().then(
        () => book.openHolds === 0,
        (error: unknown) => {
          log.warn({ err: error }, 'the journal keeps what is not folded; the next start folds it')
          return false
        },
      )
      await leases.close({ isSettled }).catch((error: unknown) => log.warn({ err: error }, 'slices were not returned'))
    },
    { timeoutMs: 15_000 },
  )
  catalog.onChange(() => {
    leases.refresh().catch((error: unknown) => log.warn({ err: error }, 'accounts could not be read again'))
  })
  const changed = async () => {
    await catalog.reload()
    await leases.refresh()
  }
  tenancy.onChange(() => {
    ensureBudgets(tenancy.tenants.list()).catch((error: unknown) =>
      log.warn({ err: error }, 'implicit budgets are late'),
    )
  })
  parts.onClose('live numbers', startLiveNumbers({ live, book, admission, metrics, tenancy }))

  // --- providers -------------------------------------------------------------------------------------------------
  const openAi = await parts.add('providers', async () =>
    openOpenAi({
      baseUrl: config.openaiBaseUrl,
      key: config.openaiKey,
      firstByteTimeoutMs: config.firstByteTimeoutMs,
      idleTimeoutMs: config.idleTimeoutMs,
    }),
  )
  const providers = new Map<string, Provider>([['openai', openAi]])
  if (!isProduction) providers.set('echo', openEcho(clock))

  // --- HTTP ------------------------------------------------------------------------------------------------------
  const health = createHealth({ clock })
  let isDraining = false
  const liveness: Liveness = {
    isDatabaseUp: () => databaseWatch.isUp(),
    databaseDownMs: () => databaseWatch.downMs(),
    isJournalFull: () => slot.journal.bytes > config.journalBytes * journalFullShare,
    isDraining: () => isDraining,
    hasUsableSlices: () => leases.openNano > 0n,
  }
  watchGauges(registry, {
    holdsOpen: () => book.openHolds,
    heldNano: () => book.heldNano,
    oldestHoldS: () => oldestHoldMs(book, clock.monotonicMs()) / 1_000,
    leasesOpenNano: () => leases.openNano,
    ledgerLagS: () => fold.lagMs() / 1_000,
    isDatabaseUp: liveness.isDatabaseUp,
    *utilization() {
      for (const account of book.accounts()) {
        const { limit } = account.central
        if (limit === 0n || account.window.end <= clock.now()) continue
        const used = book.spent(account) + book.heldByAll(account)
        yield {
          budgetId: account.budgetId,
          scope: 'tenant',
          period: account.period,
          ratio: Number((used * 10_000n) / limit) / 10_000,
        }
      }
    },
  })
  health.add('database', () =>
    databaseWatch.isUp()
      ? { status: 'ok', latencyMs: databaseWatch.latencyMs() }
      : { status: 'down', detail: `no answer for ${Math.round(databaseWatch.downMs() / 1_000)} s` },
  )
  health.add('journal', () => ({
    status: liveness.isJournalFull() ? 'down' : 'ok',
    detail: `${slot.journal.bytes} of ${config.journalBytes} bytes wait for the ledger`,
  }))
  health.add('ledger', () => ({
    status: fold.lagMs() > 60_000 ? 'degraded' : 'ok',
    detail: `${Math.round(fold.lagMs() / 1_000)} s behind`,
  }))
  health.add('leases', () => ({ status: 'ok', detail: `${formatUsd(leases.openNano)} USD in slices` }))
  health.add('usage', () => outbox.status())

  const operators = createOperators({
    sql: pools.reports,
    secret,
    adminKey: adminKey.key,
    clock,
    onFailure: () => metrics.authFailures.labels('admin').inc(),
  })
  const { otlpEndpoint } = config
  const tracing =
    otlpEndpoint === undefined
      ? undefined
      : await parts.add('tracing', () =>
          startTracing({ service: 'budgetguard', version: base.version, endpoint: otlpEndpoint, samplingRate: 1 }),
        )
  const app = createHttp({
    service: 'budgetguard',
    base,
    health,
    ...(tracing === undefined ? {} : { tracing }),
    ownRoutes: ['/health', '/health/ready'],
    trustedProxies: config.trustProxy,
    async authorizeDetailed(request) {
      if (!isLoopback(request.ip)) await operators.authorize(request, 'read')
    },
    formatError: (problem, request, reply) => {
      reply.type('application/json; charset=utf-8').send(renderError('admin', asRefusal(problem), request.id))
      return true
    },
  })
  registerHealth(app, { health, liveness, providers, readyDb: config.readyDb, version: base.version })
  registerGateway(app, {
    config,
    clock,
    log,
    metrics,
    authenticate: createAuthenticate({ tenancy, clock, metrics }),
    rates: createRates(clock),
    catalog,
    admission,
    providers,
    ensureBudgets: tenant => ensureBudgets([tenant]),
  })
  registerAdmin(app, {
    config,
    sql: pools.reports,
    clock,
    log,
    version: base.version,
    tenancy,
    operators,
    catalog,
    admission,
    leases,
    live,
    nodeId: life.id,
    implicitFor,
    changed,
  })
  const consoleRoutes = registerConsole(app, {
    config,
    files: readBuiltFiles(consoleFolder),
    operators,
    secret,
    clock,
    health,
    version: base.version,
    log,
  })
  parts.onClose('console proxy', () => consoleRoutes.close())
  const drainMs = config.isSupervised ? Math.min(config.drainTimeoutMs, supervisedDrainMsMax) : config.drainTimeoutMs
  parts.onClose(
    'http',
    async () => {
      isDraining = true
      health.draining()
      admission.drain()
      await closeHttp(app, { drainMs })
    },
    { timeoutMs: drainMs + 5_000 },
  )
  try {
    const url = await listen(app, { host: config.host, port: config.port, variable: 'BUDGETGUARD_PORT' })
    const removeRunFile = writeRunFile(dataDir, { pid: process.pid, url, databaseUrl })
    parts.onClose('run file', async () => removeRunFile())
    return { url, close: () => parts.close() }
  } catch (error) {
    await parts.close().catch(() => undefined)
    throw error
  }
}

async function openStores(config: Config, base: Base, parts: StartSequence, dataDir: string) {
  const { log, clock, registry } = base
  const database = await parts.add('database', () =>
    resolveDatabase({
      url: config.databaseUrl ?? config.platformDatabaseUrl,
      dir: join(dataDir, 'postgres'),
      dataDir: config.dataDir,
      log,
    }),
  )
  const pools = await parts.add('connections', async () => openPools({ url: database.url, log }))
  const tenancy = await parts.add('tenancy', async () => {
    await waitForDatabase(pools.money, log, () => clock.monotonicMs())
    await migrate(pools.money, { schema: 'budgetguard', folder: new URL('./migrations/', import.meta.url), log })
    const secret = await loadSecret({
      dataDir: config.dataDir,
      ...(config.platformSecret === undefined ? {} : { secret: config.platformSecret }),
    })
    const opened = await openTenancy({ sql: pools.money, secret, log, clock, registry })
    const by = { kind: 'system' as const, name: 'budgetguard' }
    await opened.tenants.ensure('public', by)
    const { slug } = await opened.tenants.ensure(config.defaultTenant, by)
    await seedSettings(pools.money, opened, config)
    if (config.defaultApiKey !== undefined)
      await opened.keys.importStatic([
        { key: config.defaultApiKey, tenantSlug: slug, name: 'DEFAULT_API_KEY', scopes: [aiScope] },
      ])
    return { ...opened, secret, close: () => opened.close() }
  })
  const databaseWatch = watchDatabase(pools.reports, clock)
  parts.onClose('database watch', async () => databaseWatch.close())
  return { pools, secret: tenancy.secret, tenancy, databaseWatch, databaseUrl: database.url }
}

/** The tenants that exist from the start have the default rate stored, as a tenant made by hand has. */
async function seedSettings(sql: Sql, tenancy: Tenancy, config: Config): Promise<void> {
  for (const slug of new Set(['public', config.defaultTenant])) {
    const tenant = tenancy.tenants.list().find(candidate => [candidate.slug, candidate.name].includes(slug))
    if (tenant && !(await hasSettings(sql, tenant.id)))
      await storeSettings(sql, tenant.id, { rateLimitPerMin: config.requestsPerMinute })
  }
}

function announceAdminKey(adminKey: AdminKey, { log }: Base): void {
  if (adminKey.key === undefined)
    log.warn('the admin API is closed: NODE_ENV is production and ADMIN_API_KEY is not set')
  else if (adminKey.path !== null) log.info({ path: adminKey.path }, 'the admin key is in this file')
}

function warnAboutUnserved(config: Config, { log }: Base): void {
  if (config.redisUrl !== undefined)
    log.warn('REDIS_URL is set but not used by this release: rate limits hold per process; budgets hold everywhere')
  if (config.opaPolicyPath !== undefined)
    log.warn('OPA_POLICY_PATH is set but policies are not evaluated by this release; budgets are enforced by holds')
  if (config.corsOrigins.length > 0)
    log.warn('BUDGETGUARD_CORS_ORIGINS is set but not used by this release: browsers of other origins are refused')
}

/** Calls that were cut a moment ago still settle. */
async function untilNoHolds(book: Book): Promise<void> {
  for (let waitedMs = 0; book.openHolds > 0 && waitedMs < 5_000; waitedMs += 20) await sleep(20)
}

function oldestHoldMs(book: Book, nowMs: number): number {
  let oldest = 0
  for (const hold of book.holds()) oldest = Math.max(oldest, nowMs - hold.openedMs)
  return oldest
}

/** Budgets that changed, and the holds, once a second, while somebody looks. */
function startLiveNumbers(o: {
  live: LiveHub
  book: Book
  admission: Admission
  metrics: { overspend: { get(): Promise<{ values: { value: number }[] }> } }
  tenancy: { tenants: { byId(id: number): Tenant | undefined } }
}): () => Promise<void> {
  const last = new Map<bigint, string>()
  const tick = async () => {
    if (o.live.listeners === 0) return last.clear()
    for (const account of o.book.accounts()) {
      const state = o.admission.state(account)
      const text = JSON.stringify(state)
      if (last.get(account.id) === text) continue
      last.set(account.id, text)
      const tenant = o.tenancy.tenants.byId(account.tenantId)?.slug ?? ''
      o.live.emit({ event: 'budget', data: { ...state, tenant, tenantId: account.tenantId } })
    }
    const { values } = await o.metrics.overspend.get()
    o.live.emit({
      event: 'holds',
      data: {
        open: o.book.openHolds,
        heldUsd: formatUsd(o.book.heldNano),
        overspendUsd: formatUsd(BigInt(values[0]?.value ?? 0)),
      },
    })
  }
  const timer = setInterval(() => void tick(), 1_000)
  return async () => clearInterval(timer)
}

function asRefusal(problem: Problem): Refusal {
  const reason = problem.status === 404 ? 'NOT_FOUND' : problem.status >= 500 ? 'INTERNAL' : 'INVALID_REQUEST'
  return new Refusal({ status: problem.status, reason, message: problem.message, headers: { ...problem.headers } })
}
