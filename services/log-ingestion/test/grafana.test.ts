// The dashboards in deploy/monitoring/grafana: each of their queries is asked, as Grafana would word it, of a Prometheus
// that scrapes the service, of the service as a Loki, or of its database.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createRegistry } from '#platform/telemetry'
import { testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { unusedPort } from '../../../test/kit/ports.ts'
import { adminKey, batch, entry, startService, type TestService } from './start.ts'

interface DataSource {
  type: string
  uid: string
}

interface Target {
  refId: string
  datasource: DataSource
  legendFormat?: string
  expr?: string
  rawSql?: string
}

interface Panel {
  id: number
  type: string
  title: string
  gridPos: { x: number; y: number; w: number; h: number }
  datasource: DataSource
  targets: Target[]
}

interface Dashboard {
  title: string
  uid: string
  schemaVersion: number
  panels: Panel[]
  templating: { list: { name: string; type: string; query: string | object }[] }
}

const folder = new URL('../../../deploy/monitoring/grafana/', import.meta.url)
const dashboard = (name: string) => JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8')) as Dashboard

const names = ['log-ingestion-intake', 'log-ingestion-logs', 'log-ingestion-logs-postgres']

for (const name of names)
  test(`${name}: panels have places of their own, and every variable and data source they name is there`, () => {
    const { panels, templating, uid, schemaVersion } = dashboard(name)
    assert.equal(uid, name)
    assert.ok(schemaVersion >= 36 && panels.length > 0)
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length, 'ids are unique')
    const taken = new Set<string>()
    for (const { title, gridPos, targets, datasource } of panels) {
      const { x, y, w, h } = gridPos
      assert.ok(x >= 0 && w > 0 && x + w <= 24, `${title} is inside of the 24 columns`)
      for (let column = x; column < x + w; column++)
        for (let row = y; row < y + h; row++) {
          assert.ok(!taken.has(`${column} ${row}`), `${title} lies over another panel`)
          taken.add(`${column} ${row}`)
        }
      assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, `${title}: refIds are unique`)
      for (const target of targets) assert.deepEqual(target.datasource, datasource)
      const kinds = templating.list.filter(({ type }) => type === 'datasource')
      const source = kinds.find(variable => datasource.uid === `\${${variable.name}}`)
      assert.equal(source?.query, datasource.type, `${title}: its data source can be chosen`)
    }
    const known = new Set(templating.list.map(variable => variable.name))
    const builtIn = /^__(interval|rate_interval|timeFilter|timeGroupAlias|all)$/
    const text = JSON.stringify([panels, templating.list.map(({ query }) => query)])
    for (const [, braced, bare] of text.matchAll(/\$(?:\{(\w+)(?::\w+)?\}|(\w+))/g)) {
      const variable = braced ?? bare ?? ''
      assert.ok(known.has(variable) || builtIn.test(variable), `$${variable} is a variable`)
    }
  })

/** One stored entry of each kind, a refusal, and a search: something for every panel. */
async function lively(t: TestContext): Promise<TestService> {
  const registry = createRegistry({ service: 'log-ingestion', version: '0.0.0' })
  const s = await startService(t, { base: { ...testBase(t), registry } })
  await s.settled()
  return s
}

async function stir(s: TestService): Promise<void> {
  await s.post('/api/v1/logs/batch', batch(entry({ message: 'stock is low', level: 'warn' }), entry({ service: 'db' })))
  await s.post('/api/v1/logs', '{}')
  await s.get('/api/v1/logs/search?q=stock')
}

const prometheus = spawnSync('prometheus', ['--version']).status === 0
const skip = prometheus ? false : 'prometheus is not installed'

