// `purser up`: embedded PostgreSQL and every service under one roof.
//
//   checks (lock, ports, every configuration) → PostgreSQL + console build → services together → ready
//   a signal → services stop, logs last so that the others' last words are kept → PostgreSQL → exit 0
//
// Nothing is started before all checks passed: a person sees every problem of every service at once.

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { formatProblems } from '#platform/config'
import { repeatedSignalMs, version } from '#platform/lifecycle'
import { AlreadyLocked, lockFile } from '#platform/lock'
import { resolveDatabase } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { loadSecret } from '#platform/tenancy/secret'
import { sleep } from '#platform/time'
import { checkServiceConfigs } from './check-configs.ts'
import { type Child, type ChildState, superviseChild } from './child.ts'
import type { Config } from './config.ts'
import { buildConsoleIfStale } from './console-build.ts'
import {
  collectorConfigPath,
  localSourcesDir,
  type PlannedService,
  planServices,
  type ServiceName,
  serviceDir,
  serviceNames,
} from './plan.ts'
import { findTakenPorts } from './ports.ts'
import { openRoof, type Roof } from './roof.ts'
import { removeRunFile, writeRunFile } from './run-file.ts'
import { openTerminal, type Terminal } from './terminal.ts'
import { welcomeText } from './welcome.ts'

export interface UpOptions {
  only: readonly ServiceName[]
  /** Restart a service when its files change. */
  watch: boolean
}

/** An end of the start that a person can mend; `up` prints it and exits with its code. */
export class CannotStart extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode: number) {
    super(message)
    this.exitCode = exitCode
  }
}

const exitConfig = 78
const childStopTimeoutMs = 15_000
/** After this the welcome is shown even if a service is not ready; it says which. */
const patienceMs = 45_000

/** Runs until a signal; resolves to the exit code. */
export async function up(config: Config, options: UpOptions): Promise<number> {
  const startedMs = performance.now()
  const terminal = openTerminal()
  // The collector keeps its own SQLite file; alone it needs no PostgreSQL.
  const needsDatabase = options.only.some(name => name !== 'metrics-collector')
  const isEmbedded = needsDatabase && config.platformDatabaseUrl === undefined
  prepareDataDir(config.dataDir, isEmbedded)
  const lock = await lockFile(join(config.dataDir, 'supervisor.lock')).catch((error: unknown) => {
    if (error instanceof AlreadyLocked)
      throw new CannotStart(`Purser is ${error.message}. Stop it, or use another PURSER_DATA_DIR.`, 1)
    throw error
  })
  const planWith = (databaseUrl: string) =>
    planServices({
      only: options.only,
      portOffset: config.portOffset,
      dataDir: config.dataDir,
      databaseUrl,
      env: process.env,
    })

  // The socket of an embedded server is known only once it runs; for checking, any PostgreSQL URL will do.
  const draft = planWith(config.platformDatabaseUrl ?? 'postgres://localhost/purser')
  const taken = await findTakenPorts(draft)
  if (taken.length > 0) throw new CannotStart(taken.join('\n'), 1)
  await writeCollectorConfig(draft, config.dataDir)
  const problems = await checkServiceConfigs(draft)
  if (problems.length > 0)
    throw new CannotStart(problems.map(p => formatProblems(p.service, p.problems)).join('\n'), exitConfig)

  const roof = openRoof(config, terminal)
  const stopAsked = waitForStop(roof.log)
  const [database, secret] = await Promise.all([
    needsDatabase ? openDatabase(config, roof.log) : undefined,
    loadSecret({
      ...(config.platformSecret === undefined ? {} : { secret: config.platformSecret }),
      dataDir: config.dataDir,
    }),
    buildConsole(options, roof, terminal),
  ])
  if (database?.isEmbedded)
    roof.say(terminal.dim(`PostgreSQL is up after ${seconds(performance.now() - startedMs)}`), {
      msg: 'PostgreSQL is up',
    })

  const services = planWith(database?.url ?? '')
  roof.shipTo(services, secret)
  const children = services.map(service => startChild(service, options, roof, terminal))
  writeRunFile(config.dataDir, {
    pid: process.pid,
    startedAt: new Date().toISOString(),
    version: version(),
    services: services.map(({ name, url, ports }) => ({ name, url, ports: ports.map(p => p.port) })),
  })
  const allReady = Promise.all(children.map(child => child.firstReady)).then(() => 'all' as const)
  const end = await Promise.race([
    allReady,
    stopAsked.first.then(() => 'stop' as const),
    sleep(patienceMs).then(() => 'late' as const),
  ])
  if (end !== 'stop') {
    const tookMs = performance.now() - startedMs
    const missing = children.filter(child => child.state !== 'ready').map(child => child.name)
    const hasGivenAdminKey = Boolean(process.env.ADMIN_API_KEY ?? process.env.BUDGETGUARD_ADMIN_API_KEY)
    roof.say(welcomeText({ services, missing, secret, dataDir: config.dataDir, tookMs, terminal, hasGivenAdminKey }), {
      msg: `Purser ${version()} is up${missing.length > 0 ? `, without ${missing.join(', ')}` : ''}`,
      startMs: Math.round(tookMs),
      services: services.map(({ name, url }) => ({ name, url })),
    })
  }

  await stopAsked.first
  roof.say(terminal.dim('stopping …'), { msg: 'stopping' })
  await stopChildren(children, roof)
  removeRunFile(config.dataDir)
  await database?.close()
  lock.release()
  if (terminal.isInteractive) terminal.print(terminal.dim('stopped'))
  return 0
}

