// One spelling of a database address for everything that connects: this program, psql, pg_dump, a person.
//
//   postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem
//   postgres:///purser?host=/run/purser/x&port=5432&user=purser      (unix socket: the form libpq documents)
//
// The driver has its own ideas about socket paths, passes parameters that it does not know to the server, and puts
// the whole address, password included, into the error for a malformed one. So the address is read here, and the driver
// is given plain options.

import { readFileSync } from 'node:fs'
import { userInfo } from 'node:os'

export interface DatabaseAddress {
  /** Tried in turn; one entry for a unix socket. */
  hosts: { host: string; port: number }[]
  /** Folder of the unix socket, when the address names one. */
  socketDir: string | undefined
  user: string
  password: string
  database: string
  ssl: false | 'prefer' | 'require' | TlsOptions
  /** False behind a pooler in transaction mode (`?pgbouncer=true`): no named statements, no startup parameters. */
  isDirect: boolean
  applicationName: string | undefined
  connectTimeoutS: number | undefined
  /** `options=-c name=value`, handed to the server as it is. */
  options: string | undefined
  targetSessionAttrs: TargetSessionAttrs | undefined
}

export interface TlsOptions {
  rejectUnauthorized: boolean
  ca?: string
  cert?: string
  key?: string
  /** verify-ca: the chain is checked, the name is not. */
  checkServerIdentity?: () => undefined
}

