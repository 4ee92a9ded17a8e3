import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import { create, toBinary } from '@bufbuild/protobuf'
import { Code, ConnectError, createClient, type ServiceImpl } from '@connectrpc/connect'
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from '@connectrpc/connect-node'
import * as grpc from '@grpc/grpc-js'
import fc from 'fast-check'
import {
  BillingService,
  NotifyPossibleGapRequestSchema,
  NotifyVmStoppedRequestSchema,
  SendMetricsBatchRequestSchema,
} from '#proto/billing/v1/billing_pb'
import { testBase } from '../test/kit/base.ts'
import { createHealth, createHttp } from './http.ts'
import { callKey, createPort, createRpc, type Port, type PortOptions, rpcError } from './rpc.ts'

const readMaxBytes = 4096
const path = '/billing.v1.BillingService/NotifyVmStopped'

interface Started {
  url: string
  port: number
  close: Port['close']
  metrics(): Promise<string>
}

async function start(
  t: TestContext,
  impl: Partial<ServiceImpl<typeof BillingService>>,
  o?: Partial<PortOptions>,
): Promise<Started> {
  const base = testBase(t)
  const app = createHttp({ service: 'rpc-test', base, health: createHealth(base) })
  app.post('/echo', async request => request.body)
  await app.ready()
  const handler = createRpc({
    routes: router => router.service(BillingService, impl),
    fallback: app.routing,
    readMaxBytes,
    ...base,
  })
  const port = createPort({ handler, log: base.log, ...o })
  const url = await port.listen('127.0.0.1', 0)
  let closing: Promise<void> | undefined
  const close = (drainMs: number) => (closing ??= port.close(drainMs))
  t.after(async () => {
    await close(0)
    await app.close()
  })
  return { url, port: Number(new URL(url).port), close, metrics: () => base.registry.metrics() }
}

/** Replies with what came in, so that a digit lost on the way shows. */
const batchEcho: Partial<ServiceImpl<typeof BillingService>> = {
  sendMetricsBatch: req => ({
    success: true,
    message: req.metrics.map(m => `${m.cpuTimeNanos},${m.memoryUsageBytes}`).join(' '),
  }),
  notifyVmStopped: () => ({ success: true }),
}

const post = (
  url: string,
  type: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
) => fetch(url, { method: 'POST', headers: { 'content-type': type, ...headers }, body })

test('official clients of three protocols and two HTTP versions share one port at the same time', async t => {
  const { url, port } = await start(t, batchEcho)
  const transports = [
    createConnectTransport({ baseUrl: url, httpVersion: '1.1' }),
    createConnectTransport({ baseUrl: url, httpVersion: '2', useBinaryFormat: true, sendCompression: compressionGzip }),
    createGrpcTransport({ baseUrl: url }),
    createGrpcTransport({ baseUrl: url, useBinaryFormat: false }),
    createGrpcWebTransport({ baseUrl: url, httpVersion: '1.1', acceptCompression: [compressionGzip] }),
    createGrpcWebTransport({ baseUrl: url, httpVersion: '2', useBinaryFormat: false }),
  ]
  const grpcJs = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure())
  t.after(() => grpcJs.close())
  const unary = (vmId: string) =>
    new Promise<Buffer>((resolve, reject) => {
      grpcJs.makeUnaryRequest(
        path,
        (message: Buffer) => message,
        (bytes: Buffer) => bytes,
        Buffer.from(toBinary(NotifyVmStoppedRequestSchema, create(NotifyVmStoppedRequestSchema, { vmId }))),
        (error, reply) => (error !== null ? reject(error) : resolve(reply ?? Buffer.alloc(0))),
      )
    })
  const metrics = [{ cpuTimeNanos: 2n ** 63n - 1n, memoryUsageBytes: 9_007_199_254_740_993n }]
  const calls = transports.map(async transport => {
    for (let i = 0; i < 5; i++) {
      const reply = await createClient(BillingService, transport).sendMetricsBatch({ vmId: 'vm', metrics })
      assert.equal(reply.message, '9223372036854775807,9007199254740993')
    }
  })
  const others = Array.from({ length: 5 }, async (_, i) =>
    assert.equal((await unary(`vm-${i}`)).toString('hex'), '0801'),
  )
  const echo = post(`${url}/echo`, 'application/json', '{"a":1}').then(async r =>
    assert.equal(await r.text(), '{"a":1}'),
  )
  await Promise.all([...calls, ...others, echo])
})

