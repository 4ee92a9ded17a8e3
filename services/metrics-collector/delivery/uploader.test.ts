import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { HealthReport, StatusResponse } from '../api.ts'
import { loadConfig } from '../config.ts'
import { decodeShape, decodeValues } from '../frame.ts'
import { start } from '../service.ts'
import { type Script, startEndpoint } from './scripted-endpoint.ts'

test('every committed sample arrives, once and with its value, and the queue says it is empty', async t => {
  const { endpoint, path, stop, until } = await upload(t)
  await until(() => endpoint.taken.length >= 3)
  await stop()
  assert.deepEqual(endpoint.samples(), committed(path))
  assert.equal(endpoint.repeated(), 0)
  assert.equal(pendingRows(path), 0)
})

test('a request is what the wire contract says', async t => {
  const { endpoint, until } = await upload(t, {
    env: { METRICS_COLLECTOR_REMOTE__AUTH_TOKEN: 'sesame', METRICS_COLLECTOR_DEVICE_ID: 'gerät 1' },
  })
  await until(() => endpoint.taken.length > 0)
  const [{ headers, body } = assert.fail()] = endpoint.taken
  assert.equal(headers['content-type'], 'application/x-ndjson')
  assert.equal(headers['content-encoding'], 'gzip')
  assert.equal(headers.authorization, 'Bearer sesame')
  assert.equal(headers['x-device-id'], 'ger%C3%A4t%201')
  assert.equal(headers['x-attempt'], '0')
  assert.equal(headers['x-chunk-index'], '0')
  assert.match(String(headers['x-chunk-id']), /^[0-9a-f]{16}$/)
  assert.match(headers['user-agent'] ?? '', /^metrics-collector\//)
  const lines = body
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as { metric: Record<string, string>; values: number[]; timestamps: number[] })
  assert.equal(String(lines.reduce((n, line) => n + line.values.length, 0)), headers['x-chunk-metrics'])
  for (const { metric, values, timestamps } of lines) {
    const [first, ...names] = Object.keys(metric)
    assert.equal(first, '__name__')
    assert.deepEqual(names, [...names].sort())
    assert.equal(values.length, timestamps.length)
    assert.deepEqual(
      timestamps,
      [...timestamps].sort((a, b) => a - b),
    )
  }
})

test('an explicit chunk size is never exceeded, and a backlog larger than a batch drains in one go', async t => {
  const { endpoint, path, stop, until } = await upload(t, {
    env: {
      METRICS_COLLECTOR_REMOTE__CHUNK_SIZE: '40',
      METRICS_COLLECTOR_REMOTE__BATCH_SIZE: '100',
      METRICS_COLLECTOR_UPLOAD_INTERVAL: '1s',
    },
  })
  await until(() => endpoint.taken.length >= 8)
  await stop()
  assert.deepEqual(endpoint.samples(), committed(path))
  for (const { headers } of endpoint.all) {
    assert.ok(Number(headers['x-chunk-metrics']) <= 40)
    assert.ok(Number(headers['x-chunk-index']) <= 2)
  }
})

test('while the endpoint fails in every way it knows, nothing is lost, and the same bytes are sent again', async t => {
  const rude: ((res: ServerResponse) => void)[] = [
    res => res.writeHead(500).end(),
    res => res.writeHead(503, { 'retry-after': '0' }).end(),
    res => res.writeHead(429, { 'retry-after': 'soon' }).end(),
    res => res.destroy(),
    res => res.writeHead(200, { 'content-type': 'text/html' }).end('<html>Welcome to the Wi-Fi</html>'),
    res => res.writeHead(404).end(),
    res => res.writeHead(302, { location: 'https://elsewhere.example/' }).end(),
    res => res.writeHead(502).end('x'.repeat(200_000)),
  ]
  const { endpoint, path, stop, until, health, shown } = await upload(t, {
    script: (_, res, n) => {
      rude[n]?.(res)
      return n < rude.length
    },
  })
  await until(async () => (await health()).components.uploader?.status === 'degraded')
  await until(() => endpoint.taken.length >= 2, 30_000)
  await until(async () => (await health()).components.uploader?.status === 'ok')
  assert.match(await shown(), /^uploader_upload_failures_total\{.*reason="(500|503|portal|network)"\} 1$/m)
  await stop()
  assert.deepEqual(endpoint.samples(), committed(path))
  const ids = new Map<unknown, string>()
  for (const { headers, body } of endpoint.all) {
    assert.ok((ids.get(headers['x-chunk-id']) ?? body) === body)
    ids.set(headers['x-chunk-id'], body)
  }
  assert.equal(endpoint.all[1]?.headers['x-attempt'], '1')
})

