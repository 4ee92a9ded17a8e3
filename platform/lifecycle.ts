// The life of a process: read arguments and configuration, start, say so, obey signals, stop.
//
//   starting → running → stopping → exit
//   starting: a configuration problem exits 78 before anything is touched; any other failure exits 1
//   running:  HUP reloads; TERM, INT or the supervisor's pipe closing leads to stopping; a bug (uncaught exception)
//             exits 1 at once, because what was acknowledged is on disk and a restart is safer than going on
//   stopping: parts stop in reverse order under deadlines, exit 0; a second signal exits at once, or ends what can wait
//             and the third exits

import { existsSync, readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { Registry } from 'prom-client'
import {
  type ConfigOf,
  type ConfigSpec,
  formatProblems,
  type Loaded,
  loadConfig,
  type Problem,
  parseEnvFile,
  printConfig,
  type Setting,
  type Sources,
} from './config.ts'
import { openSdNotify } from './lifecycle/sd-notify.ts'
import { createLog, createRegistry, type Logger } from './telemetry.ts'
import { type Clock, systemClock } from './time.ts'

export { type Closable, type StartSequence, startSequence } from './lifecycle/sequence.ts'

/** What every `start` gets beside its configuration; tests pass their own. */
export interface Base {
  log: Logger
  registry: Registry
  clock: Clock
  version: string
}

export interface Running {
  url: string
  close(): Promise<void>
  /** Asked to stop again while closing: gives up what the next start can do as well. */
  hurry?(): void
  /** Applies what can change while running; throws when the new configuration is refused, and then nothing changed. */
  reload?(config: unknown): Promise<void>
  /** The new configuration was invalid and never reached `reload`. */
  reloadRefused?(): void
}

export interface Command<C> {
  /** One line for --help. */
  summary: string
  /** Resolves to the exit code. `args` is what follows the command's name. */
  run(args: readonly string[], context: { config: C; base: Base }): Promise<number>
}

export interface Program<S extends Readonly<Record<string, Setting<unknown>>>> {
  spec: ConfigSpec<S>
  start(config: ConfigOf<ConfigSpec<S>>, base: Base): Promise<Running>
  commands?: Readonly<Record<string, Command<ConfigOf<ConfigSpec<S>>>>>
  /** Variable naming a KEY=VALUE file that wins over the environment. */
  envFileVariable?: string
  /** Exit code for configuration problems; 78 (EX_CONFIG) unless a guide says otherwise. */
  configExitCode?: number
  /** Longest the whole stop may take. */
  stopTimeoutMs?: number
}

const exitConfig = 78
/** npm passes a signal on to a child that the terminal has already given it to: within this time two are one. */
export const repeatedSignalMs = 500

export function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest
    ? String(manifest.version)
    : 'unknown'
}

/** The whole of a service's main.ts. Owns argv, env, signals and exit codes. */
export async function runMain<S extends Readonly<Record<string, Setting<unknown>>>>(
  program: Program<S>,
): Promise<void> {
  const { spec } = program
  const argv = process.argv.slice(2)
  const { configPath, rest } = takeConfigFlag(argv)
  const commandName = rest.find(arg => !arg.startsWith('-'))
  const command = commandName === undefined ? undefined : program.commands?.[commandName]
  const flags = command ? { config: configPath } : readFlags(program, argv)

  if ('help' in flags && flags.help) return void process.stdout.write(usage(program))
  if ('version' in flags && flags.version) return void process.stdout.write(`${spec.service} ${version()}\n`)

  let firstEnvFile: ReadonlyMap<string, string> | undefined
  const load = (): Loaded<ConfigSpec<S>> => {
    try {
      const sources = readSources(program, flags.config)
      const inEnvFile = namesOf(sources.envFileText ?? '')
      firstEnvFile ??= inEnvFile
      return loadConfig(spec, { ...sources, env: withoutRemoved(sources.env, firstEnvFile, inEnvFile) })
    } catch (error) {
      // Also on a reload: a file that cannot be read then must not end what runs.
      if (error instanceof UnreadableFile) return { ok: false, problems: [error.problem] }
      throw error
    }
  }
  const loaded = load()
  if (!loaded.ok) {
    process.stderr.write(`${formatProblems(spec.service, loaded.problems)}\n`)
    process.exit(program.configExitCode ?? exitConfig)
  }
  if ('print' in flags && flags.print) return void process.stdout.write(`${printConfig(spec, loaded)}\n`)
  if ('validate' in flags && flags.validate)
    return void process.stdout.write(`${spec.service}: configuration is valid\n`)

  const { config } = loaded
  const base: Base = {
    log: createLog({ service: spec.service, level: config.logLevel, format: config.logFormat }),
    registry: createRegistry({ service: spec.service, version: version() }),
    clock: systemClock,
    version: version(),
  }
  for (const warning of config.warnings) base.log.warn(warning)

  if (command && commandName !== undefined) {
    const args = rest.slice(rest.indexOf(commandName) + 1)
    process.exitCode = await command.run(args, { config, base })
    return
  }
  await serve(program, config, base, load)
}

