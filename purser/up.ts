// `purser up`: embedded PostgreSQL and every service under one roof.
//
//   checks (lock, ports, every configuration) → PostgreSQL + console build → services together → ready
//   a signal → services stop, logs last so that the others' last words are kept → PostgreSQL → exit 0
//
// Nothing is started before all checks passed: a person sees every problem of every service at once.

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { formatProblems } from '#platform/config'
import { version } from '#platform/lifecycle'
import { AlreadyLocked, lockFile } from '#platform/lock'
import { resolveDatabase } from '#platform/postgres'
import { createLog, type Logger } from '#platform/telemetry'
import { loadSecret } from '#platform/tenancy/secret'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { checkServiceConfigs } from './check-configs.ts'
import { type Child, type ChildState, superviseChild } from './child.ts'
import type { Config } from './config.ts'
import { buildConsoleIfStale } from './console-build.ts'
import { openLogFile } from './log-files.ts'
import {
  collectorConfigPath,
  type PlannedService,
  planServices,
  type ServiceName,
  serviceDir,
  serviceNames,
} from './plan.ts'
import { findTakenPorts } from './ports.ts'
import { removeRunFile, writeRunFile } from './run-file.ts'
import { type LogShipper, openLogShipper } from './ship-logs.ts'
import { lineForPeople, openTerminal, type Terminal } from './terminal.ts'

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

/** Runs until a signal; resolves to the exit code. */
export async function up(config: Config, options: UpOptions): Promise<number> {
  const startedMs = performance.now()
  const terminal = openTerminal()
  const isEmbedded = config.platformDatabaseUrl === undefined
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
    resolveDatabase({
      ...(config.platformDatabaseUrl === undefined ? {} : { url: config.platformDatabaseUrl }),
      dir: join(config.dataDir, 'postgres'),
      log: roof.log,
    }),
    loadSecret({
      ...(config.platformSecret === undefined ? {} : { secret: config.platformSecret }),
      dataDir: config.dataDir,
    }),
    buildConsole(options, roof, terminal),
  ])
  if (database.isEmbedded)
    terminal.print(terminal.dim(`PostgreSQL is up after ${seconds(performance.now() - startedMs)}`))

  const services = planWith(database.url)
  roof.shipTo(services, secret)
  const children = services.map(service => startChild(service, options, roof, terminal))
  writeRunFile(config.dataDir, {
    pid: process.pid,
    startedAt: new Date().toISOString(),
    version: version(),
    services: services.map(({ name, url, ports }) => ({ name, url, ports: ports.map(p => p.port) })),
  })
  const allReady = Promise.all(children.map(child => child.firstReady))
  const isReady = await Promise.race([allReady.then(() => true), stopAsked.first.then(() => false)])
  if (isReady) printWelcome(services, secret, config, terminal, performance.now() - startedMs)

  await stopAsked.first
  terminal.print(terminal.dim('stopping …'))
  await stopChildren(children, roof)
  removeRunFile(config.dataDir)
  await database.close()
  lock.release()
  terminal.print(terminal.dim('stopped'))
  return 0
}

/** The data folder is private; as root with our own PostgreSQL it must be passable for the server's unprivileged user. */
function prepareDataDir(dataDir: string, isEmbedded: boolean) {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  chmodSync(dataDir, isEmbedded && process.getuid?.() === 0 ? 0o711 : 0o700)
  for (const name of serviceNames) mkdirSync(serviceDir(dataDir, name), { recursive: true, mode: 0o700 })
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
    if (tookMs !== undefined) terminal.print(terminal.dim(`console built in ${seconds(tookMs)}`))
  } catch (error) {
    // The services are worth having without their console; its page says how to build it.
    roof.log.error({ err: error }, 'the console is not available')
  }
}

/** Where everything the processes say goes: files, log-ingestion, the terminal. */
interface Roof {
  log: Logger
  line(service: string, line: string): void
  shipTo(services: readonly PlannedService[], secret: Buffer): void
  close(): Promise<void>
}

