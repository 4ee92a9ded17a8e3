import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DecodeError } from '../native.ts'
import { decode, receipt } from '../test/decode.ts'
import { input } from './datadog.ts'

const route = input('/api/v2/logs')
const time = '2026-01-15T11:59:59.123Z'

test('an array of items: fields, tags of item and query, times in milliseconds', () => {
  const { rows, answer } = decode(
    route,
    JSON.stringify([
      {
        message: 'one',
        status: 'warn',
        service: 'shop',
        hostname: 'h1',
        ddsource: 'node',
        ddtags: 'env:prod,canary',
        timestamp: 1_768_478_399_123,
        usr: { id: 7 },
        api_key: 'k',
      },
      { message: { a: 1 }, status: 'emergency', date: 1_768_478_399_123 },
      { status: 'chatty', user: 'u' },
      {},
    ]),
    { path: '/api/v2/logs?ddtags=team:x&hostname=h0&ddsource=src&service=fallback', headers: {} },
  )
  const shared = { hostname: 'h0', ddsource: 'src', tags: ['team:x'] }
  assert.deepEqual(rows, [
    [
      time,
      'shop',
      'WARN',
      'one',
      { hostname: 'h1', ddsource: 'node', usr: { id: 7 }, tags: ['team:x', 'env:prod', 'canary'] },
    ],
    [time, 'fallback', 'FATAL', '{"a":1}', shared],
    [receipt, 'fallback', 'INFO', '{"status":"chatty","user":"u"}', { user: 'u', severity_text: 'chatty', ...shared }],
  ])
  assert.deepEqual(answer, { status: 202, body: '{}', headers: { 'Content-Type': 'application/json' } })
})

test('one object, its time in the header', () => {
  const { rows } = decode(route, '{"message":"m"}', { headers: { 'dd-message-timestamp': '1768478399123' } })
  assert.deepEqual(rows, [[time, 'my-key', 'INFO', 'm', null]])
})

test('what cannot be an entry is set aside as the text it was, with the reason', () => {
  const deep = `{"message":"m","x":${'['.repeat(128)}${']'.repeat(128)},"password":"p"}`
  const { rows, setAside, answer } = decode(route, `["text",${deep},{"message":"good"}]`)
  assert.deepEqual(rows, [[receipt, 'my-key', 'INFO', 'good', null]])
  assert.deepEqual(setAside, [
    [receipt, 'my-key', 'INFO', '"text"', { _refused: 'an item must be an object' }],
    [
      receipt,
      'my-key',
      'INFO',
      deep.replace(',"password":"p"', ''),
      { _refused: 'metadata nesting exceeds 128 levels' },
    ],
  ])
  assert.equal(answer.status, 202)
})

test('no JSON is a fault in Datadog’s shape; a wrong key is 403', () => {
  for (const body of ['', 'plain', '[{"message":"m"}', '"text"']) assert.throws(() => decode(route, body), DecodeError)
  const target = { method: 'POST', path: '', parameters: new URLSearchParams(), headers: {} }
  const fault = route.fault({ kind: 'keyInvalid', status: 401, detail: 'Invalid API key' }, target)
  assert.deepEqual(
    [fault.status, JSON.parse(String(fault.body))],
    [403, { errors: [{ status: '403', title: 'Forbidden', detail: 'Invalid API key' }] }],
  )
})

test('where the key may be', () => {
  const credential = (headers: Record<string, string>, query = '', key?: string) =>
    input('', key).credential({ method: 'POST', path: '', parameters: new URLSearchParams(query), headers })
  assert.equal(credential({ 'dd-api-key': 'a' }), 'a')
  assert.equal(credential({}, 'dd-api-key=b'), 'b')
  assert.equal(credential({}, '', 'c'), 'c')
  assert.equal(credential({}), undefined)
})
