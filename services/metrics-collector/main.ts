// argv, environment, signals and exit codes: 0 ok · 1 cannot start or a check failed · 2 usage · 78 configuration.
//
// Not platform/lifecycle's runMain: the guide's flags come with one dash, the file has two spellings, and the watchdog
// must tell the truth. The manners are the same.

import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import type { Problem } from '#platform/config'
import { openSdNotify } from '#platform/lifecycle/sd-notify'
import { createLog, type Logger } from '#platform/telemetry'
import { type CommandLine, parseArgv, usage } from './argv.ts'
import { runQuery, runStatus } from './cli/ask.ts'
import { runOnce } from './cli/once.ts'
import { type Config, formatConfigProblems, type LoadedConfig, loadConfig, printConfig } from './config.ts'
import { StartError } from './errors.ts'
import { type RunningCollector, start } from './service.ts'
import { starterConfig } from './starter-config.ts'

const standardConfigPath = '/etc/belabox-metrics/config.yaml'
const exitConfig = 78

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest
    ? String(manifest.version)
    : 'unknown'
}

async function main(): Promise<number | undefined> {
  let line: CommandLine
  try {
    line = parseArgv(process.argv.slice(2))
  } catch (error) {
    process.stderr.write(`metrics-collector: ${error instanceof Error ? error.message : String(error)}\nTry -help.\n`)
    return 2
  }
  const { command, args, flags } = line
  if (flags.help) return print(usage)
  if (flags.version) return print(`metrics-collector ${version()}\n`)
  if (command === 'starter-config') {
    const dataDir = flags['data-dir']
    if (dataDir === undefined) return usageError('starter-config needs -data-dir DIR')
    return print(starterConfig({ deviceId: flags.device ?? hostname(), dataDir, listenAddr: flags.listen ?? '' }))
  }
  if (args.length > (command === 'query' ? 1 : 0)) return usageError(`what is ${JSON.stringify(args.at(-1))}?`)
  if (command === 'query' && args.length === 0) return usageError('query needs an expression')

  const loaded = load(flags)
  if ((command === 'status' || command === 'query') && (loaded.ok || flags.url !== undefined)) {
    // Asking needs an address, not a whole valid configuration.
    const url = flags.url ?? (loaded.ok ? urlOf(loaded.config) : '')
    const ask = { url, isJson: flags.json !== undefined, out: process.stdout, err: process.stderr }
    return command === 'status' ? runStatus(ask) : runQuery(args[0] ?? '', ask)
  }
  if (!loaded.ok) {
    process.stderr.write(`${formatConfigProblems(loaded.problems)}\n`)
    return exitConfig
  }
  const { config } = loaded
  if (flags['print-config']) return print(`${printConfig(config)}\n`)
  if (flags['check-config'] ?? flags['validate-config']) {
    for (const warning of config.warnings) process.stderr.write(`${warning}\n`)
    return print('metrics-collector: configuration is valid\n')
  }
  if (command === 'once') return runOnce(config, process.stdout, process.stderr)
  await serve(config)
  return undefined
}

function print(text: string): number {
  process.stdout.write(text)
  return 0
}

function usageError(message: string): number {
  process.stderr.write(`metrics-collector: ${message}\nTry -help.\n`)
  return 2
}

function load(flags: CommandLine['flags']): LoadedConfig {
  const named = flags.config ?? process.env.METRICS_COLLECTOR_CONFIG
  const file = readConfigFile(named)
  if (file && 'problem' in file) return { ok: false, problems: [file] }
  const roots = { procfs: flags['path.procfs'], sysfs: flags['path.sysfs'], rootfs: flags['path.rootfs'] }
  return loadConfig({
    env: process.env,
    roots: Object.fromEntries(Object.entries(roots).filter(([, path]) => path !== undefined)),
    ...(file ? { file } : {}),
  })
}

/** The file that was named must be there; the standard one need not, when the environment says everything. */
function readConfigFile(named: string | undefined): { path: string; text: string } | Problem | undefined {
  const path = named ?? standardConfigPath
  try {
    return { path, text: readFileSync(path, 'utf8') }
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    if (named === undefined && isMissing) return undefined
    const reason = error instanceof Error ? error.message : String(error)
    return { name: path, problem: `cannot be read: ${reason}. Mend: name another file with -config` }
  }
}

function urlOf({ listen: { host, port } }: Config): string {
  const shown = host === '' || host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host
  return `http://${shown.includes(':') ? `[${shown}]` : shown}:${port}`
}

async function serve(config: Config): Promise<void> {
  const isPretty = config.logFormat === 'console'
  const log = createLog({ service: 'metrics-collector', level: config.logLevel, format: isPretty ? 'pretty' : 'json' })
  process.on('uncaughtException', (error, origin) => {
    log.fatal({ err: error, origin }, 'BUG: unexpected error, stopping at once')
    process.exit(1)
  })
  const notify = await openSdNotify(process.env, process.pid)
  const startedMs = performance.now()
  let running: RunningCollector | undefined
  let isStopping = false

  const stop = async (why: string) => {
    if (isStopping) process.exit(130)
    isStopping = true
    log.info({ why }, 'stopping')
    notify.send('STOPPING=1')
    // Still starting: nothing was collected, so nothing is owed.
    if (!running) process.exit(0)
    try {
      await running.close()
      log.info('stopped')
      process.exit(0)
    } catch (error) {
      log.error({ err: error }, 'did not stop cleanly')
      process.exit(1)
    }
  }
  process.on('SIGTERM', () => void stop('SIGTERM'))
  process.on('SIGINT', () => void stop('SIGINT'))
  process.on('SIGHUP', () => log.warn('reloading is not built yet; restart to apply a new configuration'))
  process.on('SIGUSR1', () => {})
  followSupervisor(() => void stop('the supervisor is gone'))

  try {
    running = await start(config, { log, version: version() }, readSecret(log))
  } catch (error) {
    if (error instanceof StartError) process.stderr.write(`metrics-collector: ${error.message}\n`)
    else log.fatal({ err: error }, 'cannot start')
    process.exit(1)
  }
  const collector = running
  log.info({ url: collector.url, startMs: Math.round(performance.now() - startedMs), version: version() }, 'ready')
  notify.send('READY=1', `STATUS=ready at ${collector.url}`)
  if (notify.watchdogEveryMs !== undefined)
    setInterval(() => {
      // A wedged loop must not be covered up by a timer that still fires.
      if (collector.isAlive()) notify.send('WATCHDOG=1')
    }, notify.watchdogEveryMs).unref()
}

/** The platform's root secret; without it only the static token opens the API to others. */
function readSecret(log: Logger): Buffer | undefined {
  const { PURSER_SECRET: text, PURSER_SECRET_FILE: path } = process.env
  try {
    const secret = text || (path ? readFileSync(path, 'utf8') : '')
    if (secret === '') return undefined
    if (Buffer.byteLength(secret.trim()) < 32) throw new Error('it has fewer than 32 bytes')
    return Buffer.from(secret.trim())
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    log.warn({ reason }, 'PURSER_SECRET cannot be used; the console cannot read this host until it can')
    return undefined
  }
}

/** The supervisor holds our standard input open; when it dies, even by kill -9, the pipe ends. */
function followSupervisor(onGone: () => void) {
  if (!['1', 'true'].includes(process.env.PURSER_SUPERVISED ?? '')) return
  process.stdin.on('error', onGone)
  process.stdin.on('close', onGone)
  process.stdin.resume()
}

const code = await main()
if (code !== undefined) process.exitCode = code