const targetSessionAttrs = ['read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const
type TargetSessionAttrs = (typeof targetSessionAttrs)[number]

/** Parameters of libpq that a client may ignore without changing what is promised. */
const ignoredParameters = new Set([
  'channel_binding',
  'gssencmode',
  'keepalives',
  'keepalives_count',
  'keepalives_idle',
  'keepalives_interval',
  'sslcompression',
  'sslsni',
  'tcp_user_timeout',
])

const knownParameters = new Set([
  'host',
  'port',
  'user',
  'password',
  'dbname',
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'application_name',
  'connect_timeout',
  'options',
  'pgbouncer',
  'target_session_attrs',
])

/** @throws {Error} naming the part that is wrong, never the password. */
export function parseDatabaseUrl(url: string): DatabaseAddress {
  const match = /^(?:postgres|postgresql):\/\/(?:([^@/?#]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(url)
  if (!match) {
    throw new Error('not a PostgreSQL address; the form is postgres://user:password@host:5432/database')
  }
  const [, userinfo = '', authority = '', path = '', query = ''] = match
  const parameters = parseQuery(query)
  const [urlUser = '', ...passwordParts] = userinfo.split(':')
  const database = parameters.get('dbname') ?? decode(path, 'database name')
  const user = parameters.get('user') ?? (decode(urlUser, 'user name') || systemUser())
  const password = parameters.get('password') ?? decode(passwordParts.join(':'), 'password')
  const hosts = parseHosts(parameters.get('host') ?? authority, parameters.get('port'))
  const [first] = hosts
  const socketDir = first?.host.startsWith('/') ? first.host : undefined
  if (socketDir && hosts.length > 1) throw new Error('a unix socket cannot be one of several hosts')

  const attrs = parameters.get('target_session_attrs')
  const target = targetSessionAttrs.find(name => name === attrs)
  if (attrs !== undefined && attrs !== 'any' && !target) {
    throw new Error(`target_session_attrs=${attrs} is not one of any, ${targetSessionAttrs.join(', ')}`)
  }
  return {
    hosts,
    socketDir,
    user,
    password,
    database: database || user,
    ssl: socketDir ? false : parseSsl(parameters),
    isDirect: parameters.get('pgbouncer') !== 'true',
    applicationName: parameters.get('application_name'),
    connectTimeoutS: parseSeconds(parameters.get('connect_timeout')),
    options: parameters.get('options'),
    targetSessionAttrs: target,
  }
}

/** The address of a server on a unix socket, in the form that psql takes too. */
export function socketUrl(o: { socketDir: string; port: number; user: string; database: string }): string {
  const folder = encodeURIComponent(o.socketDir).replaceAll('%2F', '/')
  return `postgres:///${encodeURIComponent(o.database)}?host=${folder}&port=${o.port}&user=${encodeURIComponent(o.user)}`
}

/** The same server, another database. */
export function withDatabase(url: string, database: string): string {
  const [beforeQuery = '', query] = url.split('?', 2)
  const base = beforeQuery.replace(/^(\w+:\/\/[^/]*)(\/.*)?$/, `$1/${encodeURIComponent(database)}`)
  return query === undefined ? base : `${base}?${query}`
}

/** For people: database and place, no credentials. */
export function describeAddress(address: DatabaseAddress): string {
  const place = address.hosts.map(({ host, port }) => (address.socketDir ? host : `${host}:${port}`)).join(',')
  return `database "${address.database}" at ${place}`
}

function parseHosts(list: string, portList: string | undefined): { host: string; port: number }[] {
  const ports = (portList ?? '').split(',').filter(Boolean)
  return (list || 'localhost').split(',').map((entry, i) => {
    // A folder for a unix socket may arrive percent-encoded in the authority (postgres://%2Frun%2Fx/db), as libpq allows.
    const match = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(entry)
    if (!match) throw new Error(`"${entry}" is not host or host:port; an IPv6 address goes in square brackets`)
    const host = decode(match[1] ?? '', 'host').replace(/^\[|\]$/g, '') || 'localhost'
    const text = match[2] || ports[i] || ports[0] || '5432'
    const port = Number(text)
    if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new Error(`port ${text} is not within 1…65535`)
    return { host, port }
  })
}

function parseQuery(query: string): Map<string, string> {
  const parameters = new Map<string, string>()
  for (const pair of query.split('&').filter(Boolean)) {
    const equals = pair.indexOf('=')
    // Not URLSearchParams: to libpq a plus sign is a plus sign.
    const name = decode(equals < 0 ? pair : pair.slice(0, equals), 'parameter name')
    if (ignoredParameters.has(name)) continue
    if (!knownParameters.has(name)) {
      throw new Error(`parameter "${name}" is not known; known are ${[...knownParameters].join(', ')}`)
    }
    parameters.set(name, decode(equals < 0 ? '' : pair.slice(equals + 1), `parameter ${name}`))
  }
  return parameters
}

/** libpq's meanings. Without sslmode TLS is used when the server offers it, unverified, as libpq does. */
function parseSsl(parameters: Map<string, string>): DatabaseAddress['ssl'] {
  const mode = parameters.get('sslmode') ?? 'prefer'
  const rootCert = parameters.get('sslrootcert')
  const clientFiles = {
    ...(parameters.has('sslcert') ? { cert: readPem('sslcert', parameters.get('sslcert')) } : {}),
    ...(parameters.has('sslkey') ? { key: readPem('sslkey', parameters.get('sslkey')) } : {}),
  }
  const ca = rootCert && rootCert !== 'system' ? { ca: readPem('sslrootcert', rootCert) } : {}
  switch (mode) {
    case 'disable':
      return false
    case 'allow':
    case 'prefer':
      return 'prefer'
    case 'require':
      // With a CA file given, libpq's "require" verifies the chain; without one it verifies nothing.
      if (rootCert) return { rejectUnauthorized: true, checkServerIdentity: () => undefined, ...ca, ...clientFiles }
      return Object.keys(clientFiles).length > 0 ? { rejectUnauthorized: false, ...clientFiles } : 'require'
    case 'verify-ca':
      return { rejectUnauthorized: true, checkServerIdentity: () => undefined, ...ca, ...clientFiles }
    case 'verify-full':
      return { rejectUnauthorized: true, ...ca, ...clientFiles }
    default:
      throw new Error(`sslmode=${mode} is not one of disable, allow, prefer, require, verify-ca, verify-full`)
  }
}

function readPem(name: string, path: string | undefined): string {
  try {
    return readFileSync(path ?? '', 'utf8')
  } catch (cause) {
    throw new Error(`${name}=${path} cannot be read; give the path of a PEM file`, { cause })
  }
}

function parseSeconds(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const seconds = Number(text)
  if (!Number.isInteger(seconds) || seconds < 0 || seconds > 3600) {
    throw new Error(`connect_timeout=${text} is not a whole number of seconds within 0…3600`)
  }
  return seconds
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Error(`the ${what} is not percent-encoded correctly`)
  }
}

function systemUser(): string {
  try {
    return userInfo().username
  } catch {
    throw new Error('no user name: this process runs as a user without a name; write postgres://USER@…')
  }
}
