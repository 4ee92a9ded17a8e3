// The `purser` command: the only file here that touches argv, env and exit codes.

import { parseArgs } from 'node:util'
import { formatProblems, loadConfig, nearest } from '#platform/config'
import { version } from '#platform/lifecycle'
import { type Config, spec } from './config.ts'
import { type ServiceName, serviceNames } from './plan.ts'

const help = `Usage: purser <command> [flags]

  up        run PostgreSQL and every service here        --only NAME,NAME  --watch
  status    what runs, where, and how it is              --json
  doctor    look for what is wrong and say how to mend   --json
  demo      send realistic traffic of three tenants      --seconds N  --json
  logs      search, follow, ship and prove logs          purser logs --help
  version

Configuration comes from the environment: PURSER_DATA_DIR, PURSER_PORT_OFFSET, PURSER_DATABASE_URL, …
and the variables of each service. See README.md.
`

const usageExit = 2
/** As a shell tells of a program that wrote to nobody. */
const nobodyReadsExit = 141

async function main(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv
  // `… | head` has seen enough. The services go on without a terminal.
  if (command !== 'up')
    process.stdout.on('error', error => {
      if ('code' in error && error.code === 'EPIPE') process.exit(nobodyReadsExit)
      throw error
    })
  switch (command) {
    case 'up': {
      const flags = readFlags(rest, { only: { type: 'string' }, watch: { type: 'boolean' } })
      const config = readConfig()
      if (typeof flags === 'number') return flags
      if (typeof config === 'number') return config
      const only = parseOnly(flags.only)
      if (typeof only === 'number') return only
      const { up, CannotStart } = await import('./up.ts')
      try {
        return await up(config, { only, watch: flags.watch === true })
      } catch (error) {
        if (!(error instanceof CannotStart)) throw error
        process.stderr.write(`${error.message}\n`)
        return error.exitCode
      }
    }
    case 'status':
    case 'doctor':
    case 'demo': {
      const flags = readFlags(rest, { json: { type: 'boolean' }, seconds: { type: 'string' } })
      const config = readConfig()
      if (typeof flags === 'number') return flags
      if (typeof config === 'number') return config
      const isJson = flags.json === true
      if (command === 'status') return (await import('./status.ts')).status(config, isJson)
      if (command === 'doctor') return (await import('./doctor.ts')).doctor(config, isJson)
      const seconds = flags.seconds === undefined ? 30 : Number(flags.seconds)
      if (!(seconds > 0 && seconds <= 86_400))
        return complain(`--seconds must be from 1 to 86400 (got "${String(flags.seconds)}")`)
      return (await import('./demo.ts')).demo(config, { seconds, isJson })
    }
    case 'logs':
      return (await import('./logs/main.ts')).logs(rest, { env: process.env })
    case 'version':
    case '--version':
      process.stdout.write(`purser ${version()}\n`)
      return 0
    case 'help':
    case '--help':
    case '-h':
      process.stdout.write(help)
      return 0
    default: {
      const similar =
        command === undefined ? undefined : nearest(command, ['up', 'status', 'doctor', 'demo', 'logs', 'version'])
      return complain(
        command === undefined
          ? help
          : `no command "${command}"${similar ? `; did you mean ${similar}?` : ''}. Try: purser --help`,
      )
    }
  }
}

function readFlags<const O extends NonNullable<Parameters<typeof parseArgs>[0]>['options']>(
  args: readonly string[],
  options: O,
) {
  try {
    return parseArgs({ args: [...args], options }).values as { [K in keyof O]?: string | boolean | undefined }
  } catch (error) {
    return complain(error instanceof Error ? error.message : String(error))
  }
}

function readConfig(): Config | number {
  const loaded = loadConfig(spec, { env: process.env })
  if (loaded.ok) return loaded.config
  process.stderr.write(`${formatProblems('purser', loaded.problems)}\n`)
  return 78
}

function parseOnly(only: string | boolean | undefined): readonly ServiceName[] | number {
  if (typeof only !== 'string') return serviceNames
  const names = only.split(',').map(name => name.trim())
  const unknown = names.filter(name => !serviceNames.some(known => known === name))
  if (unknown.length > 0)
    return complain(`--only: no service ${unknown.join(', ')}; there are ${serviceNames.join(', ')}`)
  return serviceNames.filter(name => names.includes(name))
}

function complain(message: string): number {
  process.stderr.write(`${message}\n`)
  return usageExit
}

process.exit(await main(process.argv.slice(2)))