test('the protocols are told apart however the first bytes are cut', async t => {
  const { port } = await start(t, batchEcho)
  const body = toBinary(NotifyVmStoppedRequestSchema, create(NotifyVmStoppedRequestSchema, { vmId: 'vm' }))
  const request = `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/proto\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n`
  const h1 = Buffer.concat([Buffer.from(request), body])
  const preface = Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    Buffer.alloc(9).fill(Buffer.of(0, 0, 0, 4), 0, 4),
  ])
  const cuts = fc.array(fc.nat(h1.length), { maxLength: 6 }).map(c => [...new Set(c)].sort((a, b) => a - b))
  await fc.assert(
    fc.asyncProperty(cuts, fc.boolean(), async (at, isHttp2) => {
      const bytes = isHttp2 ? preface : h1
      const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
      await once(socket, 'connect')
      let sent = 0
      for (const cut of [...at.filter(c => c < bytes.length), bytes.length]) {
        socket.write(bytes.subarray(sent, cut))
        sent = cut
        await new Promise(setImmediate)
      }
      const [first]: Buffer[] = await once(socket, 'data')
      // A server's first HTTP/2 frame is SETTINGS (type 4).
      if (isHttp2) assert.equal(first?.[3], 4)
      else assert.match(String(first), /^HTTP\/1\.1 200 OK/)
      socket.destroy()
    }),
    { numRuns: 40 },
  )
})

test('bare 64-bit numbers keep every digit in Connect JSON, gRPC+json and gRPC-web+json', async t => {
  const { url } = await start(t, batchEcho)
  const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
  const frame = (text: string) => {
    const head = Buffer.alloc(5)
    head.writeUInt32BE(Buffer.byteLength(text), 1)
    return Buffer.concat([head, Buffer.from(text)])
  }
  await fc.assert(
    fc.asyncProperty(int64, int64, fc.boolean(), async (cpu, memory, isCamel) => {
      const [c, m] = isCamel ? ['cpuTimeNanos', 'memoryUsageBytes'] : ['cpu_time_nanos', 'memory_usage_bytes']
      const text = `{"vmId":"9007199254740993","unknown":[1e400,{"x":null}],"metrics":[{"${c}":${cpu},"${m}": ${memory}}]}`
      const expected = `${cpu},${memory}`
      const rpc = `${url}/billing.v1.BillingService/SendMetricsBatch`
      const connect = await post(rpc, 'application/json', text)
      assert.deepEqual(await connect.json(), { success: true, message: expected })
      for (const type of ['application/grpc+json', 'application/grpc-web+json']) {
        const reply = Buffer.from(await (await post(rpc, type, frame(text))).arrayBuffer())
        assert.ok(reply.includes(`"${expected}"`), `${type}: ${reply}`)
      }
    }),
    { numRuns: 40 },
  )
})

test('GET is 405 with Allow, an unknown type 415, an unknown procedure 404 with problem details', async t => {
  const { url } = await start(t, batchEcho)
  const get = await fetch(url + path)
  assert.deepEqual([get.status, get.headers.get('allow')], [405, 'POST'])
  assert.equal((await post(url + path, 'text/plain', 'x')).status, 415)
  const unknown = await post(`${url}/billing.v1.BillingService/Nope`, 'application/json', '{}')
  assert.equal(unknown.status, 404)
  assert.match(unknown.headers.get('content-type') ?? '', /^application\/problem\+json/)
  const unimplemented = await post(`${url}/billing.v1.BillingService/SendHeartbeat`, 'application/json', '{}')
  assert.equal(unimplemented.status, 501)
})

