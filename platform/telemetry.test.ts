import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type TestContext, test } from 'node:test'
import { testBase } from '../test/kit/base.ts'
import { closeHttp, createHealth, createHttp, listen } from './http.ts'
import { createLog, createRegistry, prettyLine, startTracing } from './telemetry.ts'

function logInto(lines: string[], format: 'json' | 'pretty' = 'json') {
  return createLog({ service: 'shop', level: 'info', format, destination: { write: line => void lines.push(line) } })
}

test('a log line is one JSON object: level in capitals, time, service, msg, and the cause of an error', () => {
  const lines: string[] = []
  logInto(lines).error(
    { err: new Error('outer', { cause: new Error('inner') }), requestId: 'r1', tenant: 'acme' },
    'it broke',
  )
  const line = JSON.parse(lines[0] ?? '')
  assert.deepEqual(
    [line.level, line.service, line.msg, line.requestId, line.tenant],
    ['ERROR', 'shop', 'it broke', 'r1', 'acme'],
  )
  assert.match(line.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  assert.deepEqual([line.err.message, line.err.cause.message], ['outer', 'inner'])
  assert.equal(lines.length, 1)
})

test('what is named like a credential is hidden, at the top and one level down', () => {
  const lines: string[] = []
  logInto(lines).info({ password: 'hunter2', config: { token: 'hunter3', apiKey: 'hunter4' } }, 'hello')
  assert.doesNotMatch(lines.join(), /hunter/)
})

test('the readable form carries the same facts', () => {
  const lines: string[] = []
  logInto(lines, 'pretty').warn({ port: 8080, err: new Error('a', { cause: new Error('b') }) }, 'slow')
  assert.match(lines[0] ?? '', /^\d\d:\d\d:\d\d\.\d{3} WARN {2}shop +slow port=8080 error="a" cause="b"\n$/)
  assert.equal(prettyLine('not json'), 'not json')
})

test('the registry has build, process and event-loop families under fixed names', async () => {
  const text = await createRegistry({ service: 'log-ingestion', version: '1.2.3' }).metrics()
  assert.match(text, /^log_ingestion_build_info\{version="1\.2\.3",runtime="v\d+/m)
  for (const family of ['process_cpu_seconds_total', 'process_resident_memory_bytes', 'nodejs_eventloop_lag_seconds'])
    assert.match(text, new RegExp(`^# TYPE ${family} `, 'm'))
})

test('a traced request becomes a span of the caller’s trace, sent over OTLP with the answer’s status', async t => {
  const received = await receiveOtlp(t)
  const tracing = await startTracing({ service: 'shop', version: '1', endpoint: received.hostAndPort, samplingRate: 1 })
  const base = testBase(t)
  const app = createHttp({ service: 'shop', base, health: createHealth(base), tracing })
  app.get('/items/:id', async (_, reply) => reply.code(418).send({}))
  const url = await listen(app, { host: '127.0.0.1', port: 0 })
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  await (await fetch(`${url}/items/7`, { headers: { traceparent: `00-${traceId}-00f067aa0ba902b7-01` } })).arrayBuffer()
  await (await fetch(`${url}/items/8`, { headers: { traceparent: 'garbage' } })).arrayBuffer()
  await closeHttp(app, { drainMs: 100 })
  await tracing.close()
  const spans = received.spans()
  assert.deepEqual(
    spans.map(s => s.name),
    ['GET /items/:id', 'GET /items/:id'],
  )
  assert.deepEqual([spans[0]?.traceId, spans[0]?.parentSpanId], [traceId, '00f067aa0ba902b7'])
  assert.notEqual(spans[1]?.traceId, traceId)
  assert.ok(spans[0]?.attributes.some(a => a.key === 'http.response.status_code' && a.value.intValue === 418))
})

test('a caller who does not sample is not sampled', async t => {
  const received = await receiveOtlp(t)
  const tracing = await startTracing({
    service: 'shop',
    version: '1',
    endpoint: `http://${received.hostAndPort}/v1/traces`,
    samplingRate: 1,
  })
  tracing.serverSpan('a', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00', {}).end(200)
  await tracing.close()
  assert.deepEqual(received.spans(), [])
})

interface Span {
  name: string
  traceId: string
  parentSpanId?: string
  attributes: { key: string; value: { intValue?: number; stringValue?: string } }[]
}

/** A collector that takes OTLP/HTTP JSON. */
async function receiveOtlp(t: TestContext) {
  const bodies: string[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', chunk => chunks.push(chunk))
    request.on('end', () => {
      if (request.url === '/v1/traces') bodies.push(Buffer.concat(chunks).toString('utf8'))
      response.setHeader('content-type', 'application/json').end('{}')
    })
  }).listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  t.after(() => server.close())
  const { port } = server.address() as { port: number }
  return {
    hostAndPort: `127.0.0.1:${port}`,
    spans: () =>
      bodies.flatMap(body =>
        (JSON.parse(body) as { resourceSpans: { scopeSpans: { spans: Span[] }[] }[] }).resourceSpans.flatMap(r =>
          r.scopeSpans.flatMap(s => s.spans),
        ),
      ),
  }
}
