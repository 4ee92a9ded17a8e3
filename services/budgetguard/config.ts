// Everything that can be set. The guide's bare names are read after the prefixed ones.

import {
  bool,
  bytes,
  count,
  defineConfig,
  duration,
  host,
  list,
  oneOf,
  port,
  secret,
  setting,
  type Type,
  text,
  url,
} from '#platform/config'
import { formatUsd, type NanoUsd, parseUsd } from '#platform/money'
import { dayOf, isZone, periods } from './window.ts'

/** A USD amount, or `none`. */
const usdOrNone: Type<NanoUsd | null> = {
  form: 'USD, or none',
  parse: value => {
    if (value.trim() === 'none') return null
    try {
      return parseUsd(value.trim())
    } catch (error) {
      throw new Error(`must be USD such as 50 or 12.50, or none: ${error instanceof Error ? error.message : ''}`)
    }
  },
  print: value => (value === null ? 'none' : formatUsd(value)),
  redact: value => value.slice(0, 80),
  isSecret: false,
}

/** `deny`, or nano-dollars per 1 M input and output tokens. */
const unknownPrice: Type<{ input: NanoUsd; output: NanoUsd } | 'deny'> = {
  form: 'deny, or fallback:<in>/<out> USD per 1 M tokens',
  parse: value => {
    if (value.trim() === 'deny') return 'deny'
    const match = /^fallback:([^/]+)\/([^/]+)$/.exec(value.trim())
    if (!match) throw new Error('must be deny, or fallback:<in>/<out> such as fallback:5/15')
    return { input: parseUsd(match[1] ?? ''), output: parseUsd(match[2] ?? '') }
  },
  print: value => (value === 'deny' ? 'deny' : `fallback:${formatUsd(value.input)}/${formatUsd(value.output)}`),
  redact: value => value.slice(0, 80),
  isSecret: false,
}

const zone: Type<string> = {
  ...text,
  form: 'IANA zone',
  parse: value => {
    if (!isZone(value.trim())) throw new Error('must be an IANA time zone such as UTC or Europe/Berlin')
    return value.trim()
  },
}

const day: Type<string> = {
  ...text,
  form: 'date',
  parse: value => {
    dayOf(value.trim(), 'UTC')
    return value.trim()
  },
}

/** Prefixed and bare, as the guide and the platform want it. */
const guide = (...names: readonly [string, ...string[]]) => ({ env: names, bare: names })

