// What `purser up` runs: which processes, on which ports, with which environment. Pure, so that it can be read at
// a glance and tested without starting anything.

import { join } from 'node:path'

export const serviceNames = ['log-ingestion', 'billaged', 'budgetguard', 'builderd', 'metrics-collector'] as const
export type ServiceName = (typeof serviceNames)[number]

export interface PlannedPort {
  port: number
  /** The variable that moves this port. */
  variable: string
}

export interface PlannedService {
  name: ServiceName
  /** The port its API answers on comes first. */
  ports: PlannedPort[]
  url: string
  /** 200 here means it can do its work. */
  readyPath: string
  nodeFlags: readonly string[]
  env: Record<string, string>
}

export interface PlanInput {
  only: readonly ServiceName[]
  portOffset: number
  dataDir: string
  /** Empty when no service of the plan wants one. */
  databaseUrl: string
  /** The caller's environment; only what belongs to a service is passed to it. */
  env: Readonly<Record<string, string | undefined>>
}

interface ServiceShape {
  prefix: string
  /** Also passed on; the supervisor translates each to the prefixed form. */
  bareNames?: readonly string[]
  ports: readonly { standard: number; variable: string }[]
  readyPath: string
  nodeFlags?: readonly string[]
}

const shapes: Record<ServiceName, ServiceShape> = {
  'log-ingestion': {
    prefix: 'LOG_INGESTION_',
    ports: [{ standard: 8080, variable: 'LOG_INGESTION_SERVER_PORT' }],
    readyPath: '/health/ready',
    // As its launcher does: half of its memory would be young objects, and a quarter of its time at load full marks of the heap.
    nodeFlags: ['--max-semi-space-size=4', '--heap-growing-percent=45', '--expose-gc'],
  },
  billaged: {
    prefix: 'BILLAGED_',
    ports: [
      { standard: 8081, variable: 'BILLAGED_PORT' },
      { standard: 9465, variable: 'BILLAGED_OTEL_PROMETHEUS_PORT' },
    ],
    readyPath: '/health/ready',
    // As its launcher does.
    nodeFlags: ['--max-semi-space-size=8', '--heap-growing-percent=45'],
  },
  budgetguard: {
    prefix: 'BUDGETGUARD_',
    // Names of the guide that can mean nothing else; PORT, DATABASE_URL and their like stay with their owner.
    bareNames: [
      'ADMIN_API_KEY',
      'OPENAI_KEY',
      'OPENAI_API_KEY',
      'OPENAI_BASE_URL',
      'ANTHROPIC_API_KEY',
      'ANTHROPIC_BASE_URL',
      'GOOGLE_API_KEY',
      'GEMINI_API_KEY',
      'GOOGLE_BASE_URL',
      'DEFAULT_BUDGET_USD',
      'MAX_MONTHLY_USD',
      'BUDGET_PERIODS',
      'BUDGET_PERIOD',
      'BUDGET_DAILY_USD',
      'BUDGET_WEEKLY_USD',
      'BUDGET_MONTHLY_USD',
      'BUDGET_CUSTOM_USD',
      'BUDGET_START_DATE',
      'BUDGET_END_DATE',
      'DEFAULT_TENANT',
      'DEFAULT_API_KEY',
      'OPA_POLICY_PATH',
      // production closes the admin API when no key is set.
      'NODE_ENV',
      'MAX_REQS_PER_MIN',
    ],
    ports: [{ standard: 3000, variable: 'BUDGETGUARD_PORT' }],
    readyPath: '/health/ready',
  },
  builderd: {
    prefix: 'UNKEY_BUILDERD_',
    ports: [
      { standard: 8082, variable: 'UNKEY_BUILDERD_PORT' },
      { standard: 9090, variable: 'UNKEY_BUILDERD_METRICS_PORT' },
    ],
    readyPath: '/health/ready',
  },
  'metrics-collector': {
    prefix: 'METRICS_COLLECTOR_',
    ports: [{ standard: 9100, variable: 'METRICS_COLLECTOR_HEALTH__LISTEN_ADDR' }],
    // Its /health/ready is red while anything is merely degraded; one failing sensor must not hold up the start.
    readyPath: '/health',
    nodeFlags: ['--disable-sigusr1', '--max-semi-space-size=1'],
  },
}

/** Of the caller's environment: what programs need to run at all, never a secret of another service. */
const systemNames =
  /^(PATH|HOME|USER|LANG|LC_[A-Z]+|TZ|TMPDIR|NODE_COMPILE_CACHE|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR)|HTTPS?_PROXY|NO_PROXY|https?_proxy|no_proxy|OTEL_[A-Z_]+)$/

