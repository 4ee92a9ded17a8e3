// The deployment guide, walked: what runs here is run as it stands there, the rest is checked against its schema.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, lstatSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { loadConfig } from '#platform/config'
import { databaseUrlOf, spec } from '../config.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const deploy = join(root, 'deploy')
const guideRoot = join(deploy, 'guides/log-ingestion')
const has = (program: string) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0

test('the systemd path of the guide works from top to bottom: migrations, unit, reload, update, backup, restore', {
  skip: whyNotWalked(),
  timeout: 290_000,
}, () => {
  const walk = fileURLToPath(new URL('./guide/walk.sh', import.meta.url))
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    ['--mount', '--net', '--pid', '--fork', '--mount-proc', '--kill-child', walk, root],
    { encoding: 'utf8', env: { PATH: process.env.PATH, LANG: 'C.UTF-8' }, timeout: 280_000 },
  )
  assert.equal(status, 0, `${stdout.slice(-3_000)}\n${stderr.slice(-3_000)}`)
  assert.match(stdout, /=== done\n$/)
})

function whyNotWalked(): string | false {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'walking the guide needs Linux and root'
  if (!existsSync('/usr/lib/postgresql')) return 'Debian’s PostgreSQL is not installed'
  const probe = spawnSync('unshare', [
    '--mount',
    '--net',
    '--pid',
    '--fork',
    '--mount-proc',
    'mount',
    '-t',
    'tmpfs',
    'none',
    '/opt',
  ])
  return probe.status === 0 ? false : 'namespaces with mounts of their own are not allowed here'
}