export const spec = defineConfig({
  service: 'budgetguard',
  prefixes: ['BUDGETGUARD_'],
  file: { format: 'env', paths: ['.env'] },
  settings: {
    port: setting(port, { ...guide('PORT'), default: '3000', doc: 'TCP port of data plane, admin API and console.' }),
    host: setting(host, { ...guide('HOST'), default: '0.0.0.0', doc: 'Address to listen on.' }),
    nodeEnv: setting(text, {
      ...guide('NODE_ENV'),
      doc: '`production` closes the admin API unless ADMIN_API_KEY is set, and hides the echo models.',
    }),
    databaseUrl: setting(url, {
      ...guide('DATABASE_URL'),
      doc: 'PostgreSQL; none: PURSER_DATABASE_URL, else embedded.',
    }),
    redisUrl: setting(secret, { ...guide('REDIS_URL'), doc: 'Not used by this release: limits are kept per process.' }),
    adminApiKey: setting(secret, {
      ...guide('ADMIN_API_KEY'),
      doc: 'Admin key. Unset outside production: generated once into the data folder.',
    }),
    openaiKey: setting(secret, {
      ...guide('OPENAI_KEY', 'OPENAI_API_KEY'),
      doc: 'OpenAI key for calls that bring none of their own.',
    }),
    anthropicKey: setting(secret, {
      ...guide('ANTHROPIC_API_KEY'),
      doc: 'Anthropic key; its dialect is not served by this release.',
    }),
    googleKey: setting(secret, {
      ...guide('GOOGLE_API_KEY', 'GEMINI_API_KEY'),
      doc: 'Google key; its dialect is not served by this release.',
    }),
    openaiBaseUrl: setting(url, {
      ...guide('OPENAI_BASE_URL'),
      default: 'https://api.openai.com/v1',
      doc: 'Base URL of OpenAI or anything compatible.',
    }),
    anthropicBaseUrl: setting(url, {
      ...guide('ANTHROPIC_BASE_URL'),
      default: 'https://api.anthropic.com',
      doc: 'Base URL of Anthropic.',
    }),
    googleBaseUrl: setting(url, {
      ...guide('GOOGLE_BASE_URL'),
      default: 'https://generativelanguage.googleapis.com',
      doc: 'Base URL of Google.',
    }),
    requestsPerMinute: setting(count.between(0, 1_000_000), {
      ...guide('MAX_REQS_PER_MIN'),
      default: '100',
      doc: 'Requests per minute stored on new tenants; 0 is unlimited.',
    }),
    defaultBudget: setting(usdOrNone, {
      ...guide('DEFAULT_BUDGET_USD', 'MAX_MONTHLY_USD'),
      default: '50',
      doc: 'Implicit budget of each tenant for each period in BUDGET_PERIODS; none: no implicit budget; 0 blocks.',
    }),
    budgetPeriods: setting(list, {
      ...guide('BUDGET_PERIODS', 'BUDGET_PERIOD'),
      default: 'monthly',
      doc: 'Periods that get an implicit budget: daily, weekly, monthly, custom.',
    }),
    dailyBudget: setting(usdOrNone, { ...guide('BUDGET_DAILY_USD'), doc: 'Implicit daily budget.' }),
    weeklyBudget: setting(usdOrNone, { ...guide('BUDGET_WEEKLY_USD'), doc: 'Implicit weekly budget.' }),
    monthlyBudget: setting(usdOrNone, { ...guide('BUDGET_MONTHLY_USD'), doc: 'Implicit monthly budget.' }),
    customBudget: setting(usdOrNone, { ...guide('BUDGET_CUSTOM_USD'), doc: 'Implicit budget of the custom window.' }),
    customStart: setting(day, { ...guide('BUDGET_START_DATE'), doc: 'First day of the implicit custom window.' }),
    customEnd: setting(day, { ...guide('BUDGET_END_DATE'), doc: 'Last day of it, included.' }),
    opaPolicyPath: setting(text, {
      ...guide('OPA_POLICY_PATH'),
      doc: 'Policy bundle; policies are not evaluated by this release.',
    }),
    defaultTenant: setting(text, { ...guide('DEFAULT_TENANT'), default: 'public', doc: 'Tenant that `seed` makes.' }),
    defaultApiKey: setting(secret, { ...guide('DEFAULT_API_KEY'), doc: 'Its key, 64 hex digits; random when unset.' }),
    otlpEndpoint: setting(url, { ...guide('OTEL_EXPORTER_OTLP_ENDPOINT'), doc: 'Traces over OTLP/HTTP.' }),
    configFile: setting(text, { env: 'CONFIG', doc: 'YAML of providers, routes and rules; not read by this release.' }),
    bodyLimit: setting(bytes.between(1_024, 1024 ** 3), {
      env: 'BODY_LIMIT',
      default: '32MiB',
      doc: 'Largest data-plane body after decompression.',
    }),
    timezone: setting(zone, { env: 'TIMEZONE', default: 'UTC', doc: 'Zone of tenants that set none.' }),
    defaultMaxOutputTokens: setting(count.between(1, 10_000_000), {
      env: 'DEFAULT_MAX_OUTPUT_TOKENS',
      default: '16384',
      doc: 'Output limit of a call that names none.',
    }),
    unknownPrice: setting(unknownPrice, {
      env: 'UNKNOWN_PRICE',
      default: 'deny',
      doc: 'What a model without a price costs.',
    }),
    orphanSettle: setting(oneOf('hold', 'estimate', 'release'), {
      env: 'ORPHAN_SETTLE',
      default: 'hold',
      doc: 'How a hold whose process died is booked: whole, input plus half the output bound, or nothing.',
    }),
    onDisconnect: setting(oneOf('abort', 'drain'), {
      env: 'ON_DISCONNECT',
      default: 'abort',
      doc: 'When the caller goes away: cancel upstream, or read it to its end.',
    }),
    requestTimeoutMs: setting(duration.between(1_000, 24 * 3_600_000), {
      env: 'REQUEST_TIMEOUT',
      default: '10m',
      doc: 'Whole call.',
    }),
    firstByteTimeoutMs: setting(duration.between(100, 3_600_000), {
      env: 'FIRST_BYTE_TIMEOUT',
      default: '2m',
      doc: 'To the upstream’s headers.',
    }),
    idleTimeoutMs: setting(duration.between(100, 3_600_000), {
      env: 'IDLE_TIMEOUT',
      default: '2m',
      doc: 'Between two chunks of the upstream.',
    }),
    drainTimeoutMs: setting(duration.between(0, 600_000), {
      env: 'DRAIN_TIMEOUT',
      default: '30s',
      doc: 'How long calls may finish at shutdown.',
    }),
    journalBytes: setting(bytes.between(1024 ** 2, 1024 ** 5), {
      env: 'JOURNAL_BYTES',
      default: '1GiB',
      doc: 'Local journal; full means 503 before anything is sent.',
    }),
    readyDb: setting(oneOf('strict', 'lease'), {
      env: 'READY_DB',
      default: 'strict',
      doc: 'strict: not ready 5 s after Postgres went away; lease: ready while slices last.',
    }),
    trustProxy: setting(list, {
      env: 'TRUST_PROXY',
      default: 'loopback',
      doc: 'CIDRs whose X-Forwarded-For is believed.',
    }),
    corsOrigins: setting(list, { env: 'CORS_ORIGINS', default: '', doc: 'Allowed origins of the data plane.' }),
    viteApiBaseUrl: setting(text, {
      bare: ['VITE_API_BASE_URL'],
      doc: 'Accepted; the console is served from the same origin.',
    }),
    viteAppTitle: setting(text, { bare: ['VITE_APP_TITLE'], doc: 'Title of the console.' }),
    lostLease: setting(oneOf('charge', 'release'), {
      env: 'LOST_LEASE',
      default: 'charge',
      doc: 'What becomes of a slice whose process never came back. This release keeps it frozen: it stays unspendable until that process is started again.',
    }),
    workerPort: setting(port, {
      env: 'WORKER_PORT',
      default: '3002',
      doc: 'Port of a separate worker; this release works inside the one process.',
    }),
    cacheBytes: setting(bytes, { env: 'CACHE_BYTES', default: '64MiB', doc: 'Response cache; not in this release.' }),
    ledgerRetentionMs: setting(duration, {
      env: 'LEDGER_RETENTION',
      default: '9600h',
      doc: 'How long ledger rows stay; this release keeps them for ever.',
    }),
    webhookAllowPrivate: setting(bool, {
      env: 'WEBHOOK_ALLOW_PRIVATE',
      default: 'false',
      doc: 'Webhooks to private addresses; no webhooks in this release.',
    }),
    oidcIssuer: setting(url, { env: 'OIDC_ISSUER', doc: 'Console sign-in by OIDC; not in this release.' }),
    oidcClientId: setting(text, { env: 'OIDC_CLIENT_ID', doc: 'See OIDC_ISSUER.' }),
    oidcClientSecret: setting(secret, { env: 'OIDC_CLIENT_SECRET', doc: 'See OIDC_ISSUER.' }),
    oidcRoleClaim: setting(text, { env: 'OIDC_ROLE_CLAIM', doc: 'See OIDC_ISSUER.' }),
  },
  check: values => {
    const problems: { name: string; value?: string; problem: string }[] = []
    for (const period of values.budgetPeriods) {
      if (!periods.some(known => known === period))
        problems.push({ name: 'BUDGET_PERIODS', value: period, problem: `must list only ${periods.join(', ')}` })
    }
    if (values.budgetPeriods.includes('custom') && (values.customStart === undefined || values.customEnd === undefined))
      problems.push({
        name: 'BUDGET_PERIODS',
        value: 'custom',
        problem: 'needs BUDGET_START_DATE and BUDGET_END_DATE',
      })
    if (values.customStart !== undefined && values.customEnd !== undefined && values.customEnd < values.customStart)
      problems.push({
        name: 'BUDGET_END_DATE',
        value: values.customEnd,
        problem: `must not be before BUDGET_START_DATE (${values.customStart})`,
      })
    if (values.configFile !== undefined)
      problems.push({
        name: 'BUDGETGUARD_CONFIG',
        value: values.configFile,
        problem: 'is not read by this release; routes and rules would silently not apply. Unset it',
      })
    if (values.oidcIssuer !== undefined)
      problems.push({
        name: 'BUDGETGUARD_OIDC_ISSUER',
        value: values.oidcIssuer,
        problem: 'is not served by this release; the console signs in with the admin key. Unset it',
      })
    return problems
  },
})

export type Config = import('#platform/config').ConfigOf<typeof spec>
