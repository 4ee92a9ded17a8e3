// The intake as existing clients know it: requests and answers, to the byte where the byte is the contract.

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { mintToken } from '#platform/tenancy/token'
import { testBase } from '../../../test/kit/base.ts'
import type { ProblemAnswer, SearchAnswer } from '../api.ts'
import { adminKey, batch, entry, startService, writeKey } from './start.ts'

const single = (o = {}) => JSON.stringify({ log: entry(o) })

async function answerOf(response: Response): Promise<[number, unknown]> {
  assert.equal(response.headers.get('content-type'), 'application/json; charset=utf-8')
  return [response.status, await response.json()]
}

test('native answers', async t => {
  const s = await startService(t)
  const post = async (path: string, body: string, headers?: Record<string, string>) =>
    answerOf(await s.post(path, body, headers))

  await t.test('one entry: 202 Log accepted, with level reached and receipt', async () => {
    const response = await s.post('/api/v1/logs', single())
    assert.equal(response.headers.get('x-ack'), 'disk')
    assert.match(response.headers.get('x-receipt') ?? '', /^rcp_[\w-]{60,}$/)
    assert.deepEqual(await answerOf(response), [202, { message: 'Log accepted' }])
  })
  await t.test('a batch: counts, and rejected and errors only when some failed', async () => {
    assert.deepEqual(await post('/api/v1/logs/batch', batch(entry(), entry())), [
      202,
      { message: 'Batch processed', accepted: 2, total: 2 },
    ])
    assert.deepEqual(
      await post('/api/v1/logs/batch/', batch(entry(), entry({ service: '' }), entry({ level: 'loud' }))),
      [
        202,
        {
          message: 'Batch processed',
          accepted: 1,
          total: 3,
          rejected: 2,
          errors: [
            'Log entry 1 validation failed: service is required',
            'Log entry 2 validation failed: invalid log level: loud',
          ],
        },
      ],
    )
  })
  await t.test('all failed is still 202, and nothing was written', async () => {
    const response = await s.post('/api/v1/logs/batch', batch(entry({ message: '' })))
    assert.equal(response.headers.get('x-receipt'), null)
    assert.deepEqual(await answerOf(response), [
      202,
      {
        message: 'Batch processed',
        accepted: 0,
        total: 1,
        rejected: 1,
        errors: ['Log entry 0 validation failed: message is required'],
      },
    ])
  })
  await t.test('a single entry that breaks a rule: 400 Validation failed', async () => {
    assert.deepEqual(await post('/api/v1/logs', single({ message: '' })), [
      400,
      { error: 'Validation failed', details: 'message is required' },
    ])
    assert.deepEqual(await post('/api/v1/logs', '{}'), [
      400,
      { error: 'Validation failed', details: 'timestamp is required' },
    ])
  })
  await t.test('no entries: 400 Empty batch', async () => {
    for (const body of ['{"logs":[]}', '{"logs":null}', '{}', 'null'])
      assert.deepEqual(await post('/api/v1/logs/batch', body), [400, { error: 'Empty batch' }])
  })
  await t.test('unreadable bodies: 400 Invalid request body with details', async () => {
    assert.deepEqual(await post('/api/v1/logs', ''), [400, { error: 'Invalid request body', details: 'EOF' }])
    assert.deepEqual(await post('/api/v1/logs', '{"log":{'), [
      400,
      { error: 'Invalid request body', details: 'unexpected EOF' },
    ])
    const [status, body] = await post('/api/v1/logs/batch', batch(entry(), entry({ timestamp: '2026-01-01 00:00' })))
    assert.equal(status, 400)
    assert.match((body as { details: string }).details, /^log entry 1: field "timestamp" must be an RFC 3339 time/)
  })
  await t.test('X-Batch-Errors: entry keeps the neighbours of an undecodable entry', async () => {
    const [status, body] = await post('/api/v1/logs/batch', batch(entry(), { ...entry(), message: 5 }), {
      'x-batch-errors': 'entry',
    })
    assert.equal(status, 202)
    assert.equal((body as { accepted: number }).accepted, 1)
  })
  await t.test('lines: counts as for a batch, errors by line', async () => {
    assert.deepEqual(await post('/api/v1/logs/ndjson?service=shop', 'one\n\n{"msg":"two"}\n'), [
      202,
      { message: 'Batch processed', accepted: 2, total: 2 },
    ])
    assert.deepEqual(await post('/insert/jsonline', 'x'), [202, { message: 'Batch processed', accepted: 1, total: 1 }])
  })
  await t.test('the Content-Type is not looked at', async () => {
    assert.equal((await s.post('/api/v1/logs', single(), { 'content-type': 'text/nonsense' })).status, 202)
  })
  await t.test('unknown routes and wrong methods: 404 Not found, never 405', async () => {
    for (const [method, path] of [
      ['GET', '/api/nothing'],
      ['GET', '/api/v1/logs'],
      ['PUT', '/api/v1/logs/batch'],
      ['DELETE', '/api/v1/logs/search'],
    ]) {
      const response = await fetch(s.url + path, { method: method ?? '' })
      assert.deepEqual(await answerOf(response), [404, { error: 'Not found' }], `${method} ${path}`)
    }
  })
})

