// The requests that Grafana's Loki data source makes: on "Save & test", while a query is typed, for its logs and its
// volume histogram, and for live streaming.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import WebSocket from 'ws'
import { pollUntil } from '../../../test/kit/poll.ts'
import { adminKey, batch, entry, startService, type TestService } from './start.ts'

interface Answer {
  status: string
  data: {
    resultType: string
    result: {
      stream?: Record<string, string>
      metric?: Record<string, string>
      values?: unknown[][]
      value?: unknown[]
    }[]
    encodingFlags?: string[]
  }
}

async function open(t: TestContext): Promise<{ s: TestService; toMs: number }> {
  const s = await startService(t, { env: { LOG_INGESTION_LOKI_LABELS: 'http.region' } })
  const toMs = Math.floor(Date.now() / 60_000) * 60_000
  const at = (seconds: number) => new Date(toMs - seconds * 1_000).toISOString()
  await s.post(
    '/api/v1/logs/batch',
    batch(
      entry({ timestamp: at(30), message: 'a', level: 'error', metadata: { 'http.region': 'eu', user: { id: 7 } } }),
      entry({ timestamp: at(90), message: 'b' }),
      entry({ timestamp: at(100), message: 'c', service: 'db' }),
      entry({ timestamp: at(150), message: 'd' }),
    ),
  )
  await s.post('/api/v1/logs', JSON.stringify({ log: entry({ service: 'theirs' }) }), { 'x-api-key': 'acme-write-key' })
  await s.settled()
  return { s, toMs }
}

/** Grafana's "Basic auth", with the key as password. */
const grafana = { authorization: `Basic ${Buffer.from(`grafana:${adminKey}`).toString('base64')}` }

async function ask<T = Answer>(
  s: TestService,
  path: string,
  parameters: Record<string, string> = {},
  headers = {},
): Promise<T> {
  const response = await fetch(`${s.url}/loki/api/v1${path}?${new URLSearchParams(parameters)}`, {
    headers: { ...grafana, ...headers },
  })
  assert.equal(response.status, 200, `${path}: ${await response.clone().text()}`)
  return (await response.json()) as T
}

test('"Save & test", labels, values, series, and what a query would read', async t => {
  const { s, toMs } = await open(t)
  const range = { start: String(BigInt(toMs - 3_600_000) * 1_000_000n), end: String(BigInt(toMs) * 1_000_000n) }
  const health = await ask(s, '/query', { query: 'vector(1)+vector(1)', time: '4000000000000000000', limit: '100' })
  assert.deepEqual(health.data.result, [{ metric: {}, value: [4_000_000_000, '2'] }])
  assert.match((await ask<{ version: string }>(s, '/status/buildinfo')).version, /^\d+\.\d+\.\d+$/)

  const data = async (path: string, parameters = {}) =>
    (await ask<{ data: unknown }>(s, path, { ...range, ...parameters })).data
  assert.deepEqual(await data('/labels'), ['http_region', 'level', 'service'])
  assert.deepEqual(await data('/label/service/values'), ['db', 'shop'])
  assert.deepEqual(await data('/label/level/values', { query: '{service="shop"}' }), ['ERROR', 'INFO'])
  assert.deepEqual(await data('/label/http_region/values'), ['eu'])
  assert.deepEqual(await data('/series', { 'match[]': '{service="shop"}' }), [
    { service: 'shop', level: 'ERROR', http_region: 'eu' },
    { service: 'shop', level: 'INFO' },
  ])
  const stats = await ask<{ streams: number; entries: number; bytes: number }>(s, '/index/stats', {
    ...range,
    query: '{service=~".+"}',
  })
  assert.deepEqual([stats.streams, stats.entries], [2, 4])
  assert.ok(stats.bytes > 0)
  const volume = await ask(s, '/index/volume', { ...range, query: '{service=~".+"}' })
  assert.deepEqual(
    volume.data.result.map(({ metric }) => metric),
    [{ service: 'shop' }, { service: 'db' }],
  )
})

