// What all protocols share, over HTTP: faults in their own shape, encodings, tenants, prefixes.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import snappy from 'snappy'
import { loadSecret } from '#platform/tenancy/secret'
import { mintToken } from '#platform/tenancy/token'
import { encodeFields } from '../wire/protobuf.ts'
import { startService, type TestService, writeKey } from './start.ts'

const json = { 'content-type': 'application/json' }
// Without a time of its own an entry is never taken for a resend.
const ns = '0'
const loki = JSON.stringify({ streams: [{ stream: { app: 'shop' }, values: [[ns, 'hello']] }] })
const otlp = JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords: [{ body: { stringValue: 'hello' } }] }] }] })
const elastic = '{"create":{"_index":"shop"}}\n{"message":"hello"}\n'
const datadog = '[{"message":"hello"}]'

/** Path, a good body, its headers, the status of success, and where the text of a fault is. */
const protocols: [
  path: string,
  body: string,
  headers: Record<string, string>,
  ok: number,
  faultText: (body: string) => unknown,
][] = [
  ['/api/v1/logs/ndjson', 'hello', {}, 202, body => JSON.parse(body).error],
  ['/insert/jsonline', 'hello', {}, 202, body => JSON.parse(body).error],
  ['/loki/api/v1/push', loki, json, 204, body => body.trim()],
  ['/api/prom/push', loki, json, 204, body => body.trim()],
  ['/insert/loki/api/v1/push', loki, json, 204, body => body.trim()],
  ['/_bulk', elastic, {}, 200, body => JSON.parse(body).error.reason],
  ['/elasticsearch/_bulk', elastic, {}, 200, body => JSON.parse(body).error.reason],
  ['/insert/elasticsearch/shop/_bulk', elastic, {}, 200, body => JSON.parse(body).error.reason],
  ['/shop/_doc', '{"message":"hello"}', {}, 201, body => JSON.parse(body).error.reason],
  ['/v1/logs', otlp, json, 200, body => JSON.parse(body).message],
  ['/otlp/v1/logs', otlp, json, 200, body => JSON.parse(body).message],
  ['/insert/opentelemetry/v1/logs', otlp, json, 200, body => JSON.parse(body).message],
  ['/api/v2/logs', datadog, {}, 202, body => JSON.parse(body).errors[0].detail],
  ['/v1/input', datadog, {}, 202, body => JSON.parse(body).errors[0].detail],
  ['/insert/datadog/api/v2/logs', datadog, {}, 202, body => JSON.parse(body).errors[0].detail],
]

const send = (
  service: TestService,
  path: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string>,
) => fetch(service.url + path, { method: 'POST', body, headers })

test('every protocol: success with a receipt, and each fault in its own shape', async t => {
  const service = await startService(t, { env: { LOG_INGESTION_BODY_BYTES_MAX: '2KiB' } })
  // The key that nobody has is only unknown once the directory was there.
  await service.settled()
  for (const [path, body, headers, ok, faultText] of protocols)
    await t.test(path, async () => {
      const good = await service.post(path, body, headers)
      assert.equal(good.status, ok)
      assert.equal(good.headers.get('x-ack'), 'disk')
      assert.match(good.headers.get('x-receipt') ?? '', /^rcp_/)
      const fault = async (answer: Promise<Response>, status: number, text: RegExp) => {
        const response = await answer
        const content = await response.text()
        assert.equal(response.status, status, content)
        assert.match(String(faultText(content)), text)
      }
      const key = { 'x-api-key': writeKey }
      const isDatadog = path.includes('v2/logs') || path.includes('input')
      await fault(send(service, path, body, headers), 401, /^API key is required$/)
      await fault(
        send(service, path, body, { ...headers, 'x-api-key': 'wrong' }),
        isDatadog ? 403 : 401,
        /^Invalid API key$/,
      )
      await fault(send(service, path, 'x'.repeat(3_000), { ...headers, ...key }), 413, /too large|2048 bytes/)
      await fault(
        send(service, path, body, { ...headers, ...key, 'content-encoding': 'lz4' }),
        415,
        /not one of|Unsupported/,
      )
      await fault(
        send(service, path, 'x', { ...headers, ...key, 'content-encoding': 'gzip' }),
        400,
        /Invalid request|cannot be read/,
      )
      if (path.startsWith('/api/v1/') || path === '/insert/jsonline') return
      await fault(fetch(service.url + path, { method: 'DELETE', headers: key }), 405, /DELETE is not a method of/)
    })
})

