import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatConfigProblems, loadConfig, printConfig } from './config.ts'
import { starterConfig } from './starter-config.ts'

const load = (text: string, env: Record<string, string> = {}) =>
  loadConfig({ env, file: { path: 'config.yaml', text } })

const problemsOf = (text: string, env: Record<string, string> = {}) => {
  const loaded = load(text, env)
  assert.ok(!loaded.ok, 'the configuration was accepted')
  return formatConfigProblems(loaded.problems).split('\n')
}

const configOf = (text: string, env: Record<string, string> = {}) => {
  const loaded = load(text, env)
  assert.ok(loaded.ok, loaded.ok ? '' : formatConfigProblems(loaded.problems))
  return loaded.config
}

const flat = `
device_id: "device-001"
collection_interval: 10s
upload_interval: 1m
health: { listen_addr: ":9100" }
collectors: { cpu: { interval: 5s }, thermal: { enabled: false } }
`
const nested = `
device: { id: device-001 }
collection_interval: 10s
remote: { upload_interval: 1m }
monitoring: { health_address: ":9100" }
metrics:
  - { name: cpu.usage, interval: 5s }
  - { name: cpu.temperature, enabled: false }
`

test('the flat and the nested spelling say the same', () => {
  assert.equal(printConfig(configOf(nested)), printConfig(configOf(flat)))
  const config = configOf(flat)
  assert.deepEqual(config.listen, { host: '', port: 9_100 })
  assert.equal(config.intervalsMs.get('cpu'), 5_000)
  assert.equal(config.intervalsMs.get('memory'), 10_000)
  assert.equal(config.intervalsMs.has('thermal'), false)
})

test('one setting given twice with different values is refused, with the same value it is fine', () => {
  const [line] = problemsOf('device_id: a\ndevice: { id: b }')
  assert.match(
    line ?? '',
    /^config\.yaml:2:15 device\.id: says something else than config\.yaml:1:12 device_id \(got "b"\)/,
  )
  configOf('device_id: a\ndevice: { id: a }')
})

test('every problem is reported at once, each with its place, its value and a mend', () => {
  const lines = problemsOf(
    `device_id: "\\u0007"
collection_interval: 30
remote: { timout: 3s, batch_size: 0, retry: { jitter_percent: 101 } }
disk: { allowed_devices: "([" }
storage: { thin: true }
`,
    { METRICS_COLLECTOR_REMOTE__TIMEUT: '3s', METRICS_COLLECTOR_HEALTH__LISTEN_ADDR: 'nowhere' },
  )
  const wanted = [
    /^METRICS_COLLECTOR_REMOTE__TIMEUT: is not a setting\. Mend: did you mean METRICS_COLLECTOR_REMOTE__TIMEOUT\?$/,
    /^config\.yaml:1:12 device_id: .*1–128 printable/,
    /^config\.yaml:2:22 collection_interval: .*no unit.*\(got "30"\)\. Mend: write duration/,
    /^config\.yaml:3:35 remote\.batch_size: .*\(got "0"\)/,
    /^config\.yaml:3:63 remote\.retry\.jitter_percent: .*\(got "101"\)/,
    /^METRICS_COLLECTOR_HEALTH__LISTEN_ADDR: must be host:port/,
    /^config\.yaml:4:26 disk\.allowed_devices: .*regular expression/,
    /^config\.yaml:5:18 storage\.thin: asks for something this version does not have yet/,
    /^config\.yaml:3:19 remote\.timout: is not a known key\. Mend: did you mean remote\.timeout\?$/,
  ]
  for (const pattern of wanted)
    assert.ok(
      lines.some(line => pattern.test(line)),
      `${pattern} not in\n${lines.join('\n')}`,
    )
  assert.equal(lines.length, wanted.length)
})

test('YAML that says a key twice, is cut short or feeds on itself is refused with line and column', () => {
  assert.match(problemsOf('device_id: a\ndevice_id: b')[0] ?? '', /^config\.yaml:2:1: Map keys must be unique/)
  assert.match(problemsOf('device_id: "a')[0] ?? '', /^config\.yaml:1:\d+: /)
  problemsOf('device_id: &a [*a]')
  problemsOf('- device_id')
  problemsOf(
    `device_id: x\n${Array.from(
      { length: 12 },
      (_, i) =>
        `a${i}: &a${i} [${
          i === 0
            ? 'x'
            : Array(9)
                .fill(`*a${i - 1}`)
                .join(', ')
        }]`,
    ).join('\n')}`,
  )
})

