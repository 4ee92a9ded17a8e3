// The pool every service queries through: the `postgres` driver with our types, time limits and socket.

import net from 'node:net'
import postgres from 'postgres'
import type { Logger } from '#platform/telemetry'
import { addArrayTypes } from './arrays.ts'
import type { Silence } from './silence.ts'
import { guardTransactions } from './transactions.ts'
import { type DatabaseAddress, describeAddress, parseDatabaseUrl } from './url.ts'

/** A pool. `int8` is bigint in both directions; `numeric` (also `sum(int8)`) stays text: cast it to int8 when it fits.
 *
 *  `timestamptz` arrives as a Date, which is exact to the millisecond. Where microseconds matter (log times, cursors)
 *  select `(extract(epoch from at) * 1000000)::int8` or `at::text`; going in, text such as
 *  '2026-01-02T03:04:05.123456Z' is stored exactly. A Date is what nearly all code wants, and a driver-wide text type
 *  would make every other place parse. `timestamp` without time zone is never used: it arrives in local time. */
export type Sql = postgres.Sql<{ bigint: bigint }>
/** What `sql.begin` hands over. */
export type Tx = postgres.TransactionSql<{ bigint: bigint }>
/** For functions that run on a pool or inside a transaction. */
export type Queryable = postgres.ISql<{ bigint: bigint }>

export interface OpenSqlOptions {
  url: string
  /** Most connections of this pool. The embedded server allows 60 in all. */
  max: number
  /** Shown in pg_stat_activity. */
  applicationName: string
  /** Longest a statement may run; 30 s unless given. Migrations lift it for themselves. */
  statementTimeoutMs?: number
  /** False behind PgBouncer in transaction mode; `?pgbouncer=true` in the address says the same. */
  prepare?: boolean
  /** Told of every connection. */
  silence?: Silence
  log: Logger
}

/** How long `sql.end()` lets running queries finish. Seconds. */
const endTimeoutS = 5

/** Connects lazily, on the first query. @throws {Error} when the address is malformed (the password is not repeated) */
export function openSql(o: OpenSqlOptions): Sql {
  const { url, max, applicationName, statementTimeoutMs = 30_000, prepare, log } = o
  const address = parseDatabaseUrl(url)
  const [first] = address.hosts
  if (!first) throw new Error('BUG: an address without a host')
  const isDirect = prepare ?? address.isDirect
  let onConnectionClosed: (connectionId: number) => void = () => {}
  const options = {
    host: first.host,
    port: first.port,
    database: address.database,
    user: address.user,
    pass: address.password,
    ssl: address.ssl,
    max,
    prepare: isDirect,
    connect_timeout: address.connectTimeoutS ?? 5,
    keep_alive: 30,
    // See arrays.ts; it also saves a round trip per connection.
    fetch_types: false,
    // A pool that slept through an outage is back within a second; the driver's own steps reach 20 s.
    backoff: (attempt: number) => Math.min(0.05 * 2 ** attempt, 1) * (0.75 + Math.random() / 4),
    types: { bigint: postgres.BigInt },
    connection: {
      application_name: address.applicationName ?? applicationName,
      // A pooler in transaction mode refuses startup parameters that it does not track.
      ...(isDirect ? { statement_timeout: statementTimeoutMs, TimeZone: 'UTC' } : {}),
      ...(isDirect && address.options ? { options: address.options } : {}),
    },
    ...(address.targetSessionAttrs ? { target_session_attrs: address.targetSessionAttrs } : {}),
    onnotice: (notice: postgres.Notice) =>
      log.debug({ severity: notice.severity, code: notice.code }, `PostgreSQL: ${notice.message}`),
    socket: watched(socketFactory(address), o.silence),
    onclose: (connectionId: number) => onConnectionClosed(connectionId),
  }
  log.debug({ max, applicationName }, `using ${describeAddress(address)}`)
  const sql = postgres(options)
  // The driver would pass text through a Date and cut its microseconds off. 1082 date, 1114 timestamp, 1184 timestamptz.
  for (const oid of [1082, 1114, 1184]) sql.options.serializers[oid] = formatTime
  sql.options.parsers[1184] = parseTime
  addArrayTypes(sql.options)
  onConnectionClosed = guardTransactions(sql)
  // Without a timeout the driver waits for ever for a connection that was lost in the middle of a query.
  const end = sql.end
  return Object.assign(sql, { end: (o: { timeout?: number | undefined } = {}) => end({ timeout: endTimeoutS, ...o }) })
}

function formatTime(value: unknown): string {
  if (typeof value === 'number') return new Date(value).toISOString()
  return value instanceof Date ? value.toISOString() : String(value)
}

/** As ISO 8601, which every engine reads alike and quickly: to a JavaScript engine '0099-12-31 23:59:59+00' is 1999. */
function parseTime(text: string): Date {
  return new Date(text.endsWith('+00') ? `${text.slice(0, -3).replace(' ', 'T')}Z` : text)
}

function watched(open: () => net.Socket | Promise<net.Socket>, silence: Silence | undefined) {
  if (!silence) return open
  const watch = (socket: net.Socket) => {
    silence.watch(socket)
    return socket
  }
  return () => {
    const opened = open()
    return opened instanceof Promise ? opened.then(watch) : watch(opened)
  }
}

/** The driver would open its own sockets with Nagle's algorithm on: COPY in 1,000-row batches over TCP then waits
 *  for delayed acknowledgements (measured: 20 k rows/s, against 259 k with TCP_NODELAY). */
function socketFactory(address: DatabaseAddress): () => net.Socket | Promise<net.Socket> {
  const { socketDir, hosts } = address
  const [first] = hosts
  if (socketDir !== undefined && first) return () => net.connect(`${socketDir}/.s.PGSQL.${first.port}`)
  // One host: the connecting socket is handed over at once, so the driver's connect timeout covers the connecting too.
  if (first && hosts.length === 1) return () => connectTcp(first)
  let next = 0
  return async () => {
    let lastError: unknown
    for (let tries = 0; tries < hosts.length; tries++) {
      const target = hosts[next++ % hosts.length]
      if (!target) continue
      const socket = connectTcp(target)
      try {
        await connected(socket, 5_000 / hosts.length)
        return socket
      } catch (error) {
        lastError = error
        socket.destroy()
      }
    }
    // Not thrown: the driver would count this connection as connecting for ever.
    const dead = new net.Socket()
    setImmediate(() => dead.destroy(lastError instanceof Error ? lastError : new Error('no host answers')))
    return dead
  }
}

function connectTcp(target: { host: string; port: number }): net.Socket {
  // `host` is where the driver looks for the name to verify in the server's certificate.
  return Object.assign(net.connect({ ...target, noDelay: true }), { host: target.host })
}

function connected(socket: net.Socket, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(Object.assign(new Error(`no answer within ${timeoutMs} ms`), { code: 'ETIMEDOUT' }))
    }, timeoutMs)
    socket.once('connect', () => {
      clearTimeout(timer)
      resolve()
    })
    socket.once('error', error => {
      clearTimeout(timer)
      reject(error)
    })
  })
}