test('Log intake: every query has an answer from a Prometheus that scrapes the service', { skip }, async t => {
  const s = await lively(t)
  const url = await startPrometheus(t, s)
  const { panels, templating } = dashboard('log-ingestion-intake')
  const families = new Set(
    [...(await (await s.get('/metrics')).text()).matchAll(/^# TYPE (\S+) /gm)].map(([, family]) => family ?? ''),
  )
  // Nothing has failed here, and nothing was limited.
  const quiet = new Set(['log_ingestion_db_errors_total', 'log_ingestion_ratelimit_hits_total'])
  const ask = async (expression: string) => {
    const query = expression.replaceAll(/\$(job|instance)/g, '.+').replaceAll('$__rate_interval', '5s')
    const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query })}`)
    const answer = (await response.json()) as { status: string; error?: string; data: { result: { metric: object }[] } }
    assert.equal(answer.status, 'success', `${expression}: ${answer.error}`)
    return answer.data.result
  }
  for (const { title, targets } of panels)
    for (const { expr = '', legendFormat = '' } of targets) {
      const used = [...expr.matchAll(/\b(?:log_ingestion|process|nodejs)_\w+/g)].map(([name]) => name)
      assert.ok(used.length > 0, title)
      for (const name of used)
        assert.ok(families.has(name) || families.has(name.replace(/_(bucket|sum|count)$/, '')), `${title}: ${name}`)
      if (used.some(name => quiet.has(name))) {
        await ask(expr)
        continue
      }
      const result = await pollUntil(
        async () => {
          await stir(s)
          const found = await ask(expr)
          return found.length > 0 && found
        },
        { what: `an answer to ${expr}`, everyMs: 250, timeoutMs: 30_000 },
      )
      for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g))
        assert.ok(Object.keys(result[0]?.metric ?? {}).includes(label), `${title}: its legend names ${label}`)
    }
  for (const { name, query } of templating.list) {
    if (typeof query !== 'string' || !query.startsWith('label_values(')) continue
    const [, selector = '', label = ''] = /^label_values\((.+), (\w+)\)$/.exec(query) ?? []
    const values = await ask(`count by (${label}) (${selector})`)
    assert.ok(values.length > 0, `$${name} has values`)
  }
})

/** With one target, asked every half second. */
async function startPrometheus(t: TestContext, s: TestService): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'purser-prometheus-'))
  const port = await unusedPort()
  await writeFile(
    join(dir, 'prometheus.yml'),
    `scrape_configs:
- job_name: log-ingestion
  scrape_interval: 500ms
  scrape_timeout: 500ms
  static_configs: [{ targets: ['${new URL(s.url).host}'] }]
`,
  )
  const address = `127.0.0.1:${port}`
  const child = spawn(
    'prometheus',
    [`--config.file=${dir}/prometheus.yml`, `--storage.tsdb.path=${dir}/data`, `--web.listen-address=${address}`],
    { stdio: 'ignore' },
  )
  const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
  t.after(async () => {
    child.kill('SIGKILL')
    await gone
    await rm(dir, { recursive: true, force: true })
  })
  await pollUntil(async () => (await fetch(`http://${address}/-/ready`)).ok, { what: 'Prometheus', timeoutMs: 30_000 })
  return `http://${address}`
}

test('Logs: every query and variable has an answer from the service as a Loki', async t => {
  const s = await lively(t)
  await stir(s)
  await s.settled()
  const { panels, templating } = dashboard('log-ingestion-logs')
  const authorization = `Basic ${Buffer.from(`grafana:${adminKey}`).toString('base64')}`
  const ask = async (path: string) => {
    const response = await fetch(`${s.url}/loki/api/v1${path}`, { headers: { authorization } })
    assert.equal(response.status, 200, `${path}: ${await response.clone().text()}`)
    return (await response.json()) as { data: { result: object[] } | string[] }
  }
  for (const { query } of templating.list)
    if (typeof query === 'object' && 'label' in query) {
      const { data } = await ask(`/label/${query.label}/values`)
      assert.ok(Array.isArray(data) && data.length > 0, `values of ${query.label}`)
    }
  // All of them, one, some; and with a text to look for, or none.
  for (const chosen of ['.+', 'shop', '(shop|db)'])
    for (const text of ['', 'stock'])
      for (const { title, targets } of panels)
        for (const { expr = '' } of targets) {
          const query = expr
            .replaceAll('$service', chosen)
            .replaceAll('$level', '.+')
            .replaceAll('$text', text)
            .replaceAll('$__interval', '15s')
          const { data } = await ask(`/query_range?${new URLSearchParams({ query, step: '15s', limit: '500' })}`)
          assert.ok('result' in data && data.result.length > 0, `${title}: ${query}`)
        }
})

test('Logs (PostgreSQL): every query and variable has an answer from the database', async t => {
  const s = await lively(t)
  await stir(s)
  await s.settled()
  const { panels, templating } = dashboard('log-ingestion-logs-postgres')
  for (const { query, type } of templating.list)
    if (type === 'query' && typeof query === 'string') assert.ok((await s.sql.unsafe(query)).length > 0, query)
  for (const text of ['', 'stock'])
    for (const { title, targets } of panels)
      for (const { rawSql = '' } of targets) {
        const sql = rawSql
          .replaceAll(
            /\$__timeGroupAlias\((\w+), *\$__interval\)/g,
            'floor(extract(epoch from $1) / 15) * 15 AS "time"',
          )
          .replaceAll(/\$__timeFilter\((\w+)\)/g, "$1 BETWEEN now() - interval '1 hour' AND now() + interval '1 hour'")
          .replaceAll(/\$\{service:sqlstring\}/g, "'shop','db'")
          .replaceAll(/\$\{level:sqlstring\}/g, "'INFO','WARN'")
          .replaceAll(/\$\{text:sqlstring\}/g, `'${text}'`)
        assert.ok((await s.sql.unsafe(sql)).length > 0, `${title}: ${sql}`)
      }
})
