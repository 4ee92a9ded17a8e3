// Every setting of log-ingestion: names of the guide first, then ours.

import { join, resolve } from 'node:path'
import {
  bool,
  bytes,
  type ConfigOf,
  count,
  defineConfig,
  duration,
  host,
  list,
  oneOf,
  port,
  secret,
  secretList,
  setting,
  text,
  url,
} from '#platform/config'
import { networkProblem } from '#platform/network'
import { parseDatabaseUrl } from '#platform/postgres/url'
import { keepProblem } from './rules/definitions.ts'
import { settingsProblem } from './rules/redaction.ts'
import { isTimeZone, parseAllowed, parseHostPort } from './syslog/addresses.ts'

const KiB = 1024
const MiB = 1024 * KiB
const GiB = 1024 * MiB
const hourMs = 3_600_000

export const spec = defineConfig({
  service: 'log-ingestion',
  prefixes: ['LOG_INGESTION_'],
  file: { format: 'yaml', paths: ['./config.yaml', './config/config.yaml'] },
  alsoKnown: ['LOG_INGESTION_ENV_FILE'],
  settings: {
    serverHost: setting(host, {
      env: 'SERVER_HOST',
      bare: ['SERVER_HOST'],
      yaml: 'server.host',
      default: '0.0.0.0',
      doc: 'Address the HTTP API binds to.',
    }),
    serverPort: setting(port, {
      env: 'SERVER_PORT',
      yaml: 'server.port',
      default: '8080',
      doc: 'TCP port of the HTTP API.',
    }),
    readTimeoutMs: setting(duration.positive, {
      env: 'SERVER_READ_TIMEOUT',
      bare: ['SERVER_READ_TIMEOUT'],
      yaml: 'server.read_timeout',
      default: '10s',
      doc: 'Longest a request may take to arrive, headers and body.',
    }),
    writeTimeoutMs: setting(duration.positive, {
      env: 'SERVER_WRITE_TIMEOUT',
      bare: ['SERVER_WRITE_TIMEOUT'],
      yaml: 'server.write_timeout',
      default: '10s',
      doc: 'Longest an answer may stand still; live tails are exempt.',
    }),

    dbHost: setting(text, {
      env: 'DB_HOST',
      bare: ['DB_HOST'],
      yaml: 'database.host',
      doc: 'Database host; localhost when another DB_* is given.',
    }),
    dbPort: setting(port, {
      env: 'DB_PORT',
      bare: ['DB_PORT'],
      yaml: 'database.port',
      doc: 'Database port; 5432 when another DB_* is given.',
    }),
    dbUser: setting(text, {
      env: 'DB_USER',
      bare: ['DB_USER'],
      yaml: 'database.user',
      doc: 'Database user; postgres when another DB_* is given.',
    }),
    dbPassword: setting(secret, {
      env: 'DB_PASSWORD',
      bare: ['DB_PASSWORD'],
      yaml: 'database.password',
      doc: 'Database password; postgres when another DB_* is given.',
    }),
    dbName: setting(text, {
      env: 'DB_NAME',
      bare: ['DB_NAME'],
      yaml: 'database.dbname',
      doc: 'Database name; logs when another DB_* is given.',
    }),
    dbSslMode: setting(oneOf('disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'), {
      env: 'DB_SSLMODE',
      bare: ['DB_SSLMODE'],
      yaml: 'database.sslmode',
      doc: 'TLS towards the database, as libpq reads it; disable when another DB_* is given.',
    }),
    dbSslRootCert: setting(text, {
      env: 'DB_SSLROOTCERT',
      bare: ['DB_SSLROOTCERT'],
      yaml: 'database.sslrootcert',
      doc: 'PEM file of the authority that verify-ca and verify-full trust.',
    }),
    databaseUrl: setting(url, {
      env: 'DATABASE_URL',
      doc: 'PostgreSQL address in one line; wins over DB_* and PURSER_DATABASE_URL. None of them: embedded PostgreSQL.',
    }),
    readUrl: setting(url, {
      env: 'READ_URL',
      doc: 'PostgreSQL address of a streaming replica that answers queries. Away or 30 s behind: the database itself does.',
    }),
    dbPoolMax: setting(count.between(3, 200), { env: 'DB_POOL_MAX', default: '8', doc: 'Most database connections.' }),
    dbStatementTimeoutMs: setting(duration.positive, {
      env: 'DB_STATEMENT_TIMEOUT',
      default: '30s',
      doc: 'Longest one statement may run.',
    }),

    batchRows: setting(count.between(1, 50_000), {
      env: 'BATCH_SIZE',
      bare: ['BATCH_SIZE'],
      yaml: 'batch.size',
      default: '1000',
      doc: 'Pending rows that start a commit at once.',
    }),
    batchFlushIntervalMs: setting(duration.positive, {
      env: 'BATCH_FLUSH_INTERVAL',
      bare: ['BATCH_FLUSH_INTERVAL'],
      yaml: 'batch.flush_interval',
      default: '5s',
      doc: 'Longest a row waits in the journal while the database works.',
    }),

    isRateLimited: setting(bool, {
      env: 'RATELIMIT_ENABLED',
      bare: ['RATELIMIT_ENABLED'],
      yaml: 'ratelimit.enabled',
      default: 'true',
      doc: 'Whether requests per key are limited.',
    }),
    rateLimitRps: setting(count.between(1, 1_000_000), {
      env: 'RATELIMIT_DEFAULT_RPS',
      bare: ['RATELIMIT_DEFAULT_RPS'],
      yaml: 'ratelimit.default_rps',
      default: '100',
      doc: 'Requests a second that a key may make for ever.',
    }),
    rateLimitBurst: setting(count.between(1, 1_000_000), {
      env: 'RATELIMIT_BURST',
      bare: ['RATELIMIT_BURST'],
      yaml: 'ratelimit.burst',
      default: '200',
      doc: 'Requests a key may make at once after a rest.',
    }),

    rateLimitRowsPerSecond: setting(count.between(0, 1_000_000_000), {
      env: 'RATELIMIT_ROWS_PER_SECOND',
      default: '0',
      doc: 'Entries a second that a key may send for ever; 0 is no limit.',
    }),
    rateLimitBytesPerSecond: setting(bytes.between(0, 1024 * GiB), {
      env: 'RATELIMIT_BYTES_PER_SECOND',
      default: '0',
      doc: 'Bytes of entries a second that a key may send for ever; 0 is no limit.',
    }),

    redisUrl: setting(secret, {
      bare: ['REDIS_URL'],
      doc: 'Redis through which replicas share limits and live tails, such as redis://cache:6379; none: limits are per replica.',
    }),

    apiKeys: setting(secretList, {
      env: 'API_KEYS',
      bare: ['API_KEYS'],
      yaml: 'auth.api_keys',
      default: '',
      doc: 'Keys that may send; `slug=key` gives a key to a tenant other than public.',
    }),
    adminApiKeys: setting(secretList, {
      env: 'ADMIN_API_KEYS',
      bare: ['ADMIN_API_KEYS'],
      yaml: 'auth.admin_api_keys',
      default: '',
      doc: 'Keys that may also read and administer. No fall-back to API_KEYS: a key inside an app must not administer.',
    }),

    jwtSecret: setting(secret, {
      env: 'JWT_SECRET',
      bare: ['JWT_SECRET'],
      yaml: 'auth.jwt_secret',
      doc: 'Signs tokens of people who sign in, at least 16 bytes; made at the first start and kept in the database when absent.',
    }),
    registration: setting(oneOf('off', 'open'), {
      env: 'REGISTRATION',
      default: 'off',
      doc: '`open`: anybody may make an account with POST /auth/register.',
    }),

    storage: setting(oneOf('rows', 'columnar'), {
      env: 'STORAGE',
      doc: 'Where entries go: `rows`, the guide’s logs table, or `columnar`, packed blocks. Default: columnar on the embedded database, rows on another.',
    }),
    indexProfile: setting(oneOf('fast', 'compat'), {
      env: 'INDEX_PROFILE',
      default: 'fast',
      doc: 'Indexes of tables we create; tables found keep theirs. `compat` is the guide’s five.',
    }),
    journalBytesMax: setting(bytes.between(16 * MiB, 1024 * GiB), {
      env: 'JOURNAL_BYTES_MAX',
      default: '4GiB',
      doc: 'Most bytes acknowledged and not yet in the database; beyond it senders get 429.',
    }),
    journalKeepBytes: setting(bytes.between(0, 1024 * GiB), {
      env: 'JOURNAL_KEEP_BYTES',
      default: '256MiB',
      doc: 'Committed journal kept to refill a restored database.',
    }),

    bodyBytesMax: setting(bytes.between(KiB, 256 * MiB), {
      env: 'BODY_BYTES_MAX',
      default: '32MiB',
      doc: 'Largest request body after decompression.',
    }),
    rowsPerRequestMax: setting(count.between(1, 1_000_000), {
      env: 'ROWS_PER_REQUEST_MAX',
      default: '100000',
      doc: 'Most entries in one request.',
    }),
    inflightBytesMax: setting(bytes.between(MiB, 4 * GiB), {
      env: 'INFLIGHT_BYTES_MAX',
      default: '64MiB',
      doc: 'Most decoded bytes in work at once; beyond it senders get 429.',
    }),
    messageBytesMax: setting(count.between(1, 64 * MiB), {
      env: 'MESSAGE_BYTES_MAX',
      default: '10000',
      doc: 'Longest message of a native entry.',
    }),
    lineBytesMax: setting(bytes.between(KiB, 64 * MiB), {
      env: 'LINE_BYTES_MAX',
      default: '256KiB',
      doc: 'Longest message of other protocols; longer ones are cut and marked.',
    }),
    metadataBytesMax: setting(bytes.between(KiB, 64 * MiB), {
      env: 'METADATA_BYTES_MAX',
      default: '1MiB',
      doc: 'Largest metadata of one entry.',
    }),
    timestampPastMaxMs: setting(duration.positive, {
      env: 'TIMESTAMP_PAST_MAX',
      default: '168h',
      doc: 'Oldest time a native entry may carry.',
    }),
    timestampFutureMaxMs: setting(duration.between(1, 366 * 24 * hourMs), {
      env: 'TIMESTAMP_FUTURE_MAX',
      default: '1h',
      doc: 'How far ahead of the receipt an entry’s time may be.',
    }),
    batchErrors: setting(oneOf('whole', 'entry'), {
      env: 'BATCH_ERRORS',
      default: 'whole',
      doc: 'Whether one undecodable entry fails a native batch or only itself; header X-Batch-Errors wins.',
    }),
    syslogTcp: setting(text, {
      env: 'SYSLOG_TCP',
      doc: '`host:port` of the syslog listener on TCP; with SYSLOG_TLS_CERT it speaks TLS. Off unless given.',
    }),
    syslogUdp: setting(text, {
      env: 'SYSLOG_UDP',
      doc: '`host:port` of the syslog listener on UDP. Off unless given.',
    }),
    syslogTlsCert: setting(text, {
      env: 'SYSLOG_TLS_CERT',
      doc: 'PEM file of the certificate chain of the syslog listener.',
    }),
    syslogTlsKey: setting(text, { env: 'SYSLOG_TLS_KEY', doc: 'PEM file of its private key.' }),
    syslogKey: setting(text, {
      env: 'SYSLOG_KEY',
      doc: 'Name of the key that syslog input counts under, and whose tenant it goes to; without it, `syslog` of public.',
    }),
    syslogAllow: setting(list, {
      env: 'SYSLOG_ALLOW',
      default: 'loopback',
      doc: 'Who may send syslog: addresses, CIDR ranges, or `loopback`.',
    }),
    syslogTimezone: setting(text, {
      env: 'SYSLOG_TIMEZONE',
      default: 'UTC',
      doc: 'Zone of syslog times that carry none (RFC 3164), such as Europe/Berlin.',
    }),
    elasticVersion: setting(text, {
      env: 'ELASTIC_VERSION',
      default: '8.19.0',
      doc: 'Version told to Elasticsearch clients; the default suits every shipper of 7 and 8.',
    }),
    dedupeWindowMs: setting(duration.between(0, hourMs), {
      env: 'DEDUPE_WINDOW',
      default: '60s',
      doc: 'How long a request without Idempotency-Key is recognised when it is sent again; 0 turns it off.',
    }),
    idempotencyTtlMs: setting(duration.between(60_000, 366 * 24 * hourMs), {
      env: 'IDEMPOTENCY_TTL',
      default: '24h',
      doc: 'How long an Idempotency-Key is remembered.',
    }),
    redactKeys: setting(list, {
      env: 'REDACT_KEYS',
      default: '',
      doc: 'Metadata keys removed besides password, token, secret and their like.',
    }),
    redactPatterns: setting(list, {
      env: 'REDACT_PATTERNS',
      default: '',
      doc: 'What is replaced in messages and string values: card, bearer, jwt, aws, email, or name=expression (RE2).',
    }),
    retention: setting(text, {
      env: 'RETENTION',
      doc: 'How long entries are kept that no rule speaks of: forever, or 30d, 12h; default forever, on our own embedded database 30d.',
    }),
    webhookDeny: setting(list, {
      env: 'WEBHOOK_DENY',
      default: '169.254.0.0/16,fe80::/10',
      doc: 'Networks that alert webhooks may never reach.',
    }),
    isChained: setting(bool, {
      env: 'CHAIN',
      default: 'false',
      doc: 'Whether each commit to `rows` leaves a link of evidence, as each block of `columnar` always does.',
    }),
    corsOrigins: setting(list, {
      env: 'CORS_ORIGINS',
      default: '',
      doc: 'Origins whose pages may call this API from a browser: exact ones, or `*`.',
    }),
    lokiLabels: setting(list, {
      env: 'LOKI_LABELS',
      default: '',
      doc: 'Metadata keys that are labels to Grafana, besides service and level.',
    }),
    trustedProxies: setting(list, {
      env: 'TRUSTED_PROXIES',
      default: 'loopback',
      doc: 'Whose X-Forwarded-For counts: addresses, CIDR ranges, or `loopback`.',
    }),

    stateDir: setting(text, {
      env: 'DATA_DIR',
      bare: ['STATE_DIRECTORY'],
      doc: 'Journal and keys of this replica; default PURSER_DATA_DIR/log-ingestion, else ./data.',
    }),
    // Read a second time without its default: only a folder that somebody named is shared with the other services.
    purserDir: setting(text, { bare: ['PURSER_DATA_DIR'], doc: 'As above; decides the default of DATA_DIR.' }),
    shutdownTimeoutMs: setting(duration.between(1_000, 10 * 60_000), {
      env: 'SHUTDOWN_TIMEOUT',
      default: '20s',
      doc: 'Longest the journal is written to the database while stopping; the rest waits in the journal.',
    }),
    hasSelfLogs: setting(bool, {
      env: 'SELF_LOGS',
      default: 'true',
      doc: 'Whether this service’s own lines are stored too.',
    }),
  },
  check: values => {
    const problems = []
    if (values.jwtSecret !== undefined && /^dev-secret-change-me/.test(values.jwtSecret))
      problems.push({
        name: 'LOG_INGESTION_JWT_SECRET',
        value: '***',
        problem: 'is the published default, which anybody can sign with; leave it out and one is made',
      })
    else if (values.jwtSecret !== undefined && Buffer.byteLength(values.jwtSecret) < 16)
      problems.push({
        name: 'LOG_INGESTION_JWT_SECRET',
        value: '***',
        problem: 'must have at least 16 bytes, better 32 (openssl rand -hex 32); leave it out and one is made',
      })
    if (values.redisUrl !== undefined && !isRedisUrl(values.redisUrl))
      problems.push({
        name: 'REDIS_URL',
        value: '***',
        problem: 'must be redis://host:6379 or rediss://host:6379, with user:password@ before the host where needed',
      })
    problems.push(...syslogProblems(values))
    if (!/^\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(values.elasticVersion))
      problems.push({
        name: 'LOG_INGESTION_ELASTIC_VERSION',
        value: values.elasticVersion,
        problem: 'must be three numbers, such as 8.19.0',
      })
    problems.push(...ruleProblems(values))
    if (values.isChained && values.storage === 'columnar')
      problems.push({
        name: 'LOG_INGESTION_CHAIN',
        value: 'true',
        problem: chainHasNoEffect,
      })
    if (values.inflightBytesMax < values.bodyBytesMax)
      problems.push({
        name: 'LOG_INGESTION_INFLIGHT_BYTES_MAX',
        value: String(values.inflightBytesMax),
        problem: `must be at least BODY_BYTES_MAX (${values.bodyBytesMax}), or the largest body would never be taken`,
      })
    return problems
  },
})

