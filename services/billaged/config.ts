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
  ratio,
  secret,
  setting,
  text,
  url,
} from '#platform/config'
import { networkProblem } from '#platform/network'

export const spec = defineConfig({
  service: 'billaged',
  prefixes: ['UNKEY_BILLAGED_', 'BILLAGED_'],
  // billaged-cli reads these itself, often from the same environment file.
  alsoKnown: ['USER_ID', 'TENANT_ID', 'KEY'].flatMap(name => [`UNKEY_BILLAGED_${name}`, `BILLAGED_${name}`]),
  settings: {
    port: setting(port, { env: 'PORT', default: '8081', doc: 'TCP port of the RPCs and the HTTP API.' }),
    address: setting(host, { env: 'ADDRESS', default: '0.0.0.0', doc: 'Address to listen on.' }),
    aggregationIntervalMs: setting(duration, {
      env: 'AGGREGATION_INTERVAL',
      default: '60s',
      doc: 'How often a usage summary is logged, active VMs are counted, budgets are watched and periods looked at for closing.',
    }),
    isOtelEnabled: setting(bool, {
      env: 'OTEL_ENABLED',
      default: 'false',
      doc: 'Send traces over OTLP. Prometheus metrics do not depend on it.',
    }),
    otelServiceName: setting(text, { env: 'OTEL_SERVICE_NAME', default: 'billaged', doc: 'Resource attribute.' }),
    otelServiceVersion: setting(text, {
      env: 'OTEL_SERVICE_VERSION',
      doc: 'Resource attribute; the build’s version unless set.',
    }),
    otelSamplingRate: setting(ratio, {
      env: 'OTEL_SAMPLING_RATE',
      default: '1.0',
      doc: 'Share of traces that are kept, 0 to 1.',
    }),
    otelEndpoint: setting(text, {
      env: 'OTEL_ENDPOINT',
      default: 'localhost:4318',
      doc: 'OTLP over HTTP: host:port or a URL.',
    }),
    isPrometheusEnabled: setting(bool, {
      env: 'OTEL_PROMETHEUS_ENABLED',
      default: 'true',
      doc: 'False removes /metrics from both ports and keeps /health.',
    }),
    prometheusPort: setting(port, {
      env: 'OTEL_PROMETHEUS_PORT',
      default: '9465',
      doc: 'Port of /metrics and /health.',
    }),
    prometheusInterface: setting(host, {
      env: 'OTEL_PROMETHEUS_INTERFACE',
      default: '0.0.0.0',
      doc: 'Address of the metrics port.',
    }),
    isHighCardinality: setting(bool, {
      env: 'OTEL_HIGH_CARDINALITY_ENABLED',
      default: 'false',
      doc: 'Adds the labels vm_id, customer_id and tenant_id to counters of samples and batches.',
    }),
    tlsMode: setting(oneOf('disabled', 'file', 'spiffe'), {
      env: 'TLS_MODE',
      default: 'disabled',
      doc: '`file` serves TLS 1.3 from the files below; a CA file demands client certificates. `spiffe` takes its certificate from the Workload API and demands one of the same trust domain.',
    }),
    isTlsEnabled: setting(bool, { env: 'TLS_ENABLED', default: 'false', doc: 'True means TLS_MODE=file.' }),
    tlsCertFile: setting(text, { env: 'TLS_CERT_FILE', doc: 'PEM certificate chain.' }),
    tlsKeyFile: setting(text, { env: 'TLS_KEY_FILE', doc: 'PEM private key.' }),
    tlsCaFile: setting(text, { env: 'TLS_CA_FILE', doc: 'PEM CA that must have signed client certificates.' }),
    spiffeSocket: setting(text, {
      env: 'SPIFFE_SOCKET',
      default: '/var/lib/spire/agent/agent.sock',
      doc: 'Workload API socket, for TLS_MODE=spiffe: a path, or unix:///path.',
    }),
    databaseUrl: setting(url, {
      env: 'DATABASE_URL',
      bare: ['DATABASE_URL'],
      doc: 'PostgreSQL 15 or later. Unset: PURSER_DATABASE_URL, and without that an embedded server.',
    }),
    apiKey: setting(secret, {
      env: 'API_KEY',
      doc: 'Operator key for /v1 and events. Unset: generated into admin.key in the data folder.',
    }),
    billagedDataDir: setting(text, {
      env: 'DATA_DIR',
      doc: 'Folder of the journal. Unset: /var/lib/billaged when writable, else billaged in PURSER_DATA_DIR.',
    }),
    ack: setting(oneOf('journal', 'database'), {
      env: 'ACK',
      default: 'journal',
      doc: 'What a success reply waits for: the journal’s fdatasync, or the database’s commit for throw-away disks.',
    }),
    ingestAuth: setting(oneOf('guide', 'tenant', 'strict'), {
      env: 'INGEST_AUTH',
      default: 'guide',
      doc: 'Proof asked of senders: none beyond the guide’s, X-Tenant-ID everywhere, or a key that may act for the customer.',
    }),
    journalBytesMax: setting(bytes, {
      env: 'JOURNAL_MAX_BYTES',
      default: '4GiB',
      doc: 'Most that waits for the database; then senders get 503 and nothing is dropped.',
    }),
    maxFutureMs: setting(duration, {
      env: 'MAX_FUTURE',
      default: '5m',
      doc: 'Samples, notices and events further ahead are set aside.',
    }),
    maxPastMs: setting(duration, {
      env: 'MAX_PAST',
      default: '2400h',
      doc: 'Samples, notices and events older than this are set aside.',
    }),
    rateLimitSamples: setting(count, {
      env: 'RATE_LIMIT_SAMPLES',
      default: '0',
      doc: 'Samples a second per customer, above: 429. 0: off.',
    }),
    heartbeatLeaseMs: setting(duration, {
      env: 'HEARTBEAT_LEASE',
      default: '2m',
      doc: 'How long a heartbeat vouches for the VMs it lists.',
    }),
    minGapMs: setting(duration, { env: 'MIN_GAP', default: '2m', doc: 'No spacing of readings up to this is a gap.' }),
    maxGapCapMs: setting(duration, { env: 'MAX_GAP_CAP', default: '1h', doc: 'Every longer spacing is a gap.' }),
    maxVcpus: setting(count, {
      env: 'MAX_VCPUS',
      default: '512',
      doc: 'A count from zero is believed up to this many cores since the start notice.',
    }),
    closeGraceMs: setting(duration, {
      env: 'CLOSE_GRACE',
      default: '24h',
      doc: 'How long after its end a period with nothing in the way closes by itself.',
    }),
    sellerName: setting(text, {
      env: 'SELLER_NAME',
      default: 'Purser',
      doc: 'Who issues the invoices: printed on them and in exports.',
    }),
    sellerAddress: setting(text, {
      env: 'SELLER_ADDRESS',
      doc: 'Printed under the seller’s name; lines are separated by |.',
    }),
    sellerTaxId: setting(text, { env: 'SELLER_TAX_ID', doc: 'The seller’s tax number, printed on invoices.' }),
    paymentTerms: setting(text, {
      env: 'PAYMENT_TERMS',
      doc: 'A sentence on every invoice: how and until when it is to be paid.',
    }),
    invoiceFonts: setting(list, {
      env: 'INVOICE_FONTS',
      default: '',
      doc: 'Files of fonts (TTF, OTF, or FILE.ttc#NAME), best first, in which PDFs print what DejaVu Sans lacks: Chinese, Japanese, Korean, emoji. Letters that none has print as ▯, with a note.',
    }),
    retentionSamplesMs: setting(duration, {
      env: 'RETENTION_SAMPLES',
      default: '840h',
      doc: 'How long samples are kept after the close of the last period they touch. Usage by the hour stays.',
    }),
    retentionUsageMs: setting(duration, {
      env: 'RETENTION_USAGE',
      default: '9600h',
      doc: 'How long usage by the hour, events and VMs that were stopped are kept; at least while a coming invoice may correct them, 400 days.',
    }),
    webhookDeny: setting(list, {
      env: 'WEBHOOK_DENY',
      default: '169.254.0.0/16,fe80::/10,fd00:ec2::254,100.100.100.200',
      doc: 'Networks that webhooks may never reach: link-local ones and the metadata services of clouds.',
    }),
    webhookAllow: setting(list, {
      env: 'WEBHOOK_ALLOW',
      default: '',
      doc: 'Private networks that webhooks of tenants’ own keys may reach; without it they reach the internet alone. An operator’s reach all but WEBHOOK_DENY.',
    }),
    serverAddress: setting(text, {
      env: 'SERVER_ADDRESS',
      doc: 'Where the admin verbs and billaged-cli find the service, host:port or a URL; -server wins. Unset: ADDRESS and PORT.',
    }),
    stripeApiKey: setting(secret, {
      env: 'STRIPE_API_KEY',
      doc: 'Brings closed invoices, or usage, of customers with a Stripe id to Stripe. Unset: off.',
    }),
    stripeApiBase: setting(url, {
      env: 'STRIPE_API_BASE',
      doc: 'Where Stripe’s API is, when not at https://api.stripe.com.',
    }),
    stripeMode: setting(oneOf('invoices', 'meters'), {
      env: 'STRIPE_MODE',
      doc: '`invoices` brings each invoice as it is (the default); `meters` posts totals to Stripe meters named like ours, which must take the last value.',
    }),
    stripeWebhookSecret: setting(secret, {
      env: 'STRIPE_WEBHOOK_SECRET',
      doc: 'Checks the notices that Stripe posts to /v1/stripe/webhook. Unset: none are taken.',
    }),
  },
  check(values) {
    const problems = []
    const isFile = values.tlsMode === 'file' || (values.isTlsEnabled && values.tlsMode !== 'spiffe')
    if (isFile && (values.tlsCertFile === undefined || values.tlsKeyFile === undefined))
      problems.push({
        name: 'BILLAGED_TLS_MODE',
        value: 'file',
        problem:
          'needs BILLAGED_TLS_CERT_FILE and BILLAGED_TLS_KEY_FILE; without them we would have to serve plain HTTP',
      })
    // A setting that promises something must not be taken silently while the promise is not kept.
    const missing: [string, boolean, string][] = [
      ['BILLAGED_AGGREGATION_INTERVAL', values.aggregationIntervalMs <= 0, 'must be longer than 0, such as 60s'],
      ['BILLAGED_HEARTBEAT_LEASE', values.heartbeatLeaseMs <= 0, 'must be longer than 0, such as 2m'],
      ['BILLAGED_MAX_VCPUS', values.maxVcpus < 1, 'must be at least 1'],
      ['BILLAGED_MAX_GAP_CAP', values.maxGapCapMs < values.minGapMs, 'must not be shorter than BILLAGED_MIN_GAP'],
    ]
    for (const [name, value] of [
      ['BILLAGED_STRIPE_API_BASE', values.stripeApiBase],
      ['BILLAGED_STRIPE_MODE', values.stripeMode],
      ['BILLAGED_STRIPE_WEBHOOK_SECRET', values.stripeWebhookSecret],
    ] as const)
      if (value !== undefined && values.stripeApiKey === undefined)
        problems.push({ name, problem: 'does nothing without BILLAGED_STRIPE_API_KEY; set that, or unset this' })
    for (const [name, networks] of [
      ['BILLAGED_WEBHOOK_DENY', values.webhookDeny],
      ['BILLAGED_WEBHOOK_ALLOW', values.webhookAllow],
    ] as const)
      for (const network of networks) {
        const problem = networkProblem(network)
        if (problem !== undefined) problems.push({ name, value: network, problem })
      }
    for (const [name, isWrong, problem] of missing) if (isWrong) problems.push({ name, problem })
    return problems
  },
})

export type Config = ConfigOf<typeof spec>