test('an overload is 429 with Retry-After in every shape', async t => {
  const service = await startService(t, {
    env: {
      LOG_INGESTION_RATELIMIT_ENABLED: 'true',
      LOG_INGESTION_RATELIMIT_BURST: '1',
      LOG_INGESTION_RATELIMIT_DEFAULT_RPS: '1',
    },
  })
  await service.post('/_bulk', elastic)
  for (const [path, body, headers, , faultText] of protocols) {
    const answer = await service.post(path, body, headers)
    assert.equal(answer.status, 429, path)
    assert.match(answer.headers.get('retry-after') ?? '', /^[1-9]\d*$/)
    assert.equal(faultText(await answer.text()), 'Rate limit exceeded')
  }
})

const encodings: [name: string, encode: (body: Buffer) => Buffer][] = [
  ['identity', body => body],
  ['gzip', body => gzipSync(body)],
  ['x-gzip', body => gzipSync(body)],
  ['deflate', body => deflateSync(body)],
  ['deflate', body => deflateRawSync(body)],
  ['br', body => brotliCompressSync(body)],
  ['zstd', body => zstdCompressSync(body)],
]

test('every encoding is undone for every protocol', async t => {
  const service = await startService(t)
  for (const [path, body, headers, ok] of protocols)
    for (const [name, encode] of encodings) {
      const answer = await service.post(path, Uint8Array.from(encode(Buffer.from(body))), {
        ...headers,
        'content-encoding': name,
      })
      assert.equal(answer.status, ok, `${path} ${name}: ${await answer.text()}`)
    }
  const line = encodeFields([
    [
      1,
      encodeFields([
        [1, '{app="shop"}'],
        [2, encodeFields([[2, 'hello']])],
      ]),
    ],
  ])
  for (const [name, body] of [
    ['snappy', snappy.compressSync(line)],
    ['gzip', gzipSync(line)],
    ['gzip', gzipSync(snappy.compressSync(line))],
  ] as const) {
    const answer = await service.post('/loki/api/v1/push', Uint8Array.from(body), {
      'content-type': 'application/x-protobuf',
      'content-encoding': name,
    })
    assert.equal(answer.status, 204, name)
  }
  await service.settled()
  const [count] = await service.sql`select count(*)::int as rows from logs where message = 'hello'`
  assert.equal(count?.rows, protocols.length * encodings.length + 3)
})

test('where each protocol may carry its key', async t => {
  const service = await startService(t)
  const basic = Buffer.from(`id:${writeKey}`).toString('base64')
  for (const headers of [
    { 'x-api-key': writeKey },
    { authorization: `Bearer ${writeKey}` },
    { authorization: writeKey },
    { authorization: `Basic ${basic}` },
    { authorization: `ApiKey ${basic}` },
    { authorization: `ApiKey ${writeKey}` },
    { 'dd-api-key': writeKey },
  ])
    assert.equal((await send(service, '/api/v2/logs', datadog, headers)).status, 202, Object.values(headers).join())
  assert.equal((await send(service, `/api/v2/logs?dd-api-key=${writeKey}`, datadog, {})).status, 202)
  assert.equal((await send(service, `/v1/input/${writeKey}`, datadog, {})).status, 202)
  assert.equal((await send(service, '/v1/input/wrong', datadog, {})).status, 403)
  const validate = await service.get('/api/v1/validate', { 'dd-api-key': writeKey })
  assert.deepEqual(await validate.json(), { valid: true })
})

test('X-Scope-OrgID is honoured only with tenants:any', async t => {
  const service = await startService(t)
  const secret = await loadSecret({ dataDir: service.dir })
  const token = mintToken(secret, {
    audience: 'log-ingestion',
    role: 'owner',
    subject: 'test',
    clock: service.base.clock,
  })
  for (const credential of [{ 'x-api-key': writeKey }, { authorization: `Bearer ${token}` }])
    for (const asked of ['acme', '../acme']) {
      const answer = await send(service, '/loki/api/v1/push', loki, { ...json, ...credential, 'x-scope-orgid': asked })
      assert.equal(answer.status, 204)
    }
  await service.settled()
  const ledger = await service.sql`
    select tenant, sum(accepted)::int as rows from purser_logs.ledger group by tenant order by tenant`
  assert.deepEqual(
    ledger.map(row => ({ ...row })),
    [
      { tenant: 'acme', rows: 1 },
      { tenant: 'public', rows: 3 },
    ],
  )
})