test('a series the endpoint refuses is set aside sample by sample; everything else flows on', async t => {
  const { endpoint, path, stop, until } = await upload(t, {
    script: ({ body }, res) => {
      if (!body.includes('"node_load15"')) return false
      res.writeHead(400).end('cannot parse node_load15')
      return true
    },
  })
  await until(() => endpoint.taken.length >= 12, 30_000)
  await stop()
  const expected = new Map([...committed(path)].filter(([key]) => !key.includes('"node_load15"')))
  const got = endpoint.samples()
  // What was being narrowed down when we stopped waits for the next start.
  for (const [key, value] of got) assert.equal(expected.get(key), value)
  assert.ok(got.size > expected.size / 2)
  const db = new DatabaseSync(path, { readOnly: true })
  t.after(() => db.close())
  const rows = db.prepare('SELECT status, samples, answer, body FROM quarantine').all()
  assert.ok(rows.length > 0)
  for (const row of rows) {
    assert.deepEqual([row.status, row.samples], [400, 1])
    assert.match(Buffer.from(row.body as Uint8Array).toString(), /node_load15/)
  }
})

test('an endpoint that refuses everything keeps the queue as it was, and health says to check the URL', async t => {
  const { endpoint, path, until, stop, health } = await upload(t, {
    env: Object.fromEntries(
      ['load', 'disk', 'memory', 'filesystem', 'network', 'netstat', 'vmstat', 'thermal', 'time', 'self'].map(name => [
        `METRICS_COLLECTOR_COLLECTORS__${name.toUpperCase()}__ENABLED`,
        'false',
      ]),
    ),
    script: (_, res) => {
      res.writeHead(422).end()
      return true
    },
  })
  await until(async () => /whatever it is sent/.test((await health()).components.uploader?.message ?? ''), 30_000)
  const before = endpoint.all.length
  await stop()
  assert.ok(before < 64 * (2 * Math.log2(100) + 2))
  assert.equal(pendingRows(path), committed(path).size)
})

test('a body that is too large is halved until it fits', async t => {
  const { endpoint, path, stop, until } = await upload(t, {
    script: ({ headers }, res) => {
      if (Number(headers['x-chunk-metrics']) <= 100) return false
      res.writeHead(413).end()
      return true
    },
  })
  await until(() => endpoint.taken.length >= 8)
  await stop()
  const got = endpoint.samples()
  for (const [key, value] of committed(path)) if (got.has(key)) assert.equal(got.get(key), value)
  assert.equal(endpoint.repeated(), 0)
})

test('a token that was replaced on disk is taken up without a restart, and never shown', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'collector-token-'))
  t.after(() => rm(folder, { recursive: true }))
  const tokenFile = join(folder, 'api-token')
  await writeFile(tokenFile, 'old-token\n', { mode: 0o640 })
  const { endpoint, until, shown } = await upload(t, {
    env: { METRICS_COLLECTOR_REMOTE__AUTH_TOKEN_FILE: tokenFile },
    script: ({ headers }, res, n) => {
      if (headers.authorization === 'Bearer new-token') return false
      if (n === 0) void writeFile(tokenFile, 'new-token\n').then(() => res.writeHead(401).end())
      else res.writeHead(401).end()
      return true
    },
  })
  await until(() => endpoint.taken.some(({ headers }) => headers.authorization === 'Bearer new-token'))
  assert.doesNotMatch(await shown(), /(old|new)-token/)
})