test('the environment beats the file, in either spelling, and the platform’s variables are weaker than both', () => {
  const config = configOf('device_id: file\nlogging: { level: warn }', {
    METRICS_COLLECTOR_DEVICE__ID: 'env',
    METRICS_COLLECTOR_STORAGE__MAX_BYTES: '64MiB',
    METRICS_COLLECTOR_COLLECTORS__DISK__INTERVAL: '2m',
    LOG_LEVEL: 'debug',
    LOG_FORMAT: 'pretty',
  })
  assert.equal(config.deviceId, 'env')
  assert.equal(config.storageBytesMax, 64 * 1024 * 1024)
  assert.equal(config.intervalsMs.get('disk'), 120_000)
  assert.equal(config.logLevel, 'warn')
  assert.equal(config.logFormat, 'console')
})

test('a device id that looks like a number stays as it was written', () => {
  assert.equal(configOf('device_id: 007').deviceId, '007')
})

test('secrets are not printed, and rules across keys are checked', () => {
  const text = printConfig(
    configOf('device_id: a\nremote: { url: "https://m.example/api/v1/import", auth_token: hunter2 }'),
  )
  assert.ok(!text.includes('hunter2') && text.includes('remote.auth_token: ***'))
  assert.match(problemsOf('device_id: a\nremote: { enabled: true }')[0] ?? '', /there is no URL/)
  assert.match(problemsOf('device_id: a\nremote: { auth_token: hunter2, auth_token_file: /x }')[0] ?? '', /both given/)
  assert.match(
    problemsOf('device_id: a\nremote: { batch_size: 10, chunk_size: 11 }')[0] ?? '',
    /larger than remote\.batch_size/,
  )
  for (const line of problemsOf('device_id: a\nremote: { auth_token: [hunter2] }')) assert.ok(!line.includes('hunter2'))
})

test('what the printed configuration says can be loaded again', () => {
  const once = printConfig(configOf(`${flat}external_labels: { site: berlin }`))
  assert.equal(printConfig(configOf(once)), once)
})

test('a source nobody knows is skipped with a warning, as the guide promises', () => {
  const { warnings } = configOf('device_id: a\nmetrics: [{ name: srt.packet_loss }]')
  assert.match(warnings.join(), /no such source "srt\.packet_loss", skipped/)
})

test('the configuration npm start writes is accepted, also for host names and folders of odd spelling', () => {
  const config = configOf(
    starterConfig({ deviceId: 'vm', dataDir: '/data/metrics-collector/', listenAddr: '127.0.0.1:9100' }),
  )
  assert.equal(config.storagePath, '/data/metrics-collector/metrics.db')
  const text = fc.string({ minLength: 1, maxLength: 40 }).filter(s => /^(?=.*\S)[^\p{C}]+$/u.test(s))
  fc.assert(
    fc.property(text, text, (deviceId, folder) => {
      const loaded = configOf(starterConfig({ deviceId, dataDir: `/d/${folder}`, listenAddr: '' }))
      assert.equal(loaded.deviceId, deviceId)
      assert.equal(loaded.listen.port, 9_100)
    }),
  )
})

const guide = `
device_id: "device-001"  # Unique identifier for this device
collection_interval: 30s
upload_interval: 1m
remote:
  url: "https://metrics.example.com/api/v1/import"
  auth_token_file: /etc/belabox-metrics/api-token  # Optional
  timeout: 30s
  batch_size: 2500
  chunk_size: 50
  retry:
    enabled: true
    max_attempts: 3
    initial_backoff: 1s
    max_backoff: 30s
    backoff_multiplier: 2.0
    jitter_percent: 20
storage:
  path: /var/lib/belabox-metrics/metrics.db
  wal_checkpoint_interval: 1h
  wal_checkpoint_size_mb: 64
health:
  listen_addr: ":9100"
monitoring:
  clock_skew_check_interval: 5m
  clock_skew_warn_threshold_ms: 2000
  clock_skew_url: "https://metrics.example.com"
logging:
  level: info
  format: json
network:
  max_interfaces: 32
disk:
  allowed_devices: "^(sd[a-z]|nvme[0-9]+n[0-9]+|vd[a-z])$"
`

test('the guide’s configuration and both of its tuning profiles load as they are written', () => {
  const config = configOf(guide)
  assert.deepEqual(
    [config.remoteBatchSize, config.remoteChunkSize, config.uploadIntervalMs, config.retryBackoffMultiplier],
    [2_500, 50, 60_000, 2],
  )
  const large = configOf(
    'device_id: a\nremote: { batch_size: 5000, chunk_size: 100 }\ncollection_interval: 60s\nupload_interval: 2m',
  )
  assert.deepEqual([large.remoteChunkSize, large.uploadIntervalMs], [100, 120_000])
  const small = configOf(
    'device_id: a\nremote: { batch_size: 1000, chunk_size: 25 }\nupload_interval: 30s\nnetwork: { max_interfaces: 16 }',
  )
  assert.deepEqual([small.remoteBatchSize, small.interfacesMax], [1_000, 16])
})

test('arbitrary text is a configuration or a list of problems, never a crash', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 200 }), text => void load(text)))
})
