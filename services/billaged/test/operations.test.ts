import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse, parseAllDocuments } from 'yaml'
import { loadConfig } from '#platform/config'
import { testDatabase } from '../../../test/kit/database.ts'
import { spec } from '../config.ts'
import { metric, minutesAgo, startBilling, temporaryFolder } from './kit.ts'

// What the guide ships beside the program: unit, image, manifests, rules, dashboard. The paths are those of its
// repository root (deploy/guides/billaged).

const root = fileURLToPath(new URL('../../../', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const guide = 'deploy/guides/billaged'

test('the paths that the guide names lead, from its root, to the one file that is shipped', () => {
  for (const [path, file] of Object.entries({
    'contrib/systemd/billaged.service': 'deploy/systemd/billaged.service',
    'contrib/systemd/billaged.env.example': 'deploy/systemd/billaged.env.example',
    Dockerfile: 'deploy/docker/billaged/Dockerfile',
    'billaged-deployment.yaml': 'deploy/kubernetes/billaged.yaml',
  }))
    assert.equal(realpathSync(join(root, guide, path)), realpathSync(join(root, file)))
})

test('the unit is the guide’s, and systemd finds nothing wrong with it', t => {
  const unit = read(`${guide}/contrib/systemd/billaged.service`)
  for (const line of [
    'Type=notify',
    'User=billaged',
    'Group=billaged',
    'EnvironmentFile=/etc/billaged.env',
    'ExecStart=/usr/local/bin/billaged',
    'Restart=always',
    'RestartSec=5',
    'LimitNOFILE=65535',
    'SyslogIdentifier=billaged',
    'NoNewPrivileges=true',
    'PrivateTmp=true',
    'ProtectSystem=strict',
    'ProtectHome=true',
    'ReadWritePaths=/var/lib/billaged /var/log/billaged',
    'WantedBy=multi-user.target',
  ])
    assert.match(unit, new RegExp(`^${line}$`, 'm'))
  assert.doesNotMatch(unit, /^MemoryDenyWriteExecute/m)
  // The command is not installed here; everything else is checked as it is.
  const path = join(temporaryFolder(t), 'billaged.service')
  writeFileSync(path, unit.replace('/usr/local/bin/billaged', join(root, 'bin/billaged')))
  const verify = spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' })
  if (verify.error === undefined) assert.deepEqual([verify.status, verify.stderr], [0, ''])
})

test('the example environment is valid as it is and with every line taken in', () => {
  const lines = read(`${guide}/contrib/systemd/billaged.env.example`).split('\n')
  const env = (pattern: RegExp) =>
    Object.fromEntries(lines.flatMap(line => [...line.matchAll(pattern)].map(m => [m[1] ?? '', m[2] ?? ''])))
  const shipped = env(/^([A-Z_]+)=(.*)$/g)
  assert.ok(Object.keys(shipped).length > 8)
  assert.equal(loadConfig(spec, { env: shipped }).ok, true)
  const { BILLAGED_API_KEY_FILE: file, ...all } = env(/^#?([A-Z_]+)=(.*)$/g)
  assert.ok(file !== undefined)
  const loaded = loadConfig(spec, { env: all })
  assert.deepEqual(loaded.ok ? [] : loaded.problems, [])
})

test('the log answers the guide’s greps: "metrics batch" with totals, levels in capitals, no key in a line', async t => {
  const lines: string[] = []
  const { databaseUrl, billing } = await loggedBilling(t, lines)
  const beganMs = performance.now()
  for (let i = 0; i < 3; i++)
    await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'acme', metrics: [metric(minutesAgo(2), 1n)] })
  const seconds = (performance.now() - beganMs) / 1_000
  const batches = lines.filter(line => line.includes('received metrics batch'))
  assert.ok(batches.length >= 1 && batches.length <= 1 + seconds, `${batches.length} lines: at most one a second`)
  assert.match(batches[0] ?? '', /"level":"INFO".*"samples":1/)
  assert.ok(lines.every(line => /"level":"(DEBUG|INFO|WARN|ERROR|FATAL)"/.test(line)))
  for (const secret of [billing.key, new URL(databaseUrl).password])
    assert.ok(secret === '' || !lines.join().includes(secret))
})

async function loggedBilling(t: TestContext, lines: string[]) {
  const databaseUrl = (await testDatabase(t)).url
  return { databaseUrl, billing: await startBilling(t, { databaseUrl, lines }) }
}

interface Container {
  image: string
  ports: { containerPort: number }[]
  env: { name: string; value?: string; valueFrom?: { secretKeyRef: { name: string; key: string } } }[]
  livenessProbe: { httpGet: { path: string; port: number } }
  readinessProbe: { httpGet: { path: string; port: number } }
}
interface Manifest {
  kind: string
  metadata: { name: string }
  data?: Record<string, string>
  stringData?: Record<string, string>
  spec?: {
    replicas?: number
    minReplicas?: number
    maxReplicas?: number
    template?: { spec: { containers: Container[] } }
  }
}

test('the manifests hold what the guide’s commands name, with settings the service takes and probes it answers', async t => {
  const documents = parseAllDocuments(read('deploy/kubernetes/billaged.yaml'))
  assert.deepEqual(
    documents.flatMap(document => document.errors),
    [],
  )
  const manifests = documents.map(document => document.toJSON() as Manifest)
  const names = manifests.map(({ kind, metadata }) => `${kind}/${metadata.name}`)
  for (const name of [
    'ConfigMap/billaged-config',
    'Secret/billaged-secrets',
    'Service/billaged',
    'Deployment/billaged',
    'StatefulSet/billaged',
    'HorizontalPodAutoscaler/billaged-hpa',
    'NetworkPolicy/billaged',
  ])
    assert.ok(names.includes(name), name)
  const of = (kind: string) => manifests.find(manifest => manifest.kind === kind)
  assert.deepEqual(Object.keys(of('Secret')?.stringData ?? {}), ['database-url', 'api-key'])
  const hpa = of('HorizontalPodAutoscaler')?.spec
  assert.deepEqual([hpa?.minReplicas, hpa?.maxReplicas], [3, 10])
  const billing = await startBilling(t)
  for (const kind of ['StatefulSet', 'Deployment']) {
    const [container] = of(kind)?.spec?.template?.spec.containers ?? []
    assert.deepEqual(
      container?.ports.map(port => port.containerPort),
      [8081, 9465],
    )
    for (const probe of [container?.livenessProbe, container?.readinessProbe])
      assert.equal((await fetch(billing.url + probe?.httpGet.path)).status, 200)
    const given = Object.fromEntries(
      (container?.env ?? []).map(({ name, value }) => [name, value ?? 'postgres://a@b/c']),
    )
    const loaded = loadConfig(spec, { env: { ...of('ConfigMap')?.data, ...given } })
    assert.deepEqual(loaded.ok ? [] : loaded.problems, [])
    assert.equal(loaded.ok && loaded.config.ack, kind === 'Deployment' ? 'database' : 'journal')
  }
})

test('the image runs as nobody, with what the guide’s commands need', () => {
  const dockerfile = read(`${guide}/Dockerfile`)
  for (const line of [
    /^USER nobody$/m,
    /^EXPOSE 8081 9465$/m,
    /^ENTRYPOINT \["billaged"\]$/m,
    /ca-certificates tzdata wget/,
  ])
    assert.match(dockerfile, line)
})

test('rules and dashboard ask for metrics that are there, and the rules load', async t => {
  const path = 'deploy/monitoring/billaged.rules.yml'
  const check = spawnSync('promtool', ['check', 'rules', join(root, path)], { encoding: 'utf8' })
  if (check.error === undefined) assert.equal(check.status, 0, check.stderr)
  const { groups } = parse(read(path)) as { groups: { rules: { expr: string; record?: string; alert?: string }[] }[] }
  const rules = groups.flatMap(group => group.rules)
  assert.ok(rules.some(rule => rule.record === 'billaged_processing_duration_seconds'))
  assert.ok(rules.filter(rule => rule.alert !== undefined).length >= 13)
  const dashboard = JSON.parse(read('deploy/monitoring/grafana/billaged-overview.json')) as {
    panels: { targets: { expr: string }[] }[]
  }
  const queries = [
    ...rules.map(rule => rule.expr),
    ...dashboard.panels.flatMap(panel => panel.targets.map(q => q.expr)),
  ]
  const billing = await startBilling(t)
  const exposed = await (await fetch(`${billing.url}/metrics`)).text()
  const known = new Set([...exposed.matchAll(/^# TYPE (\S+)/gm)].map(m => m[1] ?? ''))
  for (const query of queries)
    for (const [name] of query.matchAll(/\b(?:billaged|rpc_server|process)_[a-z0-9_]+/g))
      assert.ok(known.has(name.replace(/_(bucket|count|sum)$/, '')) || laterMetrics.has(name), `${name} in ${query}`)
})

/** Named by the specification for invoices and closing, which register them when they are there. */
const laterMetrics = new Set(['billaged_unrated_usage', 'billaged_close_blockers'])
