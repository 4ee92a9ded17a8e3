import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { testBase } from '../../test/kit/base.ts'
import { pollUntil } from '../../test/kit/poll.ts'
import type { HealthReport, LiveTick, MatrixResult, StatusResponse, VectorResult } from './api.ts'
import { loadConfig } from './config.ts'
import { start } from './service.ts'

const secret = Buffer.from('0123456789abcdef0123456789abcdef')

test('a started collector has its first tick committed, and shows it as metrics, as a query and as health', async t => {
  const { url } = await collector(t)
  const metrics = await (await fetch(`${url}/metrics`)).text()
  assert.match(metrics, /^node_load1\{device_id="test"\} \d/m)
  assert.match(metrics, /^collector_metrics_collected_total\{collector="cpu",device_id="test"\} \d+$/m)
  assert.match(metrics, /^system_health_status\{device_id="test"\} 0$/m)

  const answer = await api<VectorResult>(url, '/api/v1/query', { query: 'node_load1' })
  assert.equal(answer.resultType, 'vector')
  assert.deepEqual(answer.result[0]?.metric, { __name__: 'node_load1', device_id: 'test' })

  const response = await fetch(`${url}/health`)
  assert.equal(response.status, 200)
  const report = (await response.json()) as HealthReport
  assert.deepEqual(Object.keys(report), ['status', 'timestamp', 'uptime_seconds', 'components'])
  assert.equal(report.components.uploader?.message, 'upload disabled')
  assert.match(report.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  assert.deepEqual(await (await fetch(`${url}/health/live`)).json(), { status: 'alive' })
  assert.deepEqual(await (await fetch(`${url}/health/ready`)).json(), { status: 'ready' })
  const detailed = (await (await fetch(`${url}/health/detailed`)).json()) as { status: string; dependencies: object }
  assert.deepEqual([detailed.status, 'storage' in detailed.dependencies], ['ok', true])
})

test('the health path answers a Prometheus scraper with metrics, as the guide’s recipe needs', async t => {
  const { url } = await collector(t)
  const accept = 'application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1'
  const response = await fetch(`${url}/health`, { headers: { accept } })
  assert.match(response.headers.get('content-type') ?? '', /^application\/openmetrics-text/)
  const text = await response.text()
  assert.match(text, /^system_health_status/m)
  assert.doesNotMatch(text, /^node_load1/m)
})

test('ranges, rates and aggregations over committed ticks; labels and series as Prometheus answers them', async t => {
  const { url, tick } = await collector(t)
  await tick(3)
  const nowS = Date.now() / 1_000
  const range = await api<MatrixResult>(url, '/api/v1/query_range', {
    query: 'sum by (mode) (node_cpu_seconds_total)',
    start: String(nowS - 60),
    end: String(nowS + 1),
    step: '1',
  })
  assert.ok(range.result.some(series => series.metric.mode === 'idle' && series.values.length > 0))
  const rates = await api<VectorResult>(url, '/api/v1/query', { query: 'rate(node_context_switches_total[1m])' })
  assert.ok(Number(rates.result[0]?.value[1]) > 0)
  assert.equal(rates.result[0]?.metric.__name__, undefined)
  const raw = await api<MatrixResult>(url, '/api/v1/query', { query: 'node_load1[1m]' })
  assert.ok((raw.result[0]?.values.length ?? 0) >= 3)
  assert.ok((await api<string[]>(url, '/api/v1/labels')).includes('mode'))
  assert.ok((await api<string[]>(url, '/api/v1/label/mode/values')).includes('idle'))
  const series = await api<Record<string, string>[]>(url, '/api/v1/series', { 'match[]': '{__name__=~"node_load.*"}' })
  assert.equal(series.length, 3)

  const posted = await fetch(`${url}/api/v1/query`, { method: 'POST', body: new URLSearchParams({ query: '1+1' }) })
  assert.equal(((await posted.json()) as { data: { result: [number, string] } }).data.result[1], '2')
})

test('what cannot be answered is refused in Prometheus’s shape, with the word that was not understood', async t => {
  const { url } = await collector(t)
  const cases: [string, number, string, RegExp][] = [
    ['/api/v1/query?query=topk(3,up)', 400, 'bad_data', /topk/],
    ['/api/v1/query', 400, 'bad_data', /query is missing/],
    ['/api/v1/query?query=up&time=yesterday', 400, 'bad_data', /yesterday/],
    ['/api/v1/query_range?query=up&start=0&end=100000&step=1', 400, 'bad_data', /11000/],
    ['/api/v1/query_range?query=up&start=2&end=1&step=1', 400, 'bad_data', /before start/],
    ['/api/v1/query?query=count_over_time({__name__=~"node_load.*"}[1m])', 422, 'execution', /select one name/],
    ['/api/v1/nothing', 404, 'not_found', /nothing at/],
  ]
  for (const [path, status, errorType, message] of cases) {
    const response = await fetch(url + path.replaceAll('+', '%2B'))
    const body = (await response.json()) as { status: string; errorType: string; error: string }
    assert.deepEqual([response.status, body.status, body.errorType], [status, 'error', errorType], path)
    assert.match(body.error, message)
  }
  const wrong = await fetch(`${url}/health`, { method: 'PUT' })
  assert.equal(wrong.status, 405)
  assert.equal(wrong.headers.get('allow'), 'HEAD, GET')
  assert.equal(wrong.headers.get('content-type'), 'application/problem+json')
  assert.equal((await fetch(`${url}/metrics?collect[]=nope`)).status, 400)
  const big = await fetch(`${url}/api/v1/query`, { method: 'POST', body: 'query='.padEnd(70_000, 'x') }).catch(
    () => undefined,
  )
  assert.ok(big === undefined || big.status === 413)
})

test('collect[] shows one source only', async t => {
  const { url } = await collector(t)
  const text = await (await fetch(`${url}/metrics?collect[]=load`)).text()
  assert.match(text, /^node_load1/m)
  assert.doesNotMatch(text, /^node_memory|^collector_/m)
})

test('live sends the newest tick at once and each tick as it is committed', async t => {
  const { url, tick } = await collector(t)
  const events: LiveTick[] = []
  const controller = new AbortController()
  t.after(() => controller.abort())
  const response = await fetch(`${url}/api/v1/live?match[]=node_load1`, { signal: controller.signal })
  assert.equal(response.headers.get('content-type'), 'text/event-stream')
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  assert.ok(reader)
  const read = async () => {
    for (;;) {
      const { value } = await reader.read()
      for (const [, data] of (value ?? '').matchAll(/^data: (.*)$/gm)) events.push(JSON.parse(data ?? '') as LiveTick)
      if (events.length >= 3) return
    }
  }
  await Promise.all([read(), tick(3)])
  assert.deepEqual(events[0]?.samples[0]?.metric, { __name__: 'node_load1', device_id: 'test' })
  const stamps = events.map(event => event.t)
  assert.deepEqual(
    stamps,
    [...new Set(stamps)].sort((a, b) => a - b),
  )
})

test('other hosts read health and metrics; the rest needs the token of api.token_file or one of the platform', async t => {
  const address = Object.values(networkInterfaces())
    .flat()
    .find(own => own?.family === 'IPv4' && !own.internal)?.address
  if (address === undefined) return t.skip('this machine has no address besides loopback')
  const folder = await mkdtemp(join(tmpdir(), 'collector-token-'))
  t.after(() => rm(folder, { recursive: true }))
  await writeFile(join(folder, 'token'), 'open-sesame\n')
  const { url } = await collector(t, {
    METRICS_COLLECTOR_HEALTH__LISTEN_ADDR: ':0',
    METRICS_COLLECTOR_API__TOKEN_FILE: join(folder, 'token'),
  })
  const far = url.replace('127.0.0.1', address)
  const status = async (base: string, path: string, headers: Record<string, string> = {}) =>
    (await fetch(base + path, { headers })).status
  assert.equal(await status(far, '/health'), 200)
  assert.equal(await status(far, '/metrics'), 200)
  assert.equal(await status(far, '/api/v1/status'), 401)
  assert.equal(await status(far, '/api/v1/status', { authorization: 'Bearer wrong' }), 401)
  assert.equal(await status(far, '/api/v1/status', { authorization: 'Bearer open-sesame' }), 200)
  const mint = (audience: string, role: 'viewer' | 'tenant-viewer') =>
    `Bearer ${mintToken(secret, { audience, role, subject: 'console', clock: systemClock, ...(role === 'tenant-viewer' ? { tenant: 'acme' } : {}) })}`
  assert.equal(await status(far, '/api/v1/status', { authorization: mint('metrics-collector', 'viewer') }), 200)
  assert.equal(await status(far, '/api/v1/status', { authorization: mint('billaged', 'viewer') }), 401)
  // From this machine too: the console's proxy is here, and a tenant behind it stays a tenant.
  assert.equal(await status(url, '/api/v1/status', { authorization: mint('metrics-collector', 'tenant-viewer') }), 403)
  assert.equal(await status(url, '/api/v1/status'), 200)
  assert.equal(await status(url, '/api/v1/status', { 'x-forwarded-for': '203.0.113.7' }), 401)
  assert.equal(await statusForHost(url, 'rebound.example'), 401)
})

test('status tells what the collector holds, and closing leaves one complete file', async t => {
  const { url, close, path } = await collector(t)
  const status = (await (await fetch(`${url}/api/v1/status`)).json()) as StatusResponse
  assert.equal(status.deviceId, 'test')
  assert.ok(status.series > 100 && status.storage.databaseBytes > 0 && status.newestStampMs > 0)
  await close()
  const db = new DatabaseSync(path, { readOnly: true })
  t.after(() => db.close())
  assert.deepEqual({ ...db.prepare('PRAGMA integrity_check').get() }, { integrity_check: 'ok' })
  assert.ok(Number(db.prepare('SELECT count(*) AS n FROM frame').get()?.n) > 0)
})

test('a port that is taken ends the start, says which and how to move it, and lets go of the database', async t => {
  const first = await collector(t)
  const port = new URL(first.url).port
  const attempt = collector(t, { METRICS_COLLECTOR_HEALTH__LISTEN_ADDR: `127.0.0.1:${port}` })
  await assert.rejects(attempt, new RegExp(`port ${port} is in use.*METRICS_COLLECTOR_HEALTH__LISTEN_ADDR`))
  await assert.rejects(
    collector(t, { METRICS_COLLECTOR_STORAGE__PATH: first.path }),
    /already running \(pid \d+, lock .*\.lock\)/,
  )
  await assert.rejects(
    collector(t, { METRICS_COLLECTOR_STORAGE__PATH: '/nonexistent/metrics.db' }),
    /as uid \d+: .*Create its folder/,
  )
})

async function collector(t: TestContext, env: Record<string, string> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'collector-'))
  const path = env.METRICS_COLLECTOR_STORAGE__PATH ?? join(folder, 'metrics.db')
  const loaded = loadConfig({
    env: {
      METRICS_COLLECTOR_DEVICE_ID: 'test',
      METRICS_COLLECTOR_COLLECTION_INTERVAL: '1s',
      METRICS_COLLECTOR_HEALTH__LISTEN_ADDR: '127.0.0.1:0',
      METRICS_COLLECTOR_STORAGE__PATH: path,
      ...env,
    },
  })
  assert.ok(loaded.ok)
  t.after(() => rm(folder, { recursive: true, force: true }))
  const running = await start(loaded.config, testBase(t), secret)
  let closing: Promise<void> | undefined
  const close = () => (closing ??= running.close())
  t.after(close)
  return {
    url: running.url,
    path,
    close,
    /** Until at least `n` ticks are committed. */
    tick: (n: number) =>
      pollUntil(
        async () => {
          const text = await (await fetch(`${running.url}/metrics`)).text()
          const collected = /^collector_collection_duration_seconds_count\{collector="load",.*\} (\d+)$/m.exec(
            text,
          )?.[1]
          return Number(collected) >= n - 1 // the figure is that of the tick before
        },
        { what: `${n} ticks`, everyMs: 100 },
      ),
  }
}

async function api<T>(url: string, path: string, params: Record<string, string> = {}): Promise<T> {
  const response = await fetch(`${url}${path}?${new URLSearchParams(params)}`)
  const body = (await response.json()) as { status: string; data: T }
  assert.equal(body.status, 'success', JSON.stringify(body))
  return body.data
}

/** fetch does not let us say another Host. */
function statusForHost(url: string, host: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request(new URL('/api/v1/status', url), { headers: { host } }, res => {
      res.resume()
      resolve(res.statusCode)
    })
      .on('error', reject)
      .end()
  })
}
