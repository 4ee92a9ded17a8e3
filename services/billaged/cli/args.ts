import { join } from 'node:path'
import { parseDuration } from '#platform/time'
import type { Svid } from '../tls/workload-api.ts'

export interface Flags {
  server: string
  user: string
  tenant: string
  tlsMode: string
  tlsCert: string
  tlsKey: string
  tlsCa: string
  spiffeSocket: string
  /** With `-tls-mode spiffe`: the identity that the agent gave, before any call. */
  svid: Svid | null
  timeoutMs: number
  key: string
  json: boolean
  vm: string
  file: string
  instance: string
  vms: string[]
  live: boolean
  /** `verify`: files beside the receipt, and the issuer's key. */
  evidence: string
  samples: string
  previous: string
  publicKey: string
  chaos: ChaosFlags
  help: boolean
  /** Where an installation on this machine keeps its operator key, best place first. */
  keyDirs: readonly string[]
}

/** What `chaos` makes and what it lets pass. */
export interface ChaosFlags {
  seeds: number
  seed: number
  /** Largest unexplained error, in percent. */
  tolerancePercent: number
  /** A command to start, kill and start again; empty: the server of the flags, which is left alone. */
  spawn: string
  /** A shell command that kills and restarts the server of the flags; empty: it is left alone. */
  killCommand: string
  /** How the bill is read back: billaged, openmeter or http. */
  adapter: string
  /** `-adapter http`: what to ask and where the quantity stands. */
  billUrl: string
  billPath: string
  /** A file that remembers each seed's outcome: what is in it is not run again. */
  resume: string
  /** No seed begins after so long; null: all do. */
  forMs: number | null
}

export class UsageError extends Error {
  override name = 'UsageError'
}

/** Flags with one or two dashes, `=` or a space, before and after the command; the rest in order. Variables of the
 *  environment are their defaults, the longer prefix first. */
export function parseArgs(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): { flags: Flags; words: string[] } {
  const given = new Map<string, string>()
  const words: string[] = []
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i] ?? ''
    const match = /^--?([a-z][a-z-]*)(?:=(.*))?$/s.exec(arg)
    if (match === null) {
      words.push(arg)
      continue
    }
    const [, name = '', inline] = match
    if (!known.has(name)) throw new UsageError(`flag provided but not defined: -${name}`)
    if (switches.has(name)) {
      if (inline !== undefined && !['true', 'false'].includes(inline))
        throw new UsageError(`-${name} is ${inline}; it is true or false`)
      given.set(name, inline ?? 'true')
      continue
    }
    const value = inline ?? argv[++i]
    if (value === undefined) throw new UsageError(`flag needs an argument: -${name}`)
    given.set(name, value)
  }
  const variable = (name: string) => env[`UNKEY_BILLAGED_${name}`] || env[`BILLAGED_${name}`] || undefined
  const text = (flag: string, fallback: string, name?: string) =>
    given.get(flag) ?? (name === undefined ? undefined : variable(name)) ?? fallback
  return {
    words,
    flags: {
      server: text('server', 'localhost:8081', 'SERVER_ADDRESS'),
      user: text('user', 'cli-user', 'USER_ID'),
      tenant: text('tenant', 'cli-tenant', 'TENANT_ID'),
      tlsMode: text('tls-mode', 'disabled', 'TLS_MODE'),
      tlsCert: text('tls-cert', ''),
      tlsKey: text('tls-key', ''),
      tlsCa: text('tls-ca', ''),
      spiffeSocket: text('spiffe-socket', '/var/lib/spire/agent/agent.sock', 'SPIFFE_SOCKET'),
      svid: null,
      timeoutMs: duration('timeout', text('timeout', '30s')),
      key: text('key', '', 'API_KEY'),
      json: given.get('json') === 'true',
      vm: text('vm', 'example-vm-123'),
      file: text('file', ''),
      instance: text('instance', 'metald-instance-1'),
      vms: text('vms', 'vm-123,vm-456,vm-789')
        .split(',')
        .map(vm => vm.trim())
        .filter(vm => vm !== ''),
      live: given.get('live') === 'true',
      evidence: text('evidence', ''),
      samples: text('samples', ''),
      previous: text('previous', ''),
      publicKey: text('public-key', ''),
      chaos: {
        seeds: whole('seeds', text('seeds', given.get('quick') === 'true' ? '20' : '100'), 1_000_000),
        seed: whole('seed', text('seed', '1'), 2 ** 31),
        tolerancePercent: share(text('tolerance', '0')),
        spawn: text('spawn', ''),
        killCommand: text('kill-cmd', ''),
        adapter: text('adapter', 'billaged'),
        billUrl: text('bill-url', ''),
        billPath: text('bill-path', '$.value'),
        resume: text('resume', ''),
        forMs: given.has('for') ? duration('for', text('for', '')) : null,
      },
      help: given.has('help') || given.has('h'),
      keyDirs: [variable('DATA_DIR'), join(env.PURSER_DATA_DIR || './.purser', 'billaged'), '/var/lib/billaged'].filter(
        dir => dir !== undefined,
      ),
    },
  }
}

const switches = new Set(['json', 'live', 'quick', 'help', 'h'])
const known = new Set([
  ...switches,
  ...['server', 'user', 'tenant', 'tls-mode', 'spiffe-socket', 'tls-cert', 'tls-key', 'tls-ca', 'timeout', 'key'],
  ...['vm', 'file', 'instance', 'vms', 'evidence', 'samples', 'previous', 'public-key'],
  ...['seeds', 'seed', 'tolerance', 'spawn', 'kill-cmd', 'resume', 'for', 'adapter', 'bill-url', 'bill-path'],
])

function whole(flag: string, value: string, most: number): number {
  if (!/^\d{1,10}$/.test(value) || Number(value) > most)
    throw new UsageError(`-${flag} is ${value}; it is a whole number up to ${most}`)
  return Number(value)
}

function share(value: string): number {
  if (!/^\d{1,3}(\.\d{1,9})?$/.test(value))
    throw new UsageError(`-tolerance is ${value}; it is a percentage such as 0.01`)
  return Number(value)
}

function duration(flag: string, value: string): number {
  try {
    const ms = parseDuration(value)
    if (ms > 0) return ms
  } catch {
    // Reported below, with the form that works.
  }
  throw new UsageError(`-${flag} is ${value}; write a duration such as 30s`)
}