test('the clock is compared with the server’s, and a wrong one degrades health with the figure', async t => {
  const { until, health } = await upload(t, { env: { METRICS_COLLECTOR_MONITORING__CLOCK_SKEW_URL: '' } })
  await until(async () => (await health()).components.time?.status === 'degraded')
  const { message, details } = (await health()).components.time ?? assert.fail()
  assert.ok(Math.abs(Number(details.skew_ms) - 60_000) < 1_500, `${details.skew_ms}`)
  assert.match(message, /ms off, over the threshold of 2000/)
})

async function upload(t: TestContext, o: { script?: Script; env?: Record<string, string> } = {}) {
  const endpoint = await startEndpoint(o.script)
  const folder = await mkdtemp(join(tmpdir(), 'collector-upload-'))
  const path = join(folder, 'metrics.db')
  const loaded = loadConfig({
    env: {
      METRICS_COLLECTOR_DEVICE_ID: 'test',
      METRICS_COLLECTOR_COLLECTION_INTERVAL: '1s',
      METRICS_COLLECTOR_UPLOAD_INTERVAL: '100ms',
      METRICS_COLLECTOR_HEALTH__LISTEN_ADDR: '127.0.0.1:0',
      METRICS_COLLECTOR_STORAGE__PATH: path,
      METRICS_COLLECTOR_REMOTE__URL: endpoint.url,
      METRICS_COLLECTOR_REMOTE__TIMEOUT: '2s',
      METRICS_COLLECTOR_REMOTE__RETRY__INITIAL_BACKOFF: '5ms',
      // Nobody there: the first upload waits for a comparison or its failure, and a failure is quicker.
      METRICS_COLLECTOR_MONITORING__CLOCK_SKEW_URL: 'http://127.0.0.1:9/',
      ...o.env,
    },
  })
  assert.ok(loaded.ok)
  const lines: string[] = []
  const running = await start(loaded.config, testBase(t, { lines }))
  let stopped: Promise<void> | undefined
  const stop = () => (stopped ??= running.close())
  t.after(async () => {
    await stop()
    await endpoint.close()
    await rm(folder, { recursive: true })
  })
  const get = async (route: string) => (await fetch(running.url + route)).text()
  return {
    endpoint,
    path,
    stop,
    until: (probe: () => boolean | Promise<boolean>, timeoutMs = 60_000) =>
      pollUntil(probe, { what: 'the uploads', everyMs: 20, timeoutMs }),
    health: async () => JSON.parse(await get('/health')) as HealthReport,
    status: async () => JSON.parse(await get('/api/v1/status')) as StatusResponse,
    shown: async () => [...lines, await get('/health'), await get('/metrics'), await get('/api/v1/status')].join('\n'),
  }
}

/** What the database holds, read without our store. */
function committed(path: string): Map<string, number> {
  const db = new DatabaseSync(path, { readOnly: true })
  const found = new Map<string, number>()
  const series = new Map(
    db
      .prepare('SELECT id, name, labels FROM series')
      .all()
      .map(row => [Number(row.id), row]),
  )
  for (const row of db
    .prepare(
      'SELECT mono_ms + offset_ms AS stamp, n, body, series_ids FROM frame JOIN epoch ON epoch.id = epoch JOIN shape ON shape.id = shape',
    )
    .all()) {
    const values = decodeValues(row.body as Uint8Array, Number(row.n))
    for (const [i, id] of decodeShape(row.series_ids as Uint8Array).entries()) {
      const { name, labels } = series.get(id) ?? assert.fail()
      const metric = JSON.stringify({ __name__: name, ...(JSON.parse(String(labels)) as object) })
      found.set(`${metric}@${row.stamp}`, values[i] ?? Number.NaN)
    }
  }
  db.close()
  return found
}

function pendingRows(path: string): number {
  const db = new DatabaseSync(path, { readOnly: true })
  const delivered = db.prepare('SELECT lo, hi FROM delivered').all()
  let pending = 0
  for (const { seq, n } of db.prepare('SELECT seq, n FROM frame').all())
    for (let position = Number(seq) * 65_536; position < Number(seq) * 65_536 + Number(n); position++)
      if (!delivered.some(range => Number(range.lo) <= position && position < Number(range.hi))) pending++
  db.close()
  return pending
}