export type Config = ConfigOf<typeof spec>

/** Where the default of STORAGE decides, it is known at the start only. */
export const chainHasNoEffect =
  'has no effect on columnar storage, whose blocks are chained in any case; leave it out, or set STORAGE=rows'

function isRedisUrl(text: string): boolean {
  return /^rediss?:$/.test(URL.canParse(text) ? new URL(text).protocol : '')
}

function syslogProblems(values: {
  syslogTcp: string | undefined
  syslogUdp: string | undefined
  syslogTlsCert: string | undefined
  syslogTlsKey: string | undefined
  syslogKey: string | undefined
  syslogAllow: readonly string[]
  syslogTimezone: string
}) {
  const { syslogTcp, syslogUdp, syslogTlsCert, syslogTlsKey, syslogKey, syslogAllow, syslogTimezone } = values
  const problems: { name: string; value: string; problem: string }[] = []
  const add = (name: string, value: string, problem: string) =>
    problems.push({ name: `LOG_INGESTION_SYSLOG_${name}`, value, problem })
  for (const [name, value] of [
    ['TCP', syslogTcp],
    ['UDP', syslogUdp],
  ] as const)
    if (value !== undefined && !parseHostPort(value)) add(name, value, 'must be host:port, such as 0.0.0.0:514')
  if ((syslogTlsCert === undefined) !== (syslogTlsKey === undefined))
    add('TLS_CERT', syslogTlsCert ?? '', 'needs SYSLOG_TLS_KEY, and the other way round')
  if (syslogTlsCert !== undefined && syslogTcp === undefined)
    add('TLS_CERT', syslogTlsCert, 'has no effect without SYSLOG_TCP, the listener that is to speak TLS')
  if (syslogKey !== undefined && syslogTcp === undefined && syslogUdp === undefined)
    add('KEY', syslogKey, 'has no effect without SYSLOG_TCP or SYSLOG_UDP')
  if (!parseAllowed(syslogAllow))
    add('ALLOW', syslogAllow.join(','), 'must list addresses, ranges such as 10.0.0.0/8, or loopback')
  if (!isTimeZone(syslogTimezone)) add('TIMEZONE', syslogTimezone, 'is not a time zone, such as UTC or Europe/Berlin')
  return problems
}