test('logs, newest first, as streams; structured metadata apart when Grafana asks for it; live by WebSocket', async t => {
  const { s, toMs } = await open(t)
  const parameters = {
    query: '{service="shop"} |= ``',
    start: String(BigInt(toMs - 3_600_000) * 1_000_000n),
    end: String(BigInt(toMs) * 1_000_000n),
    limit: '2',
    direction: 'backward',
    step: '15000ms',
  }
  const plain = await ask(s, '/query_range', parameters)
  assert.equal(plain.data.resultType, 'streams')
  const ns = (seconds: number) => String(BigInt(toMs - seconds * 1_000) * 1_000_000n)
  assert.deepEqual(plain.data.result, [
    { stream: { service: 'shop', level: 'ERROR', http_region: 'eu' }, values: [[ns(30), 'a']] },
    { stream: { service: 'shop', level: 'INFO' }, values: [[ns(90), 'b']] },
  ])
  const categorized = await ask(s, '/query_range', parameters, {
    'x-loki-response-encoding-flags': 'categorize-labels',
  })
  assert.deepEqual(categorized.data.encodingFlags, ['categorize-labels'])
  assert.deepEqual(categorized.data.result[0]?.values?.[0]?.[2], {
    structuredMetadata: { http_region: 'eu', user_id: '7' },
  })
  const json = await ask(s, '/query_range', { ...parameters, query: '{service="shop"} | json | user_id=7' })
  assert.deepEqual(json.data.result, [
    { stream: { http_region: 'eu', user_id: '7', service: 'shop', level: 'ERROR' }, values: [[ns(30), 'a']] },
  ])

  const socket = new WebSocket(
    `${s.url.replace('http', 'ws')}/loki/api/v1/tail?query=${encodeURIComponent('{service="shop"}')}&limit=100`,
    { headers: grafana },
  )
  t.after(() => socket.terminate())
  const frames: { streams: { stream: object; values: string[][] }[] }[] = []
  socket.on('message', frame => frames.push(JSON.parse(String(frame))))
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: 'live' }) }))
  await pollUntil(() => frames.length > 0, { what: 'a frame', everyMs: 10 })
  assert.deepEqual(frames[0]?.streams[0]?.stream, { service: 'shop', level: 'INFO' })
  assert.equal(frames[0]?.streams[0]?.values[0]?.[1], 'live')
})

test('the volume histogram and rates are sums over each range, equal to counting by hand', async t => {
  const { s, toMs } = await open(t)
  const range = { start: String((toMs - 180_000) / 1_000), end: String(toMs / 1_000), step: '60' }
  const matrix = async (query: string) =>
    Object.fromEntries(
      (await ask(s, '/query_range', { ...range, query })).data.result.map(({ metric, values }) => [
        JSON.stringify(metric),
        values?.map(([time, value]) => [(Number(time) * 1_000 - toMs) / 60_000, Number(value)]),
      ]),
    )
  assert.deepEqual(
    await matrix('sum by (level, detected_level) (count_over_time({service="shop"} | drop __error__[1m]))'),
    {
      '{"level":"ERROR"}': [[0, 1]],
      '{"level":"INFO"}': [
        [-2, 1],
        [-1, 1],
      ],
    },
  )
  assert.deepEqual(await matrix('sum(count_over_time({service=~".+"}[2m]))'), {
    '{}': [
      [-2, 1],
      [-1, 3],
      [0, 3],
    ],
  })
  assert.deepEqual(await matrix('sum by (service) (rate({service=~".+"}[1m]))'), {
    '{"service":"shop"}': [
      [-2, 1 / 60],
      [-1, 1 / 60],
      [0, 1 / 60],
    ],
    '{"service":"db"}': [[-1, 1 / 60]],
  })
  assert.deepEqual(Object.keys(await matrix('count_over_time({service="db"}[1m])')), [
    '{"service":"db","level":"INFO"}',
  ])
})

test('no tenant is reached by header or query, and what is not supported is a 400 that names it', async t => {
  const { s } = await open(t)
  const values = async (headers: Record<string, string>) =>
    ((await (await fetch(`${s.url}/loki/api/v1/label/service/values`, { headers })).json()) as { data: string[] }).data
  assert.deepEqual(await values({ ...grafana, 'x-scope-orgid': 'acme' }), ['db', 'shop'])
  assert.deepEqual(await values({ 'x-api-key': 'acme-admin-key', 'x-scope-orgid': 'public' }), ['theirs'])
  assert.equal((await fetch(`${s.url}/loki/api/v1/labels`)).status, 401)
  const response = await fetch(
    `${s.url}/loki/api/v1/query_range?query=${encodeURIComponent('topk(3, rate({service="a"}[1m]))')}`,
    { headers: grafana },
  )
  assert.equal(response.status, 400)
  assert.match(((await response.json()) as { message: string }).message, /^topk is not supported/)
})
