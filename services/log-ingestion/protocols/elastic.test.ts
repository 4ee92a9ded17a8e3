import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DecodeError } from '../native.ts'
import { decode, receipt, type Sent } from '../test/decode.ts'
import { bulk, document, withoutDate } from './elastic.ts'
import { elasticRoute } from './elastic-routes.ts'
import type { Answer } from './protocol.ts'

const send = (lines: unknown[], index = '', sent: Sent = {}) =>
  decode(
    bulk('/_bulk', index),
    lines.map(line => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`).join(''),
    sent,
  )

interface Result {
  status: number
  error?: { type: string; reason: string }
}
interface Body extends Result {
  took: number
  errors: boolean
  items: Record<string, Result>[]
  result: string
}
const bodyOf = (answer: Answer): Body => JSON.parse(String(answer.body))
const time = '2026-01-15T11:00:00Z'

test('a bulk request: ECS names literal or nested, the rest nested metadata, the index names the service', () => {
  const { rows, answer } = send([
    { create: { _index: 'shop-2026.01.15' } },
    { '@timestamp': time, message: 'one', 'log.level': 'warn', 'service.name': 'billing', a: { b: [1] } },
    { index: { _index: 'shop-2026.01.15', _id: 'x-1' } },
    {
      '@timestamp': time,
      message: 'two',
      log: { level: 'error', logger: 'l' },
      service: { name: 'api', version: '2' },
    },
    { create: { _index: 'shop-2026.01.15' } },
    { message: 'three', level: 30, service: 'direct', log: { level: 'error' } },
    { create: {} },
    { '@timestamp': '2026-01-15T11:00:00.5', status: 500 },
  ])
  assert.deepEqual(rows, [
    [time, 'billing', 'WARN', 'one', { a: { b: [1] } }],
    [time, 'api', 'ERROR', 'two', { log: { logger: 'l' }, service: { version: '2' }, _id: 'x-1' }],
    [receipt, 'direct', 'ERROR', 'three', { level: 30 }],
    [
      '2026-01-15T11:00:00.5Z',
      'my-key',
      'INFO',
      '{"@timestamp":"2026-01-15T11:00:00.5","status":500}',
      { status: 500 },
    ],
  ])
  assert.equal(answer.status, 200)
  const { took, errors, items } = bodyOf(answer)
  assert.ok(Number.isInteger(took))
  assert.equal(errors, false)
  assert.equal(items.length, 4)
  assert.deepEqual(items[1], {
    index: {
      _index: 'shop-2026.01.15',
      _id: 'x-1',
      _version: 1,
      result: 'created',
      _shards: { total: 1, successful: 1, failed: 0 },
      _seq_no: 1,
      _primary_term: 1,
      status: 201,
    },
  })
})

test('failed items fail alone: no JSON, update, delete, a document that is missing', () => {
  const { rows, answer, rejectedCount } = send(
    [
      { create: {} },
      '{"broken',
      { update: { _id: '1' } },
      { doc: {} },
      { delete: { _id: '2' } },
      '',
      { create: {} },
      { message: 'good' },
      { create: {} },
    ],
    'logs',
  )
  assert.deepEqual(rows, [[receipt, 'logs', 'INFO', 'good', null]])
  assert.equal(rejectedCount, 4)
  const { errors, items } = bodyOf(answer)
  assert.equal(errors, true)
  assert.deepEqual(
    items.flatMap(item => Object.entries(item).map(([action, { status, error }]) => [action, status, error?.type])),
    [
      ['create', 400, 'document_parsing_exception'],
      ['update', 400, 'illegal_argument_exception'],
      ['delete', 400, 'illegal_argument_exception'],
      ['create', 201, undefined],
      ['create', 400, 'illegal_argument_exception'],
    ],
  )
})

test('what cannot be told apart fails the request', () => {
  for (const lines of [['{"oops":{}}', '{}'], ['[]'], ['{"create":{}'], ['{"create":1}'], []])
    assert.throws(() => send(lines), DecodeError)
})

test('one document: 201, and 400 in the shape of an error', () => {
  const route = document('/{index}/_doc', 'app-2026-01-15', 'id-1')
  const good = decode(route, `{"@timestamp":"${time}","message":"m"}`)
  assert.deepEqual(good.rows, [[time, 'app', 'INFO', 'm', { _id: 'id-1' }]])
  assert.equal(good.answer.status, 201)
  assert.equal(bodyOf(good.answer).result, 'created')
  const bad = decode(route, 'nope')
  assert.equal(bad.answer.status, 400)
  assert.equal(bodyOf(bad.answer).error?.type, 'document_parsing_exception')
  assert.equal(bodyOf(bad.answer).status, 400)
})

test('date suffixes of index names', () => {
  for (const [index, name] of [
    ['shop-2026.01.15', 'shop'],
    ['shop-2026-01', 'shop'],
    ['shop_20260115', 'shop'],
    ['filebeat-8.19.0-2026.01.15-000001', 'filebeat-8.19.0'],
    ['shop', 'shop'],
    ['shop-v2', 'shop-v2'],
  ] as const)
    assert.equal(withoutDate(index), name)
})

test('media types of newer clients are mirrored, and every answer names the product', () => {
  const { answer } = send([{ create: {} }, {}], '', {
    headers: { accept: 'application/vnd.elasticsearch+json; compatible-with=9' },
  })
  assert.equal(answer.headers?.['Content-Type'], 'application/vnd.elasticsearch+json;compatible-with=9')
  assert.equal(answer.headers?.['X-Elastic-Product'], 'Elasticsearch')
  const fault = bulk('/_bulk', '').fault(
    { kind: 'overloaded', status: 429, detail: 'Service overloaded: DRAINING' },
    { method: 'POST', path: '/_bulk', parameters: new URLSearchParams(), headers: {} },
  )
  assert.deepEqual(bodyOf(fault), {
    error: { type: 'es_rejected_execution_exception', reason: 'Service overloaded: DRAINING' },
    status: 429,
  })
})

test('which paths are Elasticsearch’s', () => {
  const labelOf = (method: string, path: string, accept = '*/*') =>
    elasticRoute(method, path, accept, { version: '8.19.0', bodyBytesMax: 1_000 })?.label
  for (const [method, path, label] of [
    ['GET', '/', '/'],
    ['HEAD', '/elasticsearch', '/'],
    ['GET', '/insert/elasticsearch/', '/'],
    ['PUT', '/_bulk', '/_bulk'],
    ['POST', '/elasticsearch/_bulk', '/_bulk'],
    ['POST', '/insert/elasticsearch/shop/_bulk', '/{index}/_bulk'],
    ['POST', '/shop/_doc', '/{index}/_doc'],
    ['PUT', '/shop/_doc/1', '/{index}/_doc'],
    ['PUT', '/shop/_create/1', '/{index}/_create'],
    ['HEAD', '/shop', '/{index}'],
    ['PUT', '/shop', '/{index}'],
    ['GET', '/_license', '/_license'],
    ['GET', '/_xpack', '/_xpack'],
    ['GET', '/_cluster/health', '/_cluster/health'],
    ['GET', '/_nodes/http', '/_nodes'],
    ['GET', '/_cat/templates/x', '/_cat/templates'],
    ['PUT', '/_ilm/policy/x', '/_ilm/policy'],
    ['HEAD', '/_index_template/x', '/_index_template'],
    ['PUT', '/_component_template/x', '/_component_template'],
    ['GET', '/_template/x', '/_template'],
    ['PUT', '/_ingest/pipeline/x', '/_ingest'],
    ['GET', '/_data_stream/x', '/_data_stream'],
    ['HEAD', '/_alias/x', '/_alias'],
    ['POST', '/api/_bulk', undefined],
    ['POST', '/admin/_doc', undefined],
    ['HEAD', '/health', undefined],
    ['PUT', '/metrics', undefined],
    ['GET', '/shop', undefined],
    ['GET', '/_search', undefined],
    ['POST', '/', undefined],
    ['POST', '/%E0%A4%A/_doc', undefined],
    ['PUT', '/shop/_create', undefined],
  ] as const)
    assert.equal(labelOf(method, path), label, `${method} ${path}`)
  assert.equal(labelOf('GET', '/', 'text/html,*/*'), undefined)
})