function ruleProblems(values: {
  redactPatterns: readonly string[]
  retention: string | undefined
  webhookDeny: readonly string[]
}): { name: string; value: string; problem: string }[] {
  const bad = (name: string, value: string, problem: string | undefined) =>
    problem === undefined ? [] : [{ name: `LOG_INGESTION_${name}`, value, problem }]
  return [
    ...values.redactPatterns.flatMap(item => bad('REDACT_PATTERNS', item, settingsProblem(item))),
    ...(values.retention === undefined ? [] : bad('RETENTION', values.retention, keepProblem(values.retention))),
    ...values.webhookDeny.flatMap(network => bad('WEBHOOK_DENY', network, networkProblem(network))),
  ]
}

/** Folder of this replica: journal, keys, and the embedded database when nobody named another. */
export function stateDirOf(config: Config): string {
  return resolve(
    config.stateDir ?? (config.purserDir === undefined ? './data' : join(config.purserDir, 'log-ingestion')),
  )
}

/** On a database of our own, entries are packed; one that somebody named gets the table that its guide knows. */
export function storageOf(config: Config): 'rows' | 'columnar' {
  if (config.storage !== undefined) return config.storage
  const url = databaseUrlOf(config)
  if (url === undefined) return 'columnar'
  // The supervisor hands its embedded server to its services by a socket.
  const isItsOwn = config.isSupervised && url === config.platformDatabaseUrl
  return isItsOwn && parseDatabaseUrl(url).socketDir !== undefined ? 'columnar' : 'rows'
}

/** The database somebody named, or undefined: then it is embedded. One DB_* is enough for the guide's defaults to hold. */
export function databaseUrlOf(config: Config): string | undefined {
  if (config.databaseUrl !== undefined) return config.databaseUrl
  const { dbHost, dbPort, dbUser, dbPassword, dbName, dbSslMode, dbSslRootCert } = config
  const given = [dbHost, dbPort, dbUser, dbPassword, dbName, dbSslMode, dbSslRootCert]
  if (given.every(value => value === undefined)) return config.platformDatabaseUrl
  const parameters = [
    ['host', dbHost ?? 'localhost'],
    ['port', String(dbPort ?? 5432)],
    ['sslmode', dbSslMode ?? 'disable'],
    ...(dbSslRootCert === undefined ? [] : [['sslrootcert', dbSslRootCert]]),
  ].map(([name = '', value = '']) => `${name}=${encodeURIComponent(value)}`)
  const login = `${encodeURIComponent(dbUser ?? 'postgres')}:${encodeURIComponent(dbPassword ?? 'postgres')}`
  return `postgres://${login}@/${encodeURIComponent(dbName ?? 'logs')}?${parameters.join('&')}`
}