test('Elasticsearch’s greeting is open; a browser gets the console; what shippers ask first has an answer', async t => {
  const service = await startService(t)
  const greeting = await fetch(`${service.url}/`)
  assert.equal(greeting.headers.get('x-elastic-product'), 'Elasticsearch')
  const { version, tagline } = (await greeting.json()) as { version: Record<string, string>; tagline: string }
  assert.deepEqual([version.number, version.build_flavor, tagline], ['8.19.0', 'default', 'You Know, for Search'])
  assert.notEqual(
    (await fetch(`${service.url}/`, { headers: { accept: 'text/html' } })).headers.get('x-elastic-product'),
    'Elasticsearch',
  )
  assert.equal((await fetch(`${service.url}/_license`)).status, 401)
  for (const [method, path] of [
    ['HEAD', '/'],
    ['GET', '/_license'],
    ['GET', '/_xpack'],
    ['GET', '/_cluster/health'],
    ['GET', '/_nodes/http'],
    ['GET', '/_cat/templates/x'],
    ['PUT', '/elasticsearch/_ilm/policy/x'],
    ['HEAD', '/_index_template/x'],
    ['PUT', '/insert/elasticsearch/_component_template/x'],
    ['HEAD', '/shop'],
    ['PUT', '/shop'],
  ] as const) {
    const answer = await fetch(service.url + path, { method, headers: { 'x-api-key': writeKey } })
    assert.equal(answer.status, 200, `${method} ${path}`)
    assert.equal(answer.headers.get('x-elastic-product'), 'Elasticsearch')
    if (method !== 'HEAD') await answer.json()
  }
})

test('Datadog’s items that cannot be entries are in quarantine, their neighbours stored, and the ledger balances', async t => {
  const service = await startService(t)
  assert.equal((await service.post('/api/v2/logs', '["text",{"message":"good"},7]')).status, 202)
  const only = await service.post('/api/v2/logs', '[8]')
  assert.match(only.headers.get('x-receipt') ?? '', /^rcp_/)
  await service.settled()
  const stored = await service.sql`select message from logs`
  assert.deepEqual(
    stored.map(row => row.message),
    ['good'],
  )
  const quarantined = await service.sql<{ reason: string; detail: string; entry: Buffer; protocol: string }[]>`
    select reason, detail, entry, protocol from purser_logs.quarantine order by id`
  assert.deepEqual(
    quarantined.map(({ reason, detail, entry, protocol }) => [
      reason,
      detail,
      protocol,
      JSON.parse(Buffer.from(entry).toString()).message,
    ]),
    ['"text"', '7', '8'].map(text => ['unusable', 'an item must be an object', 'datadog', text]),
  )
  const [ledger] = await service.sql`
    select sum(accepted)::int as accepted, sum(stored)::int as stored, sum(quarantined)::int as quarantined
    from purser_logs.ledger`
  assert.deepEqual({ ...ledger }, { accepted: 4, stored: 1, quarantined: 3 })
  const receipt = await service.get(`/api/v1/receipts/${only.headers.get('x-receipt')}`)
  const { accepted, quarantined: counted } = (await receipt.json()) as Record<string, unknown>
  assert.deepEqual([Number(accepted), Number(counted)], [1, 1])
})

test('an Idempotency-Key holds for a request of unusable items only, in memory and in the database', async t => {
  const service = await startService(t)
  const send = (body: string) => service.post('/api/v2/logs', body, { 'idempotency-key': 'once' })
  assert.equal((await send('[8]')).headers.get('x-duplicate'), null)
  assert.equal((await send('[8]')).headers.get('x-duplicate'), 'true')
  assert.equal((await send('[9]')).status, 422)
  await service.restart()
  assert.equal((await send('[8]')).headers.get('x-duplicate'), 'true')
  await service.settled()
  const [counts] = await service.sql`
    select (select count(*)::int from purser_logs.quarantine) as quarantined,
           (select count(*)::int from purser_logs.idempotency) as marks`
  assert.deepEqual({ ...counts }, { quarantined: 1, marks: 1 })
})