/** `--config FILE` may stand before a command or after it; everything else there is the command's own. */
function takeConfigFlag(argv: readonly string[]): { configPath: string | undefined; rest: string[] } {
  const at = argv.findIndex(arg => /^--?config(=|$)/.test(arg))
  if (at < 0) return { configPath: undefined, rest: [...argv] }
  const joined = /=(.*)$/s.exec(argv[at] ?? '')?.[1]
  return { configPath: joined ?? argv[at + 1], rest: argv.toSpliced(at, joined === undefined ? 2 : 1) }
}

function readFlags(program: { spec: { service: string } }, argv: readonly string[]) {
  // The guides write long flags with one dash as well as two.
  const args = argv.map(arg => (/^-[a-z][a-z-]+(=|$)/.test(arg) ? `-${arg}` : arg))
  try {
    const { values } = parseArgs({
      args,
      options: {
        config: { type: 'string' },
        'validate-config': { type: 'boolean' },
        'print-config': { type: 'boolean' },
        version: { type: 'boolean', short: 'v' },
        help: { type: 'boolean', short: 'h' },
      },
    })
    return {
      config: values.config,
      validate: values['validate-config'],
      print: values['print-config'],
      version: values.version,
      help: values.help,
    }
  } catch (error) {
    process.stderr.write(
      `${program.spec.service}: ${error instanceof Error ? error.message : String(error)}\nTry --help.\n`,
    )
    return process.exit(2)
  }
}

function readSources<S extends Readonly<Record<string, Setting<unknown>>>>(
  program: Program<S>,
  configPath: string | undefined,
): Sources {
  const { file } = program.spec
  const named = configPath ?? (file?.variable === undefined ? undefined : process.env[file.variable])
  const path = named ?? file?.paths?.find(candidate => existsSync(candidate))
  const envFile = program.envFileVariable === undefined ? undefined : process.env[program.envFileVariable]
  return {
    env: process.env,
    ...(path === undefined ? {} : { file: { path, text: readOrThrow(path) } }),
    // A unit names its file whether or not it exists; only a file that is there and unreadable is an error.
    ...(envFile === undefined || !existsSync(envFile) ? {} : { envFileText: readOrThrow(envFile) }),
  }
}

function namesOf(envFileText: string): Map<string, string> {
  return new Map(parseEnvFile(envFileText).flatMap(line => ('name' in line ? [[line.name, line.value]] : [])))
}

/** systemd hands the file's first content over as environment too: what was deleted from the file since, such as a key,
 *  must not live on there. */
function withoutRemoved(
  env: Sources['env'],
  first: ReadonlyMap<string, string>,
  now: ReadonlyMap<string, string>,
): Sources['env'] {
  const isRemoved = (name: string, value: string | undefined) => first.get(name) === value && !now.has(name)
  return Object.fromEntries(Object.entries(env).filter(([name, value]) => !first.has(name) || !isRemoved(name, value)))
}

class UnreadableFile extends Error {
  readonly problem: Problem

  constructor(path: string, cause: unknown) {
    const problem = `cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`
    super(`${path} ${problem}`, { cause })
    this.problem = { name: path, problem }
  }
}

function readOrThrow(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new UnreadableFile(path, error)
  }
}