test('the unit passes systemd-analyze verify and security, and its two copies are one', {
  skip: !has('systemd-analyze') && 'systemd-analyze is not installed',
}, () => {
  const unit = join(deploy, 'log-ingestion.service')
  assert.equal(readFileSync(unit, 'utf8'), readFileSync(join(deploy, 'systemd/log-ingestion.service'), 'utf8'))
  const dir = mkdtempSync(join(tmpdir(), 'purser-unit-'))
  try {
    // The program is not installed here; everything else is judged as it stands.
    const copy = join(dir, 'log-ingestion.service')
    writeFileSync(copy, readFileSync(unit, 'utf8').replace('/opt/log-ingestion/bin/server', '/bin/true'))
    const verify = spawnSync('systemd-analyze', ['verify', '--man=no', copy], { encoding: 'utf8' })
    assert.deepEqual([verify.status, verify.stderr], [0, ''])
    const security = spawnSync('systemd-analyze', ['security', '--offline=true', '--threshold=25', copy], {
      encoding: 'utf8',
    })
    assert.equal(security.status, 0, security.stdout.slice(-200))
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('the unit says what the guide says of it', () => {
  const lines = readFileSync(join(deploy, 'log-ingestion.service'), 'utf8').split('\n')
  for (const line of [
    'User=log-ingestion',
    'Group=log-ingestion',
    'WorkingDirectory=/opt/log-ingestion',
    'ExecStart=/opt/log-ingestion/bin/server',
    'ExecReload=/bin/kill -HUP $MAINPID',
    'Restart=on-failure',
    'RestartSec=5s',
    'TimeoutStopSec=30s',
    'EnvironmentFile=-/etc/log-ingestion/env.conf',
    'Environment=LOG_INGESTION_ENV_FILE=/etc/log-ingestion/env.conf',
    'NoNewPrivileges=true',
    'PrivateTmp=true',
    'ProtectSystem=strict',
    'ProtectHome=true',
    'ReadWritePaths=/opt/log-ingestion',
    'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6',
    'SystemCallFilter=@system-service',
    'LimitNOFILE=65536',
    'LimitNPROC=4096',
    'MemoryMax=1G',
    'CPUQuota=200%',
    'SyslogIdentifier=log-ingestion',
  ])
    assert.ok(lines.includes(line), line)
  assert.equal(
    lines.some(line => line.startsWith('MemoryDenyWriteExecute')),
    false,
  )
})

test('the environment file and the configuration file of the guide are valid as they stand', () => {
  const guideEnv = readFileSync(fileURLToPath(new URL('./guide/walk.sh', import.meta.url)), 'utf8')
  const envFileText = /tee \/etc\/log-ingestion\/env\.conf > \/dev\/null <<EOF\n(.*?)\nEOF/s.exec(guideEnv)?.[1] ?? ''
  const fromEnv = loadConfig(spec, { env: {}, envFileText })
  assert.ok(fromEnv.ok, JSON.stringify(fromEnv))
  assert.equal(
    databaseUrlOf(fromEnv.config),
    'postgres://log_ingestion:your-secure-password@/logs?host=localhost&port=5432&sslmode=prefer',
  )
  const text = `
server:
  host: "0.0.0.0"
  port: 8080
  read_timeout: "10s"
  write_timeout: "10s"

database:
  host: "localhost"
  port: 5432
  user: "log_ingestion"
  password: "secure-password"
  dbname: "logs"
  sslmode: "require"

batch:
  size: 1000
  flush_interval: "5s"

ratelimit:
  enabled: true
  default_rps: 100
  burst: 200

auth:
  api_keys:
    - "your-api-key-1"
    - "your-api-key-2"
`
  const fromYaml = loadConfig(spec, { env: {}, file: { path: 'config.yaml', text } })
  assert.ok(fromYaml.ok, JSON.stringify(fromYaml))
  assert.deepEqual(fromYaml.config.apiKeys, ['your-api-key-1', 'your-api-key-2'])
  assert.equal(fromYaml.config.batchFlushIntervalMs, 5_000)
})

for (const name of ['docker-compose.prod.yml', 'docker-compose.yml'])
  test(`${name} is what docker-compose takes, from the guide’s root and from its own folder`, t => {
    if (!has('docker-compose')) return t.skip('docker-compose is not installed')
    for (const folder of [guideRoot, join(deploy, 'docker/log-ingestion')]) {
      const env = {
        PATH: process.env.PATH,
        DB_PASSWORD: 'p@ss $word',
        SERVER_PORT: '9999',
        API_KEYS: 'a,b',
        BATCH_SIZE: '7',
      }
      const { status, stdout, stderr } = spawnSync('docker-compose', ['-f', name, 'config'], {
        cwd: folder,
        encoding: 'utf8',
        env,
      })
      assert.equal(status, 0, stderr)
      const stack = parse(stdout) as Compose
      const { app, timescaledb } = stack.services
      assert.equal(timescaledb?.image, 'timescale/timescaledb:latest-pg16')
      assert.equal(timescaledb?.container_name, 'log-ingestion-timescaledb')
      assert.equal(app?.container_name, 'log-ingestion-app')
      assert.deepEqual(app?.depends_on, { timescaledb: { condition: 'service_healthy' } })
      assert.deepEqual(stack.volumes['timescaledb-data'], { name: 'log-ingestion-timescaledb-data' })
      assert.equal(stack.networks['log-ingestion-network']?.name, 'log-ingestion-network')
      assert.match(JSON.stringify(app?.ports), /9999/)
      assert.match(JSON.stringify(app?.ports), /8080/)
      // What the container is given is a configuration that starts.
      const given = Object.fromEntries(
        Object.entries(app?.environment ?? {}).map(([k, v]) => [k, String(v).replaceAll('$$', '$')]),
      )
      const loaded = loadConfig(spec, { env: given })
      assert.ok(loaded.ok, JSON.stringify(loaded))
      assert.equal(loaded.config.batchRows, 7)
      assert.equal(loaded.config.dbPassword, 'p@ss $word')
      assert.equal(loaded.config.serverPort, 8080)
    }
    // The guide's later commands name no env file: they must not fail for want of a password.
    const bare = spawnSync('docker-compose', ['-f', name, 'config', '-q'], {
      cwd: guideRoot,
      env: { PATH: process.env.PATH },
    })
    assert.equal(bare.status, 0)
  })

interface Compose {
  services: Record<
    string,
    {
      image?: string
      container_name?: string
      depends_on?: object
      ports?: unknown
      environment?: Record<string, unknown>
    }
  >
  volumes: Record<string, { name?: string }>
  networks: Record<string, { name?: string }>
}

test('alert rules pass promtool, with every series in them one that the service has', t => {
  const rules = join(deploy, 'monitoring/log-ingestion.rules.yml')
  const known = new Set(readFileSync(join(root, 'docs/metrics.md'), 'utf8').match(/log_ingestion_\w+/g))
  for (const file of [rules, ...dashboards.map(name => join(deploy, 'monitoring/grafana', name))])
    for (const [name] of readFileSync(file, 'utf8').matchAll(/\blog_ingestion_\w+/g))
      assert.ok(known.has(name.replace(/_(bucket|sum|count)$/, '')), `${name} in ${file}`)
  if (!has('promtool')) return t.skip('promtool is not installed')
  for (const args of [
    ['check', 'rules', rules],
    ['test', 'rules', rules.replace('.yml', '.test.yml')],
  ]) {
    const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' })
    assert.equal(status, 0, stdout + stderr)
  }
})

const dashboards = ['log-ingestion-intake.json', 'log-ingestion-logs.json', 'log-ingestion-logs-postgres.json']

test('the guide’s root has what its commands name', () => {
  for (const path of [
    'docker-compose.prod.yml',
    'docker-compose.yml',
    'Dockerfile',
    '.env.example',
    'migrations/001_create_logs_table.sql',
    'deploy/log-ingestion.service',
    'package.json',
    'bin',
  ])
    assert.ok(existsSync(join(guideRoot, path)), path)
  assert.ok(
    lstatSync(join(guideRoot, 'migrations')).isSymbolicLink(),
    'docker cp follows a linked folder, not a linked file',
  )
})