test('the credential ladder', async t => {
  const base = testBase(t)
  const s = await startService(t, { base, env: { PURSER_SECRET: 'a secret of at least thirty-two bytes' } })
  const token = (role: 'operator' | 'viewer', audience = 'log-ingestion') =>
    mintToken(Buffer.from('a secret of at least thirty-two bytes'), {
      audience,
      role,
      subject: 'supervisor',
      clock: base.clock,
    })
  const send = async (headers: Record<string, string>, path = '/api/v1/logs') => {
    const body = path.endsWith('ndjson') ? 'line' : single()
    const response = await fetch(s.url + path, { method: 'POST', body, headers })
    return [response.status, ((await response.json()) as { error?: string }).error]
  }
  const accepted = [202, undefined]
  const invalid = [401, 'Invalid API key']
  const missing = [401, 'API key is required']
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`
  const cases: [string, Record<string, string>, unknown[], string?][] = [
    ['X-API-Key', { 'x-api-key': writeKey }, accepted],
    ['Bearer, any case', { authorization: `bEaReR ${writeKey}` }, accepted],
    ['bare Authorization', { authorization: writeKey }, accepted],
    ['Bearer with two spaces', { authorization: `Bearer  ${writeKey}` }, invalid],
    [
      'a wrong X-API-Key is not saved by a right Authorization',
      { 'x-api-key': 'wrong', authorization: `Bearer ${writeKey}` },
      invalid,
    ],
    ['an empty X-API-Key counts as none', { 'x-api-key': '', authorization: `Bearer ${writeKey}` }, accepted],
    ['no key', {}, missing],
    ['a wrong key', { 'x-api-key': 'wrong' }, invalid],
    ['an internal token that may write', { authorization: `Bearer ${token('operator')}` }, accepted],
    ['an internal token that may only read', { authorization: `Bearer ${token('viewer')}` }, invalid],
    ['an internal token for somebody else', { authorization: `Bearer ${token('operator', 'billaged')}` }, invalid],
    ['Basic on a native route', { authorization: basic(`u:${writeKey}`) }, invalid],
    ['Basic on a newer route', { authorization: basic(`u:${writeKey}`) }, accepted, '/api/v1/logs/ndjson'],
    [
      'ApiKey id:key',
      { authorization: `ApiKey ${Buffer.from(`id:${writeKey}`).toString('base64')}` },
      accepted,
      '/api/v1/logs/ndjson',
    ],
    ['ApiKey key', { authorization: `ApiKey ${writeKey}` }, accepted, '/api/v1/logs/ndjson'],
    ['DD-API-KEY', { 'dd-api-key': writeKey }, accepted, '/api/v1/logs/ndjson'],
  ]
  for (const [what, headers, expected, path] of cases)
    await t.test(what, async () => assert.deepEqual(await send(headers, path), expected))
})

test('compressed bodies', async t => {
  const s = await startService(t, {
    env: { LOG_INGESTION_BODY_BYTES_MAX: '1MiB', LOG_INGESTION_INFLIGHT_BYTES_MAX: '4MiB' },
  })
  const body = Buffer.from(batch(entry({ message: 'packed' })))
  for (const [encoding, packed] of [
    ['gzip', gzipSync(body)],
    ['X-GZIP', gzipSync(body)],
    ['deflate', deflateSync(body)],
    ['deflate', deflateRawSync(body)],
    ['br', brotliCompressSync(body)],
    ['zstd', zstdCompressSync(body)],
    ['identity', body],
  ] as const)
    await t.test(`${encoding} is read`, async () => {
      const response = await s.post('/api/v1/logs/batch', Uint8Array.from(packed), { 'content-encoding': encoding })
      assert.deepEqual(
        [response.status, await response.json()],
        [202, { message: 'Batch processed', accepted: 1, total: 1 }],
      )
    })

  await t.test('a cut stream is 400', async () => {
    const packed = Uint8Array.from(gzipSync(body).subarray(0, 40))
    const response = await s.post('/api/v1/logs/batch', packed, { 'content-encoding': 'gzip' })
    assert.equal(response.status, 400)
    assert.match(((await response.json()) as { details: string }).details, /^the gzip stream cannot be read/)
  })
  await t.test('a bomb is 413 with value and bound, and the service goes on', async () => {
    const bomb = Uint8Array.from(gzipSync(Buffer.alloc(200 * 1024 * 1024)))
    const response = await s.post('/api/v1/logs/batch', bomb, { 'content-encoding': 'gzip' })
    assert.deepEqual(
      [response.status, await response.json()],
      [413, { error: 'Request body too large', details: 'the decoded body exceeds 1048576 bytes; send less at once' }],
    )
    assert.equal((await s.post('/api/v1/logs', single())).status, 202)
  })
  await t.test('a large plain body is 413', async () => {
    const response = await s.post('/api/v1/logs/batch', 'x'.repeat(2 * 1024 * 1024))
    assert.deepEqual(
      [response.status, ((await response.json()) as { error: string }).error],
      [413, 'Request body too large'],
    )
  })
  for (const encoding of ['lz4', 'gzip, gzip'])
    await t.test(`${encoding} is 415`, async () => {
      const response = await s.post('/api/v1/logs', single(), { 'content-encoding': encoding })
      assert.deepEqual(
        [response.status, ((await response.json()) as { error: string }).error],
        [415, 'Unsupported content encoding'],
      )
    })
})

test('too many entries are 413 with the bound', async t => {
  const s = await startService(t, { env: { LOG_INGESTION_ROWS_PER_REQUEST_MAX: '2' } })
  const response = await s.post('/api/v1/logs/batch', batch(entry(), entry(), entry()))
  assert.deepEqual(
    [response.status, await response.json()],
    [413, { error: 'Request body too large', details: 'the request has more than 2 entries; send fewer at once' }],
  )
})

test('half of a body and then nobody: nothing is stored', async t => {
  const s = await startService(t)
  const socket = connect(Number(new URL(s.url).port), '127.0.0.1')
  socket.write(
    `POST /api/v1/logs HTTP/1.1\r\nHost: x\r\nX-API-Key: ${writeKey}\r\nContent-Length: 1000\r\n\r\n${single()}`,
  )
  await new Promise<void>(resolve => socket.write('', () => resolve()))
  socket.destroy()
  assert.equal((await s.post('/api/v1/logs', single({ message: 'after' }))).status, 202)
  await s.settled()
  const rows = await s.sql<{ message: string }[]>`select message from logs`
  assert.deepEqual(
    rows.map(row => row.message),
    ['after'],
  )
})

test('every route reads JSON whatever its Content-Type says, and nothing else', async t => {
  const s = await startService(t)
  await s.post('/api/v1/logs/batch', batch(entry({ message: 'wanted' }), entry({ message: 'other' })))
  await s.settled()
  for (const type of [
    'application/json',
    'text/plain;charset=UTF-8',
    'application/x-www-form-urlencoded',
    'application/xml',
    '',
  ]) {
    const send = async (path: string, body: string) => {
      const headers: Record<string, string> = {
        'x-api-key': adminKey,
        ...(type === '' ? {} : { 'content-type': type }),
      }
      // Bytes: a text would get a type of its own.
      const answer = await fetch(s.url + path, { method: 'POST', body: Buffer.from(body), headers })
      return { status: answer.status, body: (await answer.json()) as SearchAnswer & ProblemAnswer }
    }
    const found = await send('/api/v1/logs/search', '{"q":"wanted"}')
    assert.deepEqual(
      found.body.logs.map(({ message }) => message),
      ['wanted'],
      `as ${type}`,
    )
    assert.equal((await send('/admin/login', '{"email":"a@b.example","password":"secret1"}')).status, 401, `as ${type}`)
    const refused = await send('/api/v1/logs/search', 'q=wanted')
    assert.deepEqual([refused.status, refused.body.reason], [400, 'INVALID_JSON'], `as ${type}`)
    assert.equal((await send('/api/v1/logs/search', '{"__proto__":{"q":"wanted"}}')).status, 400, `as ${type}`)
  }
  for (const [path, error] of [
    ['/auth/login', 'Invalid request'],
    ['/admin/api/keys', 'Invalid request'],
    ['/api/v1/notices', 'Invalid request body'],
    ['/v1/notices/js', 'Invalid request body'],
    ['/api/v1/faults/1/comments', 'Invalid request body'],
  ] as const) {
    const answer = await s.post(path, '{"cut', { 'x-api-key': adminKey })
    assert.deepEqual(
      [answer.status, await answer.json()],
      [400, { error, details: 'The body is not valid JSON.' }],
      path,
    )
  }
})

test('health, readiness and metrics', async t => {
  const s = await startService(t)
  const health = await fetch(`${s.url}/health`)
  assert.deepEqual([health.status, await health.json()], [200, { status: 'healthy' }])
  assert.equal((await fetch(`${s.url}/health`, { method: 'HEAD' })).status, 200)
  for (const path of ['/health/live', '/health/ready', '/ready']) assert.equal((await fetch(s.url + path)).status, 200)
  assert.equal((await fetch(`${s.url}/health/detailed`)).status, 401)
  const detailed = (await (await s.get('/health/detailed')).json()) as {
    dependencies: Record<string, { status: string }>
  }
  assert.deepEqual(Object.keys(detailed.dependencies).sort(), ['database', 'journal', 'quarantine', 'usage'])
  await s.post('/api/v1/logs/batch', batch(entry(), entry({ level: 'x' })))
  await s.settled()
  const metrics = await (await fetch(`${s.url}/metrics`)).text()
  for (const line of [
    'log_ingestion_http_requests_total{route="/api/v1/logs/batch",method="POST",status="202"} 1',
    'log_ingestion_rows_total{outcome="accepted",protocol="native"} 1',
    'log_ingestion_rejected_rows_total{protocol="native",reason="validation"} 1',
    'log_ingestion_db_up 1',
    'log_ingestion_journal_pending_rows 0',
  ])
    assert.ok(metrics.includes(line), line)
})
