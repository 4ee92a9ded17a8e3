import assert from 'node:assert/strict'
import { connect, createServer } from 'node:net'
import { type TestContext, test } from 'node:test'
import { testBase } from '../test/kit/base.ts'
import { closeHttp, createHealth, createHttp, type Health, listen, Problem, serveOnly } from './http.ts'

async function startApp(t: TestContext, o: { lines?: string[] } = {}) {
  const base = testBase(t, o)
  const health: Health = createHealth(base)
  const app = createHttp({ service: 'shop-api', base, health, bodyBytesMax: 1_000 })
  app.post('/echo', async request => request.body)
  app.get('/items/:id', async request => {
    throw new Problem({
      status: 404,
      reason: 'ITEM_NOT_FOUND',
      detail: `No item ${(request.params as { id: string }).id}.`,
      headers: { 'retry-after': '3' },
    })
  })
  app.get('/bug', async () => {
    throw new Error('the password is hunter2')
  })
  const url = await listen(app, { host: '127.0.0.1', port: 0 })
  t.after(() => closeHttp(app, { drainMs: 100 }))
  return { app, url, health, base }
}

const json = { 'content-type': 'application/json' }

test('refusals are problem details with a stable reason, the request id and their headers', async t => {
  const { url } = await startApp(t)
  const answer = await fetch(`${url}/items/7`, { headers: { 'x-request-id': 'abc-1' } })
  assert.equal(answer.status, 404)
  assert.match(answer.headers.get('content-type') ?? '', /^application\/problem\+json/)
  assert.equal(answer.headers.get('x-request-id'), 'abc-1')
  assert.equal(answer.headers.get('retry-after'), '3')
  assert.deepEqual(await answer.json(), {
    type: 'docs/errors.md#item_not_found',
    title: 'Not found',
    status: 404,
    detail: 'No item 7.',
    reason: 'ITEM_NOT_FOUND',
    requestId: 'abc-1',
  })
})

test('bad input names what is wrong: size with its bound, JSON, media type, unknown route', async t => {
  const { url } = await startApp(t)
  const reasonOf = async (path: string, init?: RequestInit) => {
    const body = (await (await fetch(url + path, init)).json()) as { reason: string; detail: string; status: number }
    return `${body.status} ${body.reason} ${body.detail}`
  }
  assert.match(
    await reasonOf('/echo', { method: 'POST', headers: json, body: `"${'x'.repeat(1_000)}"` }),
    /413 BODY_TOO_LARGE .*1000 bytes/,
  )
  assert.match(await reasonOf('/echo', { method: 'POST', headers: json, body: '{"a":' }), /400 INVALID_JSON/)
  assert.match(
    await reasonOf('/echo', { method: 'POST', headers: { 'content-type': 'text/x' }, body: 'a' }),
    /415 UNSUPPORTED_MEDIA_TYPE/,
  )
  assert.match(await reasonOf('/nowhere?key=secret'), /404 NOT_FOUND GET \/nowhere is not a route of shop-api/)
})

test('a bug answers 500 without its message, and the log line carries it with the request id', async t => {
  const lines: string[] = []
  const { url } = await startApp(t, { lines })
  const answer = await fetch(`${url}/bug`, { headers: { 'x-request-id': 'r-9' } })
  assert.equal(answer.status, 500)
  assert.doesNotMatch(await answer.text(), /hunter2/)
  const line = JSON.parse(lines.find(l => l.includes('BUG: request failed')) ?? '{}')
  assert.deepEqual([line.level, line.requestId, line.err.message], ['ERROR', 'r-9', 'the password is hunter2'])
})

