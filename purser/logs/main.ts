// `purser logs …`: one file per subcommand, loaded when it is asked for.

import { nearest } from '#platform/config'

/** What every subcommand is given. Results go to stdout, talk to stderr. */
export interface CommandContext {
  env: Readonly<Record<string, string | undefined>>
}

/** Returns the exit code: 0 done, 1 found something wrong or failed, 2 misused. */
export type Command = (args: readonly string[], context: CommandContext) => Promise<number>

interface Entry {
  /** As in the help: what it takes, and what for. */
  usage: string
  load: () => Promise<Command>
}

const commands: Readonly<Record<string, Entry>> = {
  search: {
    usage: 'search QUERY          matches, newest first   --from -1h --to now --limit 100 --order asc --json',
    load: async () => (await import('./search.ts')).search,
  },
  tail: {
    usage: 'tail QUERY            live; Ctrl-C ends it   --limit N --json',
    load: async () => (await import('./tail.ts')).tail,
  },
  export: {
    usage: 'export QUERY          every match   --from --to --format ndjson|csv --fields a,b --output FILE --json',
    load: async () => (await import('./export.ts')).exportLogs,
  },
  patterns: {
    usage: 'patterns QUERY        kinds of messages, counted   --from -1h --to now --limit 50 --json',
    load: async () => (await import('./patterns.ts')).patterns,
  },
  ship: {
    usage:
      'ship FILE…|-|journald   follow and send   --service NAME --level L --multiline traces|off|REGEX --from end --state DIR --once --json',
    load: async () => (await import('./ship.ts')).ship,
  },
  user: {
    usage:
      'user add EMAIL       an account, with a password that is shown once   --admin --name NAME --tenant SLUG --json',
    load: async () => (await import('./user.ts')).user,
  },
  keys: {
    usage: 'keys create NAME | list | revoke ID | seal   credentials that may send   --tenant SLUG --json',
    load: async () => (await import('./keys.ts')).keys,
  },
  quarantine: {
    usage: 'quarantine list | show ID | replay ID | discard ID   --entry FILE --reason TEXT --status all --json',
    load: async () => (await import('./quarantine.ts')).quarantine,
  },
  journal: {
    usage:
      'journal status | inspect DIR | drain DIR   what waits on disk; drain stores it for a replica that is gone   --json',
    load: async () => (await import('./journal.ts')).journal,
  },
  selftest: {
    usage: 'selftest             scratch copies, killed and counted   --kill9 N --db-down --sink rows --rows N --json',
    load: async () => (await import('./selftest.ts')).selftest,
  },
  doctor: {
    usage: 'doctor [reconcile]   compare accepted, stored and present rows   --since 24h --json',
    load: async () => (await import('./doctor.ts')).doctor,
  },
  verify: {
    usage: 'verify               recompute hashes, chain and signatures   --from DAY --to DAY --tenant SLUG --json',
    load: async () => (await import('./verify.ts')).verify,
  },
  storage: {
    usage: 'storage [migrate]    where entries are; move rows into blocks   --to columnar --json',
    load: async () => (await import('./storage.ts')).storage,
  },
  index: {
    usage: 'index [fast|compat]  indexes of the logs table, shown or changed while rows come in   --json',
    load: async () => (await import('./indexes.ts')).indexes,
  },
  migrate: {
    usage: 'migrate              set up the database, or bring it up to date; again is a no-op   --json',
    load: async () => (await import('./programs.ts')).migrate,
  },
  bench: {
    usage: 'bench                figures of this machine   --quick --peer NAME=URL … --json',
    load: async () => (await import('./programs.ts')).bench,
  },
}

/** Of every command that asks a running service. */
const whoIsAsked = `The running service is asked at --url or PURSER_LOGS_URL, with --key or PURSER_LOGS_KEY, for --tenant; without them
the one of PURSER_DATA_DIR, as its operator.`

const usageExit = 2

export async function logs(args: readonly string[], context: CommandContext): Promise<number> {
  const [name, ...rest] = args
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    const lines = Object.values(commands).map(({ usage }) => `  ${usage}`)
    process.stdout.write(`Usage: purser logs <command> [flags]\n\n${lines.join('\n')}\n\n${whoIsAsked}\n`)
    return name === undefined ? usageExit : 0
  }
  const entry = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (!entry) {
    const similar = nearest(name, Object.keys(commands))
    process.stderr.write(
      `no command "logs ${name}"${similar ? `; did you mean ${similar}?` : ''}. Try: purser logs --help\n`,
    )
    return usageExit
  }
  // A query may be anything behind `--`.
  const flags = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest
  if (flags.includes('--help')) {
    process.stdout.write(`Usage: purser logs ${entry.usage}\n\n${whoIsAsked}\n`)
    return 0
  }
  const command = await entry.load()
  try {
    return await command(rest, context)
  } catch (error) {
    if (error instanceof Misuse) {
      process.stderr.write(`purser logs ${name}: ${error.message}\n`)
      return usageExit
    }
    if (error instanceof CommandFailed) {
      process.stderr.write(`purser logs ${name}: ${error.message}\n`)
      return 1
    }
    throw error
  }
}

/** Flags or arguments that make no sense; the message says what would. */
export class Misuse extends Error {}

/** It could not be done, and the message says why and what to do. */
export class CommandFailed extends Error {}