function openRoof(config: Config, terminal: Terminal): Roof {
  const files = new Map<string, ReturnType<typeof openLogFile>>()
  let shipper: LogShipper | undefined
  /** Lines from before log-ingestion's address is known. */
  const early: [service: string, line: string][] = []

  const line = (service: string, text: string) => {
    const file = files.get(service) ?? openLogFile(join(config.dataDir, 'logs'), service)
    files.set(service, file)
    file.write(text)
    if (terminal.isInteractive || config.logFormat === 'pretty' || config.logFormat === 'text') {
      const shown = lineForPeople(text, terminal)
      if (shown !== undefined) terminal.print(shown)
    } else if (text.startsWith('{')) process.stdout.write(`${text}\n`)
    else
      process.stdout.write(
        `${JSON.stringify({ level: 'ERROR', time: new Date().toISOString(), service, msg: text })}\n`,
      )
    // log-ingestion writes its own lines to its own journal; sending them here would double them.
    if (service === 'log-ingestion') return
    if (shipper) shipper.add(service, text)
    else if (early.length < 1_000) early.push([service, text])
  }
  return {
    log: createLog({
      service: 'purser',
      level: config.logLevel,
      format: 'json',
      destination: { write: text => line('purser', text.trimEnd()) },
    }),
    line,
    shipTo(services, secret) {
      const logs = services.find(service => service.name === 'log-ingestion')
      if (!logs) return
      shipper = openLogShipper({ url: logs.url, secret, clock: systemClock })
      for (const [service, text] of early.splice(0)) shipper.add(service, text)
    },
    async close() {
      await shipper?.close(2_000)
      shipper = undefined
      await Promise.all([...files.values()].map(file => file.close()))
    },
  }
}

function startChild(service: PlannedService, { watch }: UpOptions, roof: Roof, terminal: Terminal): Child {
  const main = fileURLToPath(new URL(`../services/${service.name}/main.ts`, import.meta.url))
  const onState = (state: ChildState, detail: string) => {
    roof.log.info({ child: service.name, state, detail }, 'process state')
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
    args: ['--disable-warning=ExperimentalWarning', ...(watch ? ['--watch', '--watch-preserve-output'] : []), main],
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

/** The first TERM, INT or HUP-less stop resolves `first`; a second one leaves at once, children follow through their pipes. */
function waitForStop(log: Logger): { first: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>()
  let count = 0
  const onSignal = (signal: string) => {
    count += 1
    log.info({ signal }, 'stopping')
    if (count > 1) process.exit(130)
    resolve()
  }
  process.on('SIGTERM', () => onSignal('SIGTERM'))
  process.on('SIGINT', () => onSignal('SIGINT'))
  return { first: promise }
}

function printWelcome(
  services: readonly PlannedService[],
  secret: Buffer,
  config: Config,
  t: Terminal,
  tookMs: number,
) {
  const gateway = services.find(service => service.name === 'budgetguard')
  const lines = ['', t.bold(`Purser ${version()} is up after ${seconds(tookMs)}`), '']
  for (const { name, url, ports } of services)
    lines.push(`  ${name.padEnd(18)} ${url}${ports.length > 1 ? t.dim(`   metrics on ${ports[1]?.port}`) : ''}`)
  if (gateway) {
    const token = mintToken(secret, {
      audience: 'console-login',
      role: 'owner',
      subject: 'console',
      ttlS: 600,
      clock: systemClock,
    })
    const adminKey = showPath(join(serviceDir(config.dataDir, 'budgetguard'), 'admin-key'))
    const base = gateway.url.replace('127.0.0.1', 'localhost')
    lines.push('')
    // A one-time link on a terminal is for the person before it; in a log file it would be a credential.
    if (t.isInteractive)
      lines.push(
        `  Console            ${base}/dashboard#token=${token}`,
        t.dim('                     signs you in once, within 10 minutes'),
      )
    else lines.push(`  Console            ${base}/dashboard`)
    lines.push(
      `  Admin key          in ${process.env.ADMIN_API_KEY || process.env.BUDGETGUARD_ADMIN_API_KEY ? 'ADMIN_API_KEY' : adminKey}`,
    )
  }
  if (services.some(service => service.name === 'log-ingestion'))
    lines.push(`  Logs write key     in ${showPath(join(serviceDir(config.dataDir, 'log-ingestion'), 'write-key'))}`)
  lines.push(
    '',
    t.dim(
      '  Next: `npx purser demo` sends realistic traffic, `npx purser status` shows what runs. Ctrl-C stops everything.',
    ),
    '',
  )
  for (const line of lines) t.print(line)
}

function showPath(path: string): string {
  const shown = relative(process.cwd(), path)
  return shown.startsWith('..') ? path : shown
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}