/** A database of our own on the same machine bears a commit a second; the guide's five would make a first search look empty. */
const flushInterval = '1s'

/** Where builderd finds OCI layouts that an operator puts there, and the demo its sample image. Outside the service's own
 *  folder, which is closed to the unprivileged user that builds run as. */
export function localSourcesDir(dataDir: string): string {
  return join(dataDir, 'sources')
}

/** The data folder of one service. */
export function serviceDir(dataDir: string, name: ServiceName): string {
  return join(dataDir, name)
}

export function collectorConfigPath(dataDir: string): string {
  return join(serviceDir(dataDir, 'metrics-collector'), 'config.yaml')
}

export function planServices(o: PlanInput): PlannedService[] {
  const ports = Object.fromEntries(serviceNames.map(name => [name, portsOf(name, o)])) as Record<
    ServiceName,
    PlannedPort[]
  >
  const urls = Object.fromEntries(
    serviceNames.map(name => [name, `http://127.0.0.1:${ports[name][0]?.port}`]),
  ) as Record<ServiceName, string>
  return serviceNames
    .filter(name => o.only.includes(name))
    .map(name => ({
      name,
      ports: ports[name],
      url: urls[name],
      readyPath: shapes[name].readyPath,
      nodeFlags: shapes[name].nodeFlags ?? [],
      env: envOf(name, o, ports[name], urls),
    }))
}

function portsOf(name: ServiceName, { portOffset, env }: PlanInput): PlannedPort[] {
  return shapes[name].ports.map(({ standard, variable }) => {
    // A port the user chose is the user's; only the standard ones are shifted.
    const chosen = /(\d+)$/.exec(env[variable] ?? '')?.[1]
    return { port: chosen === undefined ? standard + portOffset : Number(chosen), variable }
  })
}

function envOf(
  name: ServiceName,
  o: PlanInput,
  ports: readonly PlannedPort[],
  urls: Record<ServiceName, string>,
): Record<string, string> {
  const { prefix, bareNames = [] } = shapes[name]
  const env: Record<string, string> = {}
  const isOn = (other: ServiceName) => o.only.includes(other)
  for (const [key, value] of Object.entries(o.env)) {
    if (value === undefined) continue
    if (systemNames.test(key)) env[key] = value
    if (bareNames.includes(key)) env[prefix + key] ??= value
  }
  // Prefixed names after the bare ones, so that they win.
  for (const [key, value] of Object.entries(o.env)) {
    if (value !== undefined && (key.startsWith(prefix) || key.startsWith(`UNKEY_${prefix}`))) env[key] = value
  }
  for (const { port, variable } of ports)
    env[variable] = name === 'metrics-collector' ? (o.env[variable] ?? `127.0.0.1:${port}`) : String(port)
  Object.assign(env, {
    PURSER_SUPERVISED: 'true',
    PURSER_DATA_DIR: o.dataDir,
    PURSER_SECRET_FILE: join(o.dataDir, 'secret'),
    LOG_LEVEL: o.env.LOG_LEVEL ?? 'info',
    LOG_FORMAT: 'json',
    // Stripped sources are kept between starts: without this every process loads the TypeScript stripper, 16 MiB that
    // stay resident, and starts later.
    NODE_COMPILE_CACHE: join(o.dataDir, 'compile-cache'),
  })
  if (name === 'metrics-collector') {
    env.METRICS_COLLECTOR_CONFIG ??= collectorConfigPath(o.dataDir)
    return env
  }
  if (name === 'builderd') env.UNKEY_BUILDERD_LOCAL_SOURCES_DIR ??= localSourcesDir(o.dataDir)
  if (name === 'log-ingestion' && !Object.keys(env).some(key => key.endsWith('BATCH_FLUSH_INTERVAL')))
    env.LOG_INGESTION_BATCH_FLUSH_INTERVAL = flushInterval
  env.PURSER_DATABASE_URL = o.databaseUrl
  if (isOn('billaged')) env.PURSER_BILLAGED_URL = urls.billaged
  if (isOn('log-ingestion')) env.PURSER_LOGS_URL = urls['log-ingestion']
  if (isOn('builderd')) env.PURSER_BUILDERD_URL = urls.builderd
  if (isOn('budgetguard')) env.PURSER_BUDGETGUARD_URL = urls.budgetguard
  if (isOn('metrics-collector')) env.PURSER_COLLECTORS = urls['metrics-collector']
  return env
}
