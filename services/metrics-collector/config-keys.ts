// Every setting of the collector: where the file has it, in both spellings, what it may be, and what it means.

import { bool, bytes, count, duration, list, oneOf, secret, type Type, text, url } from '#platform/config'
import { compilePattern } from './pattern.ts'

export interface Key<T> {
  type: Type<T>
  /** Dotted path in the file, and with `__` in the environment. */
  path: string
  /** The nested spelling, where it differs. */
  also?: string
  default?: string
  required?: true
  doc: string
  /** Says whether a value asks for something that does not exist yet. */
  notBuilt?(value: T): boolean
}

type Given<T> = Key<T> & { __given: true }

function key<T>(type: Type<T>, o: Omit<Key<T>, 'type'> & ({ default: string } | { required: true })): Given<T>
function key<T>(type: Type<T>, o: Omit<Key<T>, 'type'>): Key<T>
function key<T>(type: Type<T>, o: Omit<Key<T>, 'type'>): Key<T> {
  return { type, ...o }
}

type ValueOf<K> = K extends Key<infer T> ? (K extends { __given: true } ? T : T | undefined) : never

/** Sources that exist, in the order of /health. */
export const sourceNames = [
  'cpu',
  'load',
  'memory',
  'disk',
  'filesystem',
  'network',
  'netstat',
  'vmstat',
  'thermal',
  'time',
  'self',
] as const

export type SourceName = (typeof sourceNames)[number]

export interface ListenAddress {
  /** Empty: every interface, IPv6 and IPv4. */
  host: string
  port: number
}

