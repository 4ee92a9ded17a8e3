import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DecodeError } from '../native.ts'
import { decode, nowMs, receipt } from '../test/decode.ts'
import { encodeFields } from '../wire/protobuf.ts'
import { exportLogs } from './otlp.ts'

const route = exportLogs('/v1/logs')
const jsonHeaders = { 'content-type': 'application/json' }
const protobufHeaders = { 'content-type': 'application/x-protobuf' }
const nanos = '1768478399123456789'
const time = '2026-01-15T11:59:59.123456789Z'
const traceId = '5b8efff798038103d269b633813fc60c'

const request = {
  resourceLogs: [
    {
      scopeLogs: [
        {
          scope: { name: 'lib', version: '1', attributes: [{ key: 's', value: { boolValue: true } }] },
          logRecords: [
            {
              timeUnixNano: nanos,
              observedTimeUnixNano: '1',
              severityNumber: 13,
              severityText: 'WARN',
              body: { stringValue: 'one' },
              attributes: [
                { key: 'n', value: { intValue: '9007199254740993' } },
                { key: 'd', value: { doubleValue: 0.5 } },
                { key: 'l', value: { arrayValue: { values: [{ stringValue: 'x' }, {}] } } },
                { key: 'm', value: { kvlistValue: { values: [{ key: 'k', value: { intValue: 1 } }] } } },
                { key: 'b', value: { bytesValue: 'AQI=' } },
                { key: 'trace_id', value: { stringValue: 'mine' } },
                { key: 'password', value: { stringValue: 'p' } },
              ],
              droppedAttributesCount: 2,
              flags: 1,
              traceId: traceId.toUpperCase(),
              spanId: '0000000000000000',
              eventName: 'checkout',
            },
            {
              observed_time_unix_nano: nanos,
              body: { kvlistValue: { values: [{ key: 'a', value: { intValue: 1 } }] } },
            },
            { severityText: 'chatty' },
          ],
        },
      ],
      resource: { attributes: [{ key: 'service.name', value: { stringValue: 'shop' } }] },
    },
    { scopeLogs: [{ logRecords: [{ severityNumber: 24, severityText: 'Alarm', body: { stringValue: 'last' } }] }] },
  ],
}

const around = { resource: { 'service.name': 'shop' }, scope: { name: 'lib', version: '1', attributes: { s: true } } }
const expected = [
  [
    time,
    'shop',
    'WARN',
    'one',
    {
      // biome-ignore lint/correctness/noPrecisionLoss: JSON.parse loses it too; the text is compared below
      n: 9007199254740993,
      d: 0.5,
      l: ['x', null],
      m: { k: 1 },
      b: 'AQI=',
      'attributes.trace_id': 'mine',
      ...around,
      trace_id: traceId,
      event_name: 'checkout',
      flags: 1,
      dropped_attributes_count: 2,
    },
  ],
  [time, 'shop', 'INFO', '{"a":1}', { ...around, body: { a: 1 } }],
  [receipt, 'shop', 'INFO', '', { ...around, severity_text: 'chatty' }],
  [receipt, 'unknown_service', 'FATAL', 'last', { severity_text: 'Alarm' }],
]

test('JSON: every field has its place', () => {
  const { rows, answer } = decode(route, JSON.stringify(request), { headers: jsonHeaders })
  assert.deepEqual(rows, expected)
  assert.deepEqual(answer, { status: 200, body: '{}', headers: { 'Content-Type': 'application/json' } })
})

// The encoder of the tests: the numbers of opentelemetry-proto, written down once more.
type Bytes = Uint8Array
type FieldValue = bigint | string | Bytes
const fixed = (bits: 64 | 32, field: number, value: bigint): Bytes => {
  const bytes = Buffer.alloc(bits / 8)
  if (bits === 64) bytes.writeBigUInt64LE(value)
  else bytes.writeUInt32LE(Number(value))
  return Buffer.concat([Buffer.from([(field << 3) | (bits === 64 ? 1 : 5)]), bytes])
}
const double = (field: number, value: number): Bytes => {
  const bytes = Buffer.alloc(9)
  bytes[0] = (field << 3) | 1
  bytes.writeDoubleLE(value, 1)
  return bytes
}
const message = (...fields: (readonly [number, FieldValue])[]): Bytes => encodeFields(fields)
const pair = (key: string, value: Bytes): Bytes => message([1, key], [2, value])

