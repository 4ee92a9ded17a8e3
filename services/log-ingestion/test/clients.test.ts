// The official clients, unmodified: what they send is stored, with everything where it belongs.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import type { Transform } from 'node:stream'
import { test } from 'node:test'
import { Client, errors } from '@elastic/elasticsearch'
import { credentials, Client as GrpcClient, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { SeverityNumber } from '@opentelemetry/api-logs'
import { OTLPLogExporter as GrpcExporter } from '@opentelemetry/exporter-logs-otlp-grpc'
import { OTLPLogExporter as JsonExporter } from '@opentelemetry/exporter-logs-otlp-http'
import { OTLPLogExporter as ProtobufExporter } from '@opentelemetry/exporter-logs-otlp-proto'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { LoggerProvider, type LogRecordExporter, SimpleLogRecordProcessor } from '@opentelemetry/sdk-logs'
import pino from 'pino'
import { pinoLoki } from 'pino-loki'
import winston from 'winston'
import LokiTransport from 'winston-loki'
import { pollUntil } from '../../../test/kit/poll.ts'
import { startService, type TestService, writeKey } from './start.ts'

interface StoredRow {
  service: string
  level: string
  message: string
  metadata: Record<string, unknown> | null
}

async function storedRows(service: TestService, count: number): Promise<StoredRow[]> {
  let rows: StoredRow[] = []
  await pollUntil(
    async () => {
      rows = await service.sql<StoredRow[]>`select service, level, message, metadata from logs order by id`
      return rows.length >= count
    },
    { what: `${count} rows to be stored`, everyMs: 20 },
  )
  return rows.map(row => ({ ...row }))
}

test('pino-loki', async t => {
  const service = await startService(t)
  const stream = pinoLoki({
    host: service.url,
    basicAuth: { username: 'me', password: writeKey },
    labels: { service_name: 'shop', env: 'prod' },
    batching: false,
    convertArrays: false,
  })
  const log = pino(stream)
  log.warn({ order: 7 }, 'stock is low')
  log.error('gone')
  const rows = await storedRows(service, 2)
  assert.deepEqual(
    rows.map(({ service, level, metadata }) => [service, level, metadata?.env]),
    [
      ['shop', 'WARNING', 'prod'],
      ['shop', 'ERROR', 'prod'],
    ],
  )
  assert.match(rows[0]?.message ?? '', /stock is low/)
  stream.end()
})

test('winston-loki, with protobuf in snappy and with JSON', async t => {
  const service = await startService(t)
  for (const json of [false, true]) {
    const transport = new LokiTransport({
      host: service.url,
      basicAuth: `me:${writeKey}`,
      labels: { app: json ? 'as-json' : 'as-protobuf' },
      json,
      batching: false,
      format: winston.format.json(),
      onConnectionError: error => assert.fail(String(error)),
    })
    const log = winston.createLogger({ transports: [transport] })
    log.warn('late', { labels: { route: '/pay' } })
  }
  const rows = await storedRows(service, 2)
  assert.deepEqual(rows.map(row => row.service).sort(), ['as-json', 'as-protobuf'])
  for (const row of rows) {
    assert.equal(row.level, 'WARN')
    assert.equal(row.metadata?.route, '/pay')
    assert.match(row.message, /late/)
  }
})

test('@elastic/elasticsearch: greeting, bulk with a failed item, index, create, and the rejected key', async t => {
  const service = await startService(t)
  const client = new Client({ node: service.url, auth: { apiKey: writeKey } })
  assert.equal((await client.info()).version.number, '8.19.0')
  const answer = await client.bulk({
    operations: [
      { create: { _index: 'shop-2026.01.15' } },
      { '@timestamp': new Date().toISOString(), message: 'one', log: { level: 'warn' }, user: { id: 7 } },
      { delete: { _index: 'shop-2026.01.15', _id: '1' } },
    ],
  })
  assert.equal(answer.errors, true)
  assert.equal(answer.items[0]?.create?.status, 201)
  assert.equal(answer.items[1]?.delete?.status, 400)
  assert.equal((await client.index({ index: 'shop', document: { message: 'two' } })).result, 'created')
  assert.equal((await client.create({ index: 'shop', id: 'a/b', document: { message: 'three' } })).result, 'created')
  const rows = await storedRows(service, 3)
  assert.deepEqual(rows, [
    { service: 'shop', level: 'WARN', message: 'one', metadata: { user: { id: 7 } } },
    { service: 'shop', level: 'INFO', message: 'two', metadata: null },
    { service: 'shop', level: 'INFO', message: 'three', metadata: { _id: 'a/b' } },
  ])
  const stranger = new Client({ node: service.url, auth: { username: 'me', password: 'wrong' }, maxRetries: 0 })
  // The directory is there by now: an unknown key is unknown, not unavailable.
  await assert.rejects(
    stranger.bulk({ operations: [{ create: { _index: 'x' } }, {}] }),
    (error: unknown) => error instanceof errors.ResponseError && error.statusCode === 401,
  )
})

test('the helper of @elastic/elasticsearch that most applications send with', async t => {
  const service = await startService(t)
  const client = new Client({
    node: `${service.url}/insert/elasticsearch`,
    auth: { username: 'me', password: writeKey },
  })
  const { total, successful, failed } = await client.helpers.bulk({
    datasource: Array.from({ length: 50 }, (_, i) => ({ message: `line ${i}` })),
    onDocument: () => ({ create: { _index: 'helper' } }),
    flushBytes: 500,
  })
  assert.deepEqual({ total, successful, failed }, { total: 50, successful: 50, failed: 0 })
  assert.equal((await storedRows(service, 50)).length, 50)
})

test('pino-elasticsearch', async t => {
  const service = await startService(t)
  // Its types describe an ES module, which it is not.
  const pinoElasticsearch: (o: object) => Transform = createRequire(import.meta.url)('pino-elasticsearch')
  const stream = pinoElasticsearch({
    node: service.url,
    auth: { apiKey: writeKey },
    index: 'web',
    esVersion: 8,
    flushBytes: 10,
    flushInterval: 50,
  })
  const log = pino(stream)
  log.fatal({ order: 7 }, 'stopped')
  const [row] = await storedRows(service, 1)
  assert.deepEqual([row?.service, row?.level, row?.message, row?.metadata?.order], ['web', 'FATAL', 'stopped', 7])
  stream.destroy()
})

test('OpenTelemetry’s exporters over HTTP, with JSON and with protobuf', async t => {
  const service = await startService(t)
  for (const Exporter of [JsonExporter, ProtobufExporter]) {
    const exporter = new Exporter({ url: `${service.url}/v1/logs`, headers: { 'x-api-key': writeKey } })
    await emit(exporter)
  }
  assert.deepEqual(await storedRows(service, 2), [emitted, emitted])
})

const emitted = {
  service: 'shop',
  level: 'WARN',
  message: 'late',
  metadata: {
    order: 7,
    nested: { deep: [true, null] },
    resource: { 'service.name': 'shop' },
    scope: { name: 'checkout' },
  },
}

async function emit(exporter: LogRecordExporter): Promise<void> {
  const provider = new LoggerProvider({
    resource: resourceFromAttributes({ 'service.name': 'shop' }),
    processors: [new SimpleLogRecordProcessor({ exporter })],
  })
  provider.getLogger('checkout').emit({
    severityNumber: SeverityNumber.WARN,
    severityText: 'WARN',
    body: 'late',
    attributes: { order: 7, nested: { deep: [true, null] } },
  })
  await provider.forceFlush()
  await provider.shutdown()
}

test('OpenTelemetry’s exporter over gRPC', async t => {
  const service = await startService(t)
  const metadata = new Metadata()
  metadata.set('x-api-key', writeKey)
  const { host } = new URL(service.url)
  await emit(new GrpcExporter({ url: `http://${host}`, metadata, credentials: credentials.createInsecure() }))
  assert.deepEqual(await storedRows(service, 1), [emitted])
})

test('gRPC: refusals are the status of the call; HTTP/1.1 goes on beside it', async t => {
  const service = await startService(t)
  const client = new GrpcClient(new URL(service.url).host, credentials.createInsecure())
  t.after(() => client.close())
  const call = (key: string, request: Buffer) =>
    new Promise<{ error: ServiceError | null; response: Buffer | undefined }>(resolve => {
      const metadata = new Metadata()
      if (key !== '') metadata.set('authorization', `Bearer ${key}`)
      const path = '/opentelemetry.proto.collector.logs.v1.LogsService/Export'
      const same = (bytes: Buffer) => bytes
      client.makeUnaryRequest(path, same, same, request, metadata, (error, response) => resolve({ error, response }))
    })
  assert.equal((await call('', Buffer.alloc(0))).error?.code, status.UNAUTHENTICATED)
  assert.equal((await call('wrong', Buffer.alloc(0))).error?.code, status.UNAUTHENTICATED)
  const cut = await call(writeKey, Buffer.from('0a0212ff', 'hex'))
  assert.equal(cut.error?.code, status.INVALID_ARGUMENT)
  assert.match(cut.error?.details ?? '', /invalid protobuf/)
  const { error, response } = await call(writeKey, Buffer.alloc(0))
  assert.equal(error, null)
  assert.equal(response?.length, 0)
  assert.equal((await service.get('/health')).status, 200)
})