const listenAddress: Type<ListenAddress> = {
  form: 'host:port, or :port for every interface',
  parse(value) {
    const [, host = '', digits = ''] = /^(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]*):(\d{1,5})$/.exec(value.trim()) ?? []
    if (digits === '' || Number(digits) > 65_535)
      throw new Error('must be host:port such as 127.0.0.1:9100, or :9100 for every interface')
    return { host: host.replace(/^\[(.*)\]$/, '$1'), port: Number(digits) }
  },
  print: ({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`,
  redact: value => value.slice(0, 80),
  isSecret: false,
}

const pattern: Type<string> = {
  ...text,
  form: 'regular expression for the whole name',
  parse(value) {
    compilePattern(value)
    return value
  },
}

const patterns: Type<readonly string[]> = {
  ...list,
  form: 'list of regular expressions',
  parse: value => list.parse(value).map(pattern.parse),
  parseItems: items => items.map(pattern.parse),
}

const deviceId: Type<string> = {
  ...text.matching(/^(?=.*\S)[^\p{C}]{1,128}$/u, '1–128 printable characters'),
  form: '1–128 printable characters',
}

const numberAtLeastOne: Type<number> = {
  isSecret: false,
  redact: text.redact,
  form: 'number ≥ 1',
  parse(value) {
    const n = /^\d+(\.\d+)?$/.test(value.trim()) ? Number(value) : Number.NaN
    if (!(n >= 1 && n <= 1_000)) throw new Error('must be a number from 1 to 1000')
    return n
  },
  print: String,
}

const chunkSize: Type<number | 'auto'> = {
  form: 'whole number ≥ 1, or auto',
  parse: value => (value.trim() === 'auto' ? 'auto' : count.between(1, 1_000_000).parse(value)),
  print: String,
  redact: value => value.slice(0, 80),
  isSecret: false,
}

const httpUrl: Type<string> = {
  ...url,
  form: 'http or https URL',
  parse(value) {
    const parsed = url.parse(value)
    if (!/^https?:/i.test(parsed)) throw new Error('must be an http or https URL')
    return parsed
  },
}

const always = () => true
const isTrue = (value: boolean) => value

export const keys = {
  deviceId: key(deviceId, {
    path: 'device_id',
    also: 'device.id',
    required: true,
    doc: 'Names this machine; label `device_id` of every series.',
  }),
  collectionIntervalMs: key(duration.between(1_000, 86_400_000), {
    path: 'collection_interval',
    default: '30s',
    doc: 'How often sources are read, unless they have an interval of their own.',
  }),
  uploadIntervalMs: key(duration.positive, {
    path: 'upload_interval',
    also: 'remote.upload_interval',
    default: '30s',
    doc: 'Longest a sample waits for its upload while the endpoint answers.',
  }),
  remoteUrl: key(httpUrl, {
    path: 'remote.url',
    doc: 'Where samples are sent, e.g. `https://metrics.example.com/api/v1/import`. Unset: they stay here.',
  }),
  remoteEnabled: key(bool, { path: 'remote.enabled', doc: 'Defaults to true when a URL is given.' }),
  remoteAuthTokenFile: key(text, { path: 'remote.auth_token_file', doc: 'File with the bearer token.' }),
  remoteAuthToken: key(secret, { path: 'remote.auth_token', doc: 'The bearer token itself; a file is safer.' }),
  remoteTimeoutMs: key(duration.positive, {
    path: 'remote.timeout',
    default: '30s',
    doc: 'For a whole request: DNS, connect, TLS, body and answer.',
  }),
  remoteBatchSize: key(count.between(1, 10_000_000), {
    path: 'remote.batch_size',
    default: '20000',
    doc: 'Samples per upload round.',
  }),
  remoteChunkSize: key(chunkSize, {
    path: 'remote.chunk_size',
    default: 'auto',
    doc: 'Samples per request; `auto` is at most 10,000 samples, halved on 413 and timeout, doubled after 8 successes.',
  }),
  retryEnabled: key(bool, { path: 'remote.retry.enabled', default: 'true', doc: 'false: one attempt per round.' }),
  retryAttemptsMax: key(count.between(1, 1_000), {
    path: 'remote.retry.max_attempts',
    default: '3',
    doc: 'Attempts in total, per chunk and round.',
  }),
  retryInitialBackoffMs: key(duration.positive, {
    path: 'remote.retry.initial_backoff',
    default: '1s',
    doc: 'Wait before the first retry.',
  }),
  retryBackoffMsMax: key(duration.positive, {
    path: 'remote.retry.max_backoff',
    default: '30s',
    doc: 'Longest wait between retries.',
  }),
  retryBackoffMultiplier: key(numberAtLeastOne, {
    path: 'remote.retry.backoff_multiplier',
    default: '2.0',
    doc: 'Growth of the wait from retry to retry.',
  }),
  retryJitterPercent: key(count.between(0, 100), {
    path: 'remote.retry.jitter_percent',
    default: '20',
    doc: 'Each wait is made longer or shorter by up to this share.',
  }),
  retryAfterMsMax: key(duration.positive, {
    path: 'remote.retry.retry_after_max',
    default: '15m',
    doc: 'Longest `Retry-After` that is obeyed.',
  }),
  remoteFormat: key(oneOf('victoriametrics', 'prometheus', 'otlp'), {
    path: 'remote.format',
    doc: 'What the endpoint speaks; by default told by the path of its URL.',
    notBuilt: value => value !== 'victoriametrics',
  }),
  storagePath: key(text, {
    path: 'storage.path',
    default: '/var/lib/belabox-metrics/metrics.db',
    doc: 'The database file; its folder must exist and belong to this user.',
  }),
  walCheckpointIntervalMs: key(duration.positive, {
    path: 'storage.wal_checkpoint_interval',
    default: '1h',
    doc: 'How often the write-ahead log is moved into the file.',
  }),
  walCheckpointSizeMb: key(count.between(1, 65_536), {
    path: 'storage.wal_checkpoint_size_mb',
    default: '64',
    doc: 'MiB of write-ahead log that cause a checkpoint at once.',
  }),
  storageAgeMsMax: key(duration.positive, {
    path: 'storage.max_age',
    default: '720h',
    doc: 'Older samples that could not be delivered are dropped and booked.',
  }),
  cleanupIntervalMs: key(duration.positive, {
    path: 'storage.cleanup_interval',
    default: '1h',
    doc: 'How often old samples are removed.',
  }),
  storageBytesMax: key(bytes.between(1024 * 1024, 2 ** 40), {
    path: 'storage.max_bytes',
    default: '256MiB',
    doc: 'Bound of the database file; near it the oldest samples make room.',
  }),
  localRetentionMs: key(duration.positive, {
    path: 'storage.local_retention',
    default: '24h',
    doc: 'How long delivered samples stay readable here.',
  }),
  storageThin: key(bool, {
    path: 'storage.thin',
    default: 'false',
    doc: 'Thin a long backlog instead of cutting it. Not built yet.',
    notBuilt: isTrue,
  }),
  listen: key(listenAddress, {
    path: 'health.listen_addr',
    also: 'monitoring.health_address',
    default: '127.0.0.1:9100',
    doc: 'Where health, metrics and the read API are served.',
  }),
  clockCheckIntervalMs: key(duration.positive, {
    path: 'monitoring.clock_skew_check_interval',
    default: '5m',
    doc: 'How often the clock is compared with a server’s.',
  }),
  clockWarnMs: key(count.between(1, 86_400_000), {
    path: 'monitoring.clock_skew_warn_threshold_ms',
    default: '2000',
    doc: 'Skew in milliseconds, either way, from which health is degraded.',
  }),
  clockUrl: key(httpUrl, {
    path: 'monitoring.clock_skew_url',
    doc: 'Server whose `Date` is trusted; by default the upload endpoint’s.',
  }),
  logLevel: key(oneOf('debug', 'info', 'warn', 'error'), {
    path: 'logging.level',
    default: 'info',
    doc: 'Lowest level that is logged. Without it `LOG_LEVEL` counts.',
  }),
  logFormat: key(oneOf('json', 'console'), {
    path: 'logging.format',
    default: 'json',
    doc: 'JSON lines, or lines for people. Without it `LOG_FORMAT` counts.',
  }),
  interfacesMax: key(count.between(1, 10_000), {
    path: 'network.max_interfaces',
    default: '32',
    doc: 'Network interfaces reported; those already chosen stay.',
  }),
  interfacesIncluded: key(patterns, {
    path: 'network.include_ifaces',
    default: '',
    doc: 'Only interfaces whose whole name matches one of these.',
  }),
  interfacesExcluded: key(patterns, {
    path: 'network.exclude_ifaces',
    default: '',
    doc: 'Interfaces left out besides loopback and container links; an include wins.',
  }),
  diskAllowedDevices: key(pattern, {
    path: 'disk.allowed_devices',
    default: '^(sd[a-z]+|hd[a-z]+|vd[a-z]+|xvd[a-z]+|nvme[0-9]+n[0-9]+|mmcblk[0-9]+)$',
    doc: 'Block devices reported.',
  }),
  filesystemMounts: key(list, {
    path: 'filesystem.mounts',
    default: '',
    doc: 'Mount points to report, whatever their type; empty: one per local disk.',
  }),
  names: key(oneOf('prometheus', 'legacy', 'both'), {
    path: 'names',
    default: 'prometheus',
    doc: 'node_exporter’s names, or the older program’s, or both.',
    notBuilt: value => value !== 'prometheus',
  }),
  textfileDirectory: key(text, {
    path: 'textfile.directory',
    doc: 'Folder of `*.prom` files to read. Not built yet.',
    notBuilt: always,
  }),
  systemdUnits: key(list, { path: 'systemd.units', doc: 'Units to report. Not built yet.', notBuilt: always }),
  journaldEnabled: key(bool, {
    path: 'journald.enabled',
    default: 'false',
    doc: 'Count journal messages. Not built yet.',
    notBuilt: isTrue,
  }),
  seriesMax: key(count.between(1, 1_000_000), {
    path: 'limits.max_series',
    default: '5000',
    doc: 'Series alive at one time; more are refused and counted.',
  }),
  newSeriesPerDayMax: key(count.between(1, 1_000_000), {
    path: 'limits.max_new_series_per_day',
    default: '2000',
    doc: 'New series within a day; more are refused and counted.',
  }),
  auditEnabled: key(bool, {
    path: 'audit.enabled',
    default: 'false',
    doc: 'Read back what was sent. Not built yet.',
    notBuilt: isTrue,
  }),
  clockRepair: key(bool, {
    path: 'clock.repair',
    default: 'false',
    doc: 'Correct the stamps of a clock known to be wrong. Not built yet.',
    notBuilt: isTrue,
  }),
  apiTokenFile: key(text, {
    path: 'api.token_file',
    doc: 'File with the token that other machines need for `/api/v1`.',
  }),
  apiAllowOrigins: key(list, {
    path: 'api.allow_origins',
    default: '',
    doc: 'Origins whose pages may read `/api/v1`; `*` for all.',
  }),
  drainTimeoutMs: key(duration.between(0, 600_000), {
    path: 'shutdown.drain_timeout',
    default: '20s',
    doc: 'Longest a stop goes on uploading.',
  }),
  workloadsEnabled: key(bool, {
    path: 'workloads.enabled',
    default: 'false',
    doc: 'Meter containers and VMs. Not built yet.',
    notBuilt: isTrue,
  }),
}

export type Values = { -readonly [K in keyof typeof keys]: ValueOf<(typeof keys)[K]> }

/** Branches of the file that the specification has and this version does not. */
export const branchesNotBuilt: readonly string[] = [
  'remotes',
  'workloads',
  'audit',
  'remote.headers',
  'remote.basic_auth',
  'remote.tls',
  'remote.link',
]

/** What the nested spelling calls sources in its `metrics:` list. */
export const nestedSourceNames: Readonly<Record<string, SourceName>> = {
  'cpu.temperature': 'thermal',
  'cpu.usage': 'cpu',
  'memory.usage': 'memory',
  'disk.io': 'disk',
  'network.traffic': 'network',
}
