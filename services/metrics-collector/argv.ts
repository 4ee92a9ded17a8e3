// The command line: one or two dashes, `-name value` or `-name=value`, then a command with arguments of its own.

import { nearest } from '#platform/config'

export interface CommandLine {
  command: string | undefined
  args: readonly string[]
  flags: Readonly<Record<string, string>>
}

/** Name → whether it takes a value. */
const flagForms: Readonly<Record<string, boolean>> = {
  config: true,
  version: false,
  help: false,
  'check-config': false,
  'validate-config': false,
  'print-config': false,
  'path.procfs': true,
  'path.sysfs': true,
  'path.rootfs': true,
  json: false,
  // of single commands
  device: true,
  'data-dir': true,
  listen: true,
  url: true,
}

export const commandNames = ['once', 'status', 'query', 'starter-config'] as const

/** In the specification and not in this version. */
const commandsNotBuilt = ['doctor', 'gaps', 'quarantine', 'export', 'workloads', 'stub', 'import-legacy', 'unit']

/** @throws Error whose message is for the user; the exit code is 2 */
export function parseArgv(argv: readonly string[]): CommandLine {
  const flags: Record<string, string> = {}
  const args: string[] = []
  let command: string | undefined
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i] ?? ''
    if (!/^--?[a-z]/.test(arg)) {
      if (command === undefined) command = arg
      else args.push(arg)
      continue
    }
    const [, given = '', value] = /^--?([^=]*)(?:=(.*))?$/s.exec(arg) ?? []
    const name = { v: 'version', h: 'help' }[given] ?? given
    const takesValue = Object.hasOwn(flagForms, name) ? flagForms[name] : undefined
    if (takesValue === undefined) {
      const similar = nearest(name, Object.keys(flagForms))
      throw new Error(`there is no flag -${name}${similar ? `; did you mean -${similar}?` : ''}`)
    }
    if (!takesValue) {
      if (value !== undefined && !['true', 'false'].includes(value)) throw new Error(`-${name} takes no value`)
      if (value !== 'false') flags[name] = 'true'
      continue
    }
    const text = value ?? argv[++i]
    if (text === undefined) throw new Error(`-${name} needs a value`)
    flags[name] = text
  }
  if (command !== undefined && !commandNames.some(name => name === command)) {
    if (commandsNotBuilt.includes(command)) throw new Error(`${command} is not built yet`)
    const similar = nearest(command, commandNames)
    throw new Error(`there is no command ${command}${similar ? `; did you mean ${similar}?` : ''}`)
  }
  return { command, args, flags }
}

export const usage = `Usage: metrics-collector [flags] [command]

Without a command it collects this machine's metrics until SIGTERM or SIGINT.

Commands:
  once                 read every source once and print the result as Prometheus text
  status               how the running collector is doing
  query EXPRESSION     newest values from the running collector, e.g. 'rate(node_cpu_seconds_total[5m])'
  starter-config       print a first configuration: -device NAME -data-dir DIR -listen HOST:PORT

Flags (one dash or two):
  -config FILE         else METRICS_COLLECTOR_CONFIG, else /etc/belabox-metrics/config.yaml
  -check-config        check the configuration and exit (also -validate-config)
  -print-config        print the configuration in effect, secrets hidden, and exit
  -path.procfs DIR     /proc     -path.sysfs DIR  /sys     -path.rootfs DIR  /
  -url URL             where the running collector answers, for status and query
  -json                machine-readable output of status and query
  -version, -help
`