function openDatabase(config: Config, log: Logger) {
  const dir = join(config.dataDir, 'postgres')
  return resolveDatabase({ url: config.platformDatabaseUrl, dir, log }).catch((error: unknown) => {
    throw new CannotStart(
      `PostgreSQL could not be started in ${dir}: ${error instanceof Error ? error.message : String(error)}`,
      1,
    )
  })
}

/** The data folder is private; as root with our own PostgreSQL it must be passable for the server's unprivileged user. */
function prepareDataDir(dataDir: string, isEmbedded: boolean) {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  chmodSync(dataDir, isEmbedded && process.getuid?.() === 0 ? 0o711 : 0o700)
  for (const name of serviceNames) mkdirSync(serviceDir(dataDir, name), { recursive: true, mode: 0o700 })
  mkdirSync(localSourcesDir(dataDir), { recursive: true, mode: 0o755 })
}

async function writeCollectorConfig(services: readonly PlannedService[], dataDir: string) {
  const collector = services.find(service => service.name === 'metrics-collector')
  if (!collector || collector.env.METRICS_COLLECTOR_CONFIG !== collectorConfigPath(dataDir)) return
  const { starterConfig } = await import('../services/metrics-collector/starter-config.ts')
  const { hostname } = await import('node:os')
  const yaml = starterConfig({
    deviceId: hostname(),
    dataDir: serviceDir(dataDir, 'metrics-collector'),
    listenAddr: collector.env.METRICS_COLLECTOR_HEALTH__LISTEN_ADDR ?? '',
  })
  const path = collectorConfigPath(dataDir)
  if (readIfThere(path) !== yaml) writeFileSync(path, yaml, { mode: 0o600 })
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

async function buildConsole(options: UpOptions, roof: Roof, terminal: Terminal) {
  if (!options.only.includes('budgetguard')) return
  try {
    const tookMs = await buildConsoleIfStale()
    if (tookMs !== undefined)
      roof.say(terminal.dim(`console built in ${seconds(tookMs)}`), {
        msg: 'console built',
        tookMs: Math.round(tookMs),
      })
  } catch (error) {
    // The services are worth having without their console; its page says how to build it.
    roof.log.error({ err: error }, 'the console is not available')
  }
}

function startChild(service: PlannedService, { watch }: UpOptions, roof: Roof, terminal: Terminal): Child {
  const main = fileURLToPath(new URL(`../services/${service.name}/main.ts`, import.meta.url))
  const onState = (state: ChildState, detail: string) => {
    roof.log[state === 'waiting' ? 'warn' : 'info'](
      { child: service.name, state },
      `${service.name} is ${state}${detail === '' ? '' : `: ${detail}`}`,
    )
    if (!terminal.isInteractive) return
    if (state === 'ready')
      terminal.print(
        `${terminal.green('●')} ${service.name.padEnd(18)} ${service.url.padEnd(24)} ${terminal.dim(detail)}`,
      )
    if (state === 'waiting') terminal.print(`${terminal.red('●')} ${service.name.padEnd(18)} ${detail}`)
  }
  return superviseChild({
    service,
    command: process.execPath,
    args: [
      '--disable-warning=ExperimentalWarning',
      ...service.nodeFlags,
      ...(watch ? ['--watch', '--watch-preserve-output'] : []),
      main,
    ],
    onLine: line => roof.line(service.name, line),
    onState,
  })
}

async function stopChildren(children: readonly Child[], roof: Roof) {
  const isLogs = (child: Child) => child.name === 'log-ingestion'
  await Promise.all(children.filter(child => !isLogs(child)).map(child => child.stop(childStopTimeoutMs)))
  await roof.close()
  await Promise.all(children.filter(isLogs).map(child => child.stop(childStopTimeoutMs)))
}

/** The first TERM or INT resolves `first`; a later one leaves at once, and the children follow through their pipes. */
function waitForStop(log: Logger): { first: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>()
  let firstMs: number | undefined
  const onSignal = (signal: string) => {
    const nowMs = performance.now()
    firstMs ??= nowMs
    if (firstMs !== nowMs && nowMs - firstMs > repeatedSignalMs) process.exit(130)
    if (firstMs === nowMs) log.info({ signal }, 'asked to stop')
    resolve()
  }
  process.on('SIGTERM', () => onSignal('SIGTERM'))
  process.on('SIGINT', () => onSignal('SIGINT'))
  return { first: promise }
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}