test('health says degraded when something is down, down when it is required, and draining is never ready', async t => {
  const { url, health } = await startApp(t)
  const get = async (path: string) => {
    const answer = await fetch(url + path)
    return [answer.status, ((await answer.json()) as { status: string }).status]
  }
  let database: 'ok' | 'down' = 'ok'
  health.add('cache', () => ({ status: 'down', detail: 'refused' }))
  assert.deepEqual(await get('/health'), [200, 'degraded'])
  assert.deepEqual(await get('/health/ready'), [200, 'ready'])
  health.add('database', () => ({ status: database }), { required: true })
  database = 'down'
  assert.deepEqual(await get('/health'), [503, 'down'])
  assert.deepEqual(await get('/health/ready'), [503, 'not_ready'])
  assert.deepEqual(await get('/health/live'), [200, 'alive'])
  database = 'ok'
  const detailed = (await (await fetch(`${url}/health/detailed`)).json()) as {
    dependencies: Record<string, { status: string; detail?: string; since: string }>
  }
  assert.equal(detailed.dependencies.cache?.detail, 'refused')
  assert.match(detailed.dependencies.database?.since ?? '', /^\d{4}-.*Z$/)
  health.draining()
  assert.deepEqual(await get('/health/ready'), [503, 'not_ready'])
})

test('metrics name routes, not paths', async t => {
  const { url } = await startApp(t)
  for (let i = 0; i < 5; i++) await fetch(`${url}/items/${i}`)
  const text = await (await fetch(`${url}/metrics`)).text()
  assert.match(text, /shop_api_http_requests_total\{route="\/items\/:id",method="GET",status="404"\} 5/)
  assert.doesNotMatch(text, /items\/3/)
  assert.match(text, /nodejs_eventloop_lag_seconds/)
})

test('a header block over 16 KiB is refused, a half-sent request does not keep the server from closing', async t => {
  const { url, app } = await startApp(t)
  const answer = await fetch(`${url}/health`, { headers: { 'x-big': 'a'.repeat(17_000) } })
  assert.equal(answer.status, 431)
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.on('error', () => {})
  await new Promise(resolve => socket.once('connect', resolve))
  socket.write('POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf')
  const gone = new Promise(resolve => socket.once('close', resolve))
  await closeHttp(app, { drainMs: 50 })
  await gone
})

test('an open event stream ends when the server closes', async t => {
  const { url, app } = await startApp(t)
  const streaming = createHttp({ service: 'stream', base: testBase(t), health: createHealth(testBase(t)) })
  streaming.get('/events', (request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
    reply.raw.write(': hello\n\n')
    const end = () => void reply.raw.end()
    streaming.openStreams.add(end)
    request.raw.once('close', () => streaming.openStreams.delete(end))
  })
  const streamUrl = await listen(streaming, { host: '127.0.0.1', port: 0 })
  const answer = await fetch(`${streamUrl}/events`)
  const text = answer.text()
  await closeHttp(streaming, { drainMs: 60_000 })
  assert.equal(await text, ': hello\n\n')
  assert.ok(app.server.listening && url)
})

test('a port in use names the port, its holder and the variable that moves it', async t => {
  const holder = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => holder.once('listening', resolve))
  t.after(() => holder.close())
  const { port } = holder.address() as { port: number }
  const base = testBase(t)
  const o = { host: '127.0.0.1', port, variable: 'SHOP_PORT' }
  const expected =
    process.platform === 'linux'
      ? new RegExp(`port ${port} .*in use by .*pid ${process.pid}.*Set SHOP_PORT`)
      : /in use.*Set SHOP_PORT/
  await assert.rejects(listen(createHttp({ service: 'shop', base, health: createHealth(base) }), o), expected)
  await assert.rejects(serveOnly(base.registry, createHealth(base), { ...o, service: 'shop', version: '0' }), expected)
})

test('the metrics port has metrics and health and nothing else', async t => {
  const base = testBase(t)
  const only = await serveOnly(base.registry, createHealth(base), {
    host: '127.0.0.1',
    port: 0,
    service: 'shop',
    version: '1.2.3',
  })
  t.after(() => only.close())
  assert.equal((await fetch(`${only.url}/metrics`)).status, 200)
  assert.deepEqual(await (await fetch(`${only.url}/health`)).json(), {
    status: 'ok',
    service: 'shop',
    version: '1.2.3',
  })
  assert.equal((await fetch(`${only.url}/other`)).status, 404)
  assert.equal((await fetch(`${only.url}/metrics`, { method: 'POST' })).status, 405)
})