const bytes = message(
  [
    1,
    message(
      [
        2,
        message(
          [1, message([1, 'lib'], [2, '1'], [3, pair('s', message([2, 1n]))])],
          [
            2,
            Buffer.concat([
              fixed(64, 1, BigInt(nanos)),
              message([2, 13n], [3, 'WARN'], [5, message([1, 'one'])]),
              message(
                [6, pair('n', message([3, 9007199254740993n]))],
                [6, pair('d', double(4, 0.5))],
                [6, pair('l', message([5, message([1, message([1, 'x'])], [1, message()])]))],
                [6, pair('m', message([6, message([1, pair('k', message([3, 1n]))])]))],
                [6, pair('b', message([7, Uint8Array.from([1, 2])]))],
                [6, pair('trace_id', message([1, 'mine']))],
                [6, pair('password', message([1, 'p']))],
                [7, 2n],
              ),
              fixed(32, 8, 1n),
              message([9, Buffer.from(traceId, 'hex')], [10, Buffer.alloc(8)], [12, 'checkout']),
            ]),
          ],
          [
            2,
            Buffer.concat([
              fixed(64, 11, BigInt(nanos)),
              message([5, message([6, message([1, pair('a', message([3, 1n]))])])]),
            ]),
          ],
          [2, message([3, 'chatty'])],
        ),
      ],
      [1, message([1, pair('service.name', message([1, 'shop']))])],
    ),
  ],
  [1, message([2, message([2, message([2, 24n], [3, 'Alarm'], [5, message([1, 'last'])])])])],
)

test('protobuf is the same', () => {
  const { rows, answer } = decode(route, bytes, { headers: protobufHeaders })
  assert.deepEqual(rows, expected)
  assert.equal(answer.status, 200)
  assert.equal(answer.body.length, 0)
  assert.equal(answer.headers?.['Content-Type'], 'application/x-protobuf')
})

const nest = (depth: number): unknown => (depth === 0 ? { intValue: 1 } : { arrayValue: { values: [nest(depth - 1)] } })
const nestBytes = (depth: number): Bytes =>
  depth === 0 ? message([3, 1n]) : message([5, message([1, nestBytes(depth - 1)])])

test('partial success: what cannot be kept is counted and named, its neighbours stay; moved times are a warning', () => {
  const records = (...logRecords: unknown[]) => JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords }] }] })
  const { rows, answer } = decode(
    route,
    records({ body: { stringValue: 'good' } }, { attributes: [{ key: 'deep', value: nest(128) }] }),
    { headers: jsonHeaders },
  )
  assert.deepEqual(
    rows.map(row => row[3]),
    ['good'],
  )
  assert.deepEqual(JSON.parse(String(answer.body)), {
    partialSuccess: { rejectedLogRecords: '1', errorMessage: 'metadata nesting exceeds 128 levels' },
  })
  const deep = message([1, message([2, message([2, message([6, pair('deep', nestBytes(300))])])])])
  assert.deepEqual(
    decode(route, deep, { headers: protobufHeaders }).answer.body,
    message([1, message([1, 1n], [2, 'metadata nesting exceeds 128 levels'])]),
  )
  const ahead = String(BigInt(nowMs + 7_200_000) * 1_000_000n)
  const moved = decode(route, records({ timeUnixNano: ahead }), { headers: jsonHeaders })
  assert.deepEqual(moved.rows[0]?.[4], { original_timestamp: '2026-01-15T14:00:00Z' })
  const { partialSuccess } = JSON.parse(String(moved.answer.body))
  assert.equal(partialSuccess.rejectedLogRecords, '0')
  assert.match(partialSuccess.errorMessage, /^1 records had a time too far ahead/)
})

test('what cannot be decoded is a Status in the encoding of the request', () => {
  for (const body of [
    '',
    '[]',
    '{"resourceLogs":{}}',
    JSON.stringify({ resourceLogs: [{ resource: { attributes: [{ key: 'deep', value: nest(200) }] } }] }),
    '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"x"}]}]}]}',
  ])
    assert.throws(() => decode(route, body, { headers: jsonHeaders }), DecodeError, body)
  assert.throws(() => decode(route, Buffer.from([0x0a, 0x7f]), { headers: protobufHeaders }), DecodeError)
  const fault = { kind: 'malformed', status: 400, detail: 'why' } as const
  const target = { method: 'POST', path: '', parameters: new URLSearchParams() }
  assert.deepEqual(route.fault(fault, { ...target, headers: protobufHeaders }).body, message([1, 3n], [2, 'why']))
  assert.equal(route.fault(fault, { ...target, headers: jsonHeaders }).body, '{"code":3,"message":"why"}')
})

test('an empty export is a success', () => {
  assert.equal(decode(route, '{}', { headers: jsonHeaders }).answer.status, 200)
  assert.equal(decode(route, '', { headers: protobufHeaders }).answer.status, 200)
})