test('a message that does not decode is invalid_argument in every protocol', async t => {
  const { url, metrics } = await start(t, batchEcho)
  const bad = Uint8Array.of(0x0a, 0xff)
  const framed = Uint8Array.of(0, 0, 0, 0, bad.length, ...bad)
  const connect = await post(url + path, 'application/proto', bad)
  assert.equal(connect.status, 400)
  assert.equal(JSON.parse(await connect.text()).code, 'invalid_argument')
  for (const [type, body] of [
    ['application/json', '{"vmId":'],
    ['application/json', '{"vmId":5}'],
    ['application/json', Uint8Array.of(0x22, 0xff, 0x22)],
    ['application/json', `${'['.repeat(2000)}`],
  ] as const) {
    const json = await post(url + path, type, body)
    assert.equal(json.status, 400, String(body))
    assert.equal(JSON.parse(await json.text()).code, 'invalid_argument')
  }
  const web = await post(url + path, 'application/grpc-web+proto', framed)
  assert.match(Buffer.from(await web.arrayBuffer()).toString(), /grpc-status: ?3\r\n/)
  const session = http2.connect(url)
  t.after(() => session.destroy())
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  stream.end(framed)
  stream.resume()
  const [trailers] = await once(stream, 'trailers')
  assert.equal(trailers['grpc-status'], '3')
  assert.match(await metrics(), /rpc_server_requests_total\{[^}]*rpc_status="invalid_argument"\} 7/)
})

test('a message over the bound is resource_exhausted and names value and bound, a gzip bomb is stopped', async t => {
  const { url } = await start(t, batchEcho)
  const big = JSON.stringify({ vmId: 'x'.repeat(readMaxBytes) })
  const plain = await post(url + path, 'application/json', big)
  assert.equal(plain.status, 429)
  const error = JSON.parse(await plain.text())
  assert.equal(error.code, 'resource_exhausted')
  assert.match(error.message, new RegExp(`${big.length}.*${readMaxBytes}`))
  const bomb = gzipSync(JSON.stringify({ vmId: 'x'.repeat(1_000_000) }))
  assert.ok(bomb.length < readMaxBytes)
  const zipped = await post(url + path, 'application/json', bomb, { 'content-encoding': 'gzip' })
  assert.equal(zipped.status, 429)
  assert.match(await zipped.text(), new RegExp(`${readMaxBytes}`))
})

