import assert from 'node:assert/strict'
import { test } from 'node:test'
import snappy from 'snappy'
import { DecodeError } from '../native.ts'
import { decode, receipt } from '../test/decode.ts'
import { encodeFields } from '../wire/protobuf.ts'
import { push } from './loki.ts'
import { Refusal } from './protocol.ts'

const route = push('/loki/api/v1/push')
const headers = { 'content-type': 'application/json' }
const json = (body: unknown, o = {}) => decode(route, JSON.stringify(body), { headers, ...o })
const ns = '1768478399123456789'
const time = '2026-01-15T11:59:59.123456789Z'

const entry = (line: string, metadata: [string, string][] = []) =>
  encodeFields([
    [
      1,
      encodeFields([
        [1, 1_768_478_399n],
        [2, 123_456_789n],
      ]),
    ],
    [2, line],
    ...metadata.map(
      ([name, value]) =>
        [
          3,
          encodeFields([
            [1, name],
            [2, value],
          ]),
        ] as const,
    ),
  ])
const stream = (labels: string, ...entries: Uint8Array[]) =>
  encodeFields([[1, labels], ...entries.map(bytes => [2, bytes] as const)])
const request = (...streams: Uint8Array[]) => encodeFields(streams.map(bytes => [1, bytes] as const))

test('a JSON push: labels and metadata at top level, metadata wins, service and level leave them', () => {
  const { rows, answer } = json({
    streams: [
      {
        stream: { service_name: 'shop', level: 'warn', env: 'prod', region: 'a' },
        values: [
          [ns, 'one', { region: 'b', trace: 't1' }],
          [ns, 'two'],
          ['0', 'three', { level: 'error' }],
        ],
      },
      { stream: { job: 'cron', detected_level: 'chatty' }, values: [[ns, '']] },
      { stream: {}, values: [[ns, 'nobody', { app: 'late' }]] },
    ],
  })
  assert.deepEqual(rows, [
    [time, 'shop', 'WARN', 'one', { env: 'prod', region: 'b', trace: 't1' }],
    [time, 'shop', 'WARN', 'two', { env: 'prod', region: 'a' }],
    [receipt, 'shop', 'ERROR', 'three', { env: 'prod', region: 'a' }],
    [time, 'cron', 'INFO', '', { severity_text: 'chatty' }],
    [time, 'late', 'INFO', 'nobody', null],
  ])
  assert.deepEqual(answer, { status: 204, body: '' })
})

test('values before the stream, and the form of /api/prom/push', () => {
  const { rows } = decode(
    route,
    `{"streams":[{"values":[["${ns}","a"]],"stream":{"app":"x"}},
      {"labels":"{app=\\"y\\", quote=\\"say \\\\\\"hi\\\\\\" \\\\u00e9\\"}","entries":[{"ts":"2026-01-15T11:00:00Z","line":"b"}]}]}`,
    { headers },
  )
  assert.deepEqual(rows, [
    [time, 'x', 'INFO', 'a', null],
    ['2026-01-15T11:00:00Z', 'y', 'INFO', 'b', { quote: 'say "hi" é' }],
  ])
})

test('a protobuf push in a snappy block is the same', async () => {
  const body = request(
    stream('{service="shop", severity="err", pod="p-1"}', entry('one', [['pod', 'p-2']]), entry('two')),
  )
  const expected = [
    [time, 'shop', 'ERROR', 'one', { pod: 'p-2' }],
    [time, 'shop', 'ERROR', 'two', { pod: 'p-1' }],
  ]
  assert.deepEqual(decode(route, await snappy.compress(body)).rows, expected)
  assert.deepEqual(decode(route, body, { headers: { 'content-encoding': 'gzip' } }).rows, expected)
  assert.throws(() => decode(route, body), DecodeError)
})

test('some rejected: the good ones are kept and a 400 says how many and why', () => {
  const { rows, answer } = json({
    streams: [{ stream: { app: 'a' }, values: [[ns, 'good'], ['noon', 'bad'], [ns], 7, [ns, 5]] }],
  })
  assert.equal(rows.length, 1)
  assert.equal(answer.status, 400)
  assert.match(String(answer.body), /^4 of 5 entries rejected: timestamp "noon" is not Unix time in nanoseconds; /)
  const unreadable = decode(
    route,
    snappy.compressSync(request(stream('{oops', entry('x')), stream('{a="b"}', entry('y')))),
  )
  assert.deepEqual(
    unreadable.rows.map(row => row[3]),
    ['y'],
  )
  assert.match(String(unreadable.answer.body), /^1 of 2 entries rejected: labels "\{oops" cannot be read/)
})

test('times: far ahead is moved and kept beside; outlived is refused by name; beyond any calendar is moved', () => {
  const { rows, answer } = json(
    {
      streams: [
        {
          stream: {},
          values: [
            ['1799999999000000000', 'ahead'],
            ['1600000000000000000', 'old'],
          ],
        },
      ],
    },
    { options: { oldestAllowedMs: Date.UTC(2026, 0, 1) } },
  )
  assert.deepEqual(rows, [[receipt, 'my-key', 'INFO', 'ahead', { original_timestamp: '2027-01-15T07:59:59Z' }]])
  assert.match(String(answer.body), /timestamp 2020-09-13T12:26:40Z is older than the retention of this tenant/)
  const far = encodeFields([
    [1, encodeFields([[1, 9_000_000_000_000_000n]])],
    [2, 'far'],
  ])
  const { rows: moved } = decode(route, snappy.compressSync(request(stream('{}', far))))
  assert.deepEqual(moved, [[receipt, 'my-key', 'INFO', 'far', { original_timestamp: '9000000000000000' }]])
})

test('a snappy block that says more than the cap is refused before anything is allocated', () => {
  const block = Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f, 0x00])
  assert.throws(
    () => decode(route, block),
    (error: unknown) => error instanceof Refusal && error.fault.kind === 'tooLarge',
  )
})

test('secrets go, whoever wraps them', () => {
  assert.deepEqual(
    json({ streams: [{ stream: { password: 'p', a: 'b\0' }, values: [[ns, 'm', { 'api-key': 'k' }]] }] }).rows,
    [[time, 'my-key', 'INFO', 'm', { a: 'b\u2400' }]],
  )
  assert.deepEqual(decode(route, snappy.compressSync(request(stream('{token="t", a="b"}', entry('m'))))).rows, [
    [time, 'my-key', 'INFO', 'm', { a: 'b' }],
  ])
})

test('only a caller of any tenant names another, and only by a name that can be one', () => {
  const asked = (name: string) =>
    route.askedTenant?.({
      method: 'POST',
      path: '',
      parameters: new URLSearchParams(),
      headers: { 'x-scope-orgid': name },
    })
  assert.equal(asked('acme'), 'acme')
  assert.equal(asked('a/b'), undefined)
})