function usage<S extends Readonly<Record<string, Setting<unknown>>>>(program: Program<S>): string {
  const commands = Object.entries(program.commands ?? {}).map(
    ([name, { summary }]) => `  ${name.padEnd(18)} ${summary}`,
  )
  return `${[
    `Usage: ${program.spec.service} [flags] [command]`,
    '',
    'Without a command the service runs until it gets SIGTERM or SIGINT.',
    '',
    ...(commands.length > 0 ? ['Commands:', ...commands, ''] : []),
    'Flags:',
    '  --config FILE        read this configuration file',
    '  --validate-config    check the configuration and exit',
    '  --print-config       print the configuration, secrets hidden, and exit',
    '  --version, --help',
  ].join('\n')}\n`
}

async function serve<S extends Readonly<Record<string, Setting<unknown>>>>(
  program: Program<S>,
  config: ConfigOf<ConfigSpec<S>>,
  base: Base,
  load: () => Loaded<ConfigSpec<S>>,
): Promise<void> {
  const { log } = base
  // Synchronous, so that the line is out before the process is gone.
  const crash = (error: unknown, origin: string) => {
    log.fatal({ err: error, origin }, 'BUG: unexpected error, stopping at once')
    process.exit(1)
  }
  process.on('uncaughtException', crash)

  const notify = await openSdNotify(process.env, process.pid)
  const startedAt = base.clock.monotonicMs()
  let running: Running | undefined
  let isStopping = false
  let isHurrying = false
  let stoppingSinceMs = 0

  const stop = async (why: string) => {
    if (isStopping) {
      if (base.clock.monotonicMs() - stoppingSinceMs < repeatedSignalMs) return
      if (running?.hurry && !isHurrying) {
        isHurrying = true
        stoppingSinceMs = base.clock.monotonicMs()
        log.warn({ why }, 'asked to stop twice, what can wait for the next start does')
        return running.hurry()
      }
      log.warn({ why }, 'asked to stop twice, leaving at once')
      process.exit(130)
    }
    isStopping = true
    stoppingSinceMs = base.clock.monotonicMs()
    log.info({ why }, 'stopping')
    notify.send('STOPPING=1')
    if (!running) process.exit(0) // Still starting: nothing was acknowledged, so nothing is owed.
    const deadline = setTimeout(() => {
      log.error({ stopTimeoutMs: program.stopTimeoutMs ?? 30_000 }, 'not stopped in time, leaving')
      process.exit(1)
    }, program.stopTimeoutMs ?? 30_000)
    deadline.unref()
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
  // From the first moment: without a handler a HUP during the start would kill the process.
  process.on('SIGHUP', () => {
    if (running && !isStopping) void reload(program, running, base, load, notify.send)
  })
  if (config.isSupervised) followSupervisor(() => void stop('the supervisor is gone'))

  try {
    running = await program.start(config, base)
  } catch (error) {
    log.fatal({ err: error }, 'cannot start')
    process.exit(1)
  }
  const startMs = Math.round(base.clock.monotonicMs() - startedAt)
  log.info({ url: running.url, startMs, version: base.version }, 'ready')
  notify.send('READY=1', `STATUS=ready at ${running.url}`)
  if (notify.watchdogEveryMs !== undefined) setInterval(() => notify.send('WATCHDOG=1'), notify.watchdogEveryMs).unref()
}

async function reload<S extends Readonly<Record<string, Setting<unknown>>>>(
  program: Program<S>,
  running: Running,
  { log, clock }: Base,
  load: () => Loaded<ConfigSpec<S>>,
  notify: (...states: string[]) => void,
): Promise<void> {
  const monotonicUsec = Math.round(clock.monotonicMs() * 1000)
  notify('RELOADING=1', `MONOTONIC_USEC=${monotonicUsec}`)
  const loaded = load()
  if (!loaded.ok) {
    log.error(`${formatProblems(program.spec.service, loaded.problems)}\nThe running configuration stays.`)
    running.reloadRefused?.()
  } else if (!running.reload) {
    log.warn('this service has nothing to reload; restart it to apply a new configuration')
  } else {
    try {
      await running.reload(loaded.config)
      log.info('configuration reloaded')
    } catch (error) {
      log.error({ err: error }, 'the new configuration was refused; the running one stays')
    }
  }
  notify('READY=1')
}

/** The supervisor holds our standard input open; when it dies, even by kill -9, the pipe ends. */
function followSupervisor(onGone: () => void) {
  process.stdin.on('error', onGone)
  process.stdin.on('close', onGone)
  process.stdin.resume()
}