test('a bug is internal without detail, named failures keep code, reason and Retry-After; both are counted', async t => {
  const { url, metrics } = await start(t, {
    sendHeartbeat: () => {
      throw new TypeError('password hunter2')
    },
    notifyVmStopped: () => {
      throw rpcError({
        code: Code.Unavailable,
        message: 'later',
        reason: 'JOURNAL_FULL',
        domain: 'test',
        retryAfterS: 3,
      })
    },
  })
  const bug = await post(`${url}/billing.v1.BillingService/SendHeartbeat`, 'application/json', '{}')
  assert.equal(bug.status, 500)
  assert.deepEqual(await bug.json(), { code: 'internal', message: 'internal error' })
  const named = await post(url + path, 'application/json', '{}')
  assert.equal(named.status, 503)
  assert.equal(named.headers.get('retry-after'), '3')
  const client = createClient(BillingService, createGrpcTransport({ baseUrl: url }))
  const error = await client.notifyVmStopped({}).then(() => null, ConnectError.from)
  assert.equal(error?.code, Code.Unavailable)
  assert.equal(error?.metadata.get('retry-after'), '3')
  const text = await metrics()
  assert.match(text, /rpc_server_panics_total\{rpc_method="[^"]*SendHeartbeat",panic_type="TypeError"\} 1/)
  assert.match(text, /rpc_server_requests_total\{rpc_method="[^"]*NotifyVmStopped",rpc_status="unavailable"\} 2/)
  assert.match(text, /rpc_server_active_requests\{rpc_method="[^"]*NotifyVmStopped"\} 0/)
})

test('request ids come back, deadlines of both dialects abort the handler', async t => {
  const ids: string[] = []
  const { url } = await start(t, {
    notifyVmStarted: (_, context) => {
      ids.push(context.values.get(callKey).requestId)
      return { success: true }
    },
    notifyVmStopped: (_, context) =>
      new Promise((_, reject) => {
        context.signal.addEventListener('abort', () => reject(context.signal.reason))
      }),
  })
  const started = `${url}/billing.v1.BillingService/NotifyVmStarted`
  const given = await post(started, 'application/json', '{}', { 'x-request-id': 'abc-1' })
  assert.equal(given.headers.get('x-request-id'), 'abc-1')
  const made = await post(started, 'application/json', '{}', { 'x-request-id': 'has space' })
  assert.deepEqual(ids, ['abc-1', made.headers.get('x-request-id')])
  const late = await post(url + path, 'application/json', '{}', { 'connect-timeout-ms': '20' })
  assert.equal(late.status, 504)
  assert.equal(JSON.parse(await late.text()).code, 'deadline_exceeded')
  const client = createClient(BillingService, createGrpcTransport({ baseUrl: url, defaultTimeoutMs: 20 }))
  const error = await client.notifyVmStopped({}).then(() => null, ConnectError.from)
  assert.equal(error?.code, Code.DeadlineExceeded)
})

test('a request without a usable authority is refused and the process lives on', async t => {
  const { url, port } = await start(t, batchEcho)
  for (const host of ['', 'host: [\r\n']) {
    const socket = net.connect(port, '127.0.0.1')
    socket.write(`POST ${path} HTTP/1.0\r\n${host}content-type: application/json\r\ncontent-length: 2\r\n\r\n{}`)
    const [answer] = await once(socket, 'data')
    assert.match(String(answer), /^HTTP\/1\.[01] 400/)
    socket.destroy()
  }
  assert.equal((await post(url + path, 'application/json', '{}')).status, 200)
})

test('clients that dawdle over the first byte, the headers or the body are cut', async t => {
  const { port, url } = await start(t, batchEcho, { headersTimeoutMs: 80, requestTimeoutMs: 160 })
  const ended = async (bytes: string) => {
    const socket = net.connect(port, '127.0.0.1')
    socket.on('error', () => {})
    socket.resume()
    if (bytes !== '') socket.write(bytes)
    await once(socket, 'close')
  }
  const session = http2.connect(url)
  session.on('error', () => {})
  t.after(() => session.destroy())
  const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/proto' })
  stream.on('error', () => {})
  stream.write('x')
  await Promise.all([
    ended(''),
    ended('PR'),
    ended('POST / HTTP/1.1\r\nx: '),
    ended(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n{`),
    once(stream, 'close'),
  ])
})

test('a half-closed HTTP/1.1 client still gets its answer', async t => {
  const { port } = await start(t, batchEcho)
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  socket.end(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`)
  const [answer] = await once(socket, 'data')
  assert.match(String(answer), /200 OK/)
  socket.destroy()
})

test('closing lets requests of both protocols finish, ends idle connections, and cuts the rest at the deadline', async t => {
  const waiting: (() => void)[] = []
  const { url, port, close } = await start(t, {
    notifyVmStopped: () => new Promise(resolve => waiting.push(() => resolve({ success: true }))),
    notifyPossibleGap: () => new Promise(() => {}),
  })
  const agent = new http.Agent({ keepAlive: true })
  t.after(() => agent.destroy())
  const idle = net.connect(port, '127.0.0.1')
  idle.on('error', () => {})
  const idleClosed = once(idle, 'close')
  await once(idle, 'connect')
  const h1 = new Promise<number | undefined>((resolve, reject) => {
    const req = http.request(
      url + path,
      { method: 'POST', agent, headers: { 'content-type': 'application/json' } },
      res => {
        res.resume()
        res.on('end', () => resolve(res.statusCode))
      },
    )
    req.on('error', reject)
    req.end('{}')
  })
  const session = http2.connect(url)
  const goaway = once(session, 'goaway')
  const client = createClient(BillingService, createGrpcTransport({ baseUrl: url }))
  const h2 = client.notifyVmStopped({})
  const stuck = session.request({
    ':method': 'POST',
    ':path': '/billing.v1.BillingService/NotifyPossibleGap',
    'content-type': 'application/proto',
  })
  stuck.on('error', () => {})
  stuck.end(toBinary(NotifyPossibleGapRequestSchema, create(NotifyPossibleGapRequestSchema)))
  while (waiting.length < 2) await new Promise(setImmediate)
  const closed = close(300)
  await Promise.all([goaway, idleClosed])
  for (const finish of waiting) finish()
  assert.equal(await h1, 200)
  assert.equal((await h2).success, true)
  await closed
  await assert.rejects(once(net.connect(port, '127.0.0.1'), 'connect'))
})

test('TLS serves both protocols by ALPN and, with a CA, only clients it signed', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'purser-tls-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=ca', '-days', '2')
  for (const name of ['server', 'client']) {
    const extra = ['-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost']
    const sign = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-days', '2']
    openssl(
      'req',
      '-x509',
      ...key,
      ...sign,
      ...extra,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.pem`,
      '-subj',
      `/CN=${name}`,
    )
  }
  const file = (name: string) => join(dir, name)
  const certified: boolean[] = []
  const { url } = await start(
    t,
    {
      notifyVmStopped: (_, context) => {
        certified.push(context.values.get(callKey).isCertified)
        return { success: true }
      },
    },
    { tls: { cert: file('server.pem'), key: file('server.key'), ca: file('ca.pem') } },
  )
  assert.match(url, /^https:/)
  const ca = readFileSync(file('ca.pem'))
  const nodeOptions = { ca, cert: readFileSync(file('client.pem')), key: readFileSync(file('client.key')) }
  for (const transport of [
    createConnectTransport({ baseUrl: url, httpVersion: '1.1', nodeOptions }),
    createGrpcTransport({ baseUrl: url, nodeOptions }),
  ])
    assert.equal((await createClient(BillingService, transport).notifyVmStopped({})).success, true)
  assert.deepEqual(certified, [true, true])
  const stranger = createConnectTransport({ baseUrl: url, httpVersion: '1.1', nodeOptions: { ca } })
  await assert.rejects(createClient(BillingService, stranger).notifyVmStopped({}))
  const { log } = testBase(t)
  const broken = createPort({ handler: () => {}, log, tls: { cert: file('none.pem'), key: file('server.key') } })
  await assert.rejects(broken.listen('127.0.0.1', 0), /none\.pem cannot be read/)
})

test('a port in use is named together with the setting that moves it', async t => {
  const { port } = await start(t, batchEcho)
  const second = createPort({ handler: () => {}, log: testBase(t).log })
  await assert.rejects(
    second.listen('127.0.0.1', port, { variable: 'BILLAGED_PORT' }),
    new RegExp(`${port}.*BILLAGED_PORT`),
  )
})

test('the three billing packages have one body', () => {
  const body = (file: string) =>
    readFileSync(new URL(`../proto/${file}`, import.meta.url), 'utf8').replace(/^[\s\S]*?\nservice /, 'service ')
  assert.equal(body('deploy/billaged/v1/billaged.proto'), body('billing/v1/billing.proto'))
  assert.equal(body('billaged/v1/billaged.proto'), body('billing/v1/billing.proto'))
  assert.equal(SendMetricsBatchRequestSchema.fields.length, 3)
})
