// Random and mutated input to every decoder: always an answer or a fault that has a name, never more rows than entries.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import snappy from 'snappy'
import { DecodeError, TooManyEntries } from '../native.ts'
import { decode } from '../test/decode.ts'
import { encodeFields } from '../wire/protobuf.ts'
import { input } from './datadog.ts'
import { bulk, document } from './elastic.ts'
import { push } from './loki.ts'
import { batch, lines, single } from './native.ts'
import { exportLogs } from './otlp.ts'
import { type IntakeRoute, Refusal } from './protocol.ts'

const json = { 'content-type': 'application/json' }
const time = '2026-01-15T11:00:00Z'

const lokiJson =
  '{"streams":[{"stream":{"app":"a","level":"warn"},"values":[["1768478399123456789","l",{"k":"v"}],["0","m"]]}]}'
const lokiProtobuf = encodeFields([
  [
    1,
    encodeFields([
      [1, '{a="b", c="d"}'],
      [
        2,
        encodeFields([
          [1, encodeFields([[1, 1_768_478_399n]])],
          [2, 'line'],
          [
            3,
            encodeFields([
              [1, 'k'],
              [2, 'v'],
            ]),
          ],
        ]),
      ],
    ]),
  ],
])
const otlpJson =
  '{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},"scopeLogs":[{"scope":{"name":"n"},"logRecords":[{"timeUnixNano":"1768478399123456789","severityNumber":9,"body":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"1"}]}}}]}},"traceId":"5b8efff798038103d269b633813fc60c"}]}]}]}'
const otlpProtobuf = encodeFields([
  [
    1,
    encodeFields([
      [
        1,
        encodeFields([
          [
            1,
            encodeFields([
              [1, 'service.name'],
              [2, encodeFields([[1, 's']])],
            ]),
          ],
        ]),
      ],
      [
        2,
        encodeFields([
          [1, encodeFields([[1, 'n']])],
          [
            2,
            encodeFields([
              [2, 9n],
              [
                5,
                encodeFields([
                  [
                    6,
                    encodeFields([
                      [
                        1,
                        encodeFields([
                          [1, 'a'],
                          [2, encodeFields([[3, 1n]])],
                        ]),
                      ],
                    ]),
                  ],
                ]),
              ],
              [
                6,
                encodeFields([
                  [1, 'k'],
                  [2, encodeFields([[5, encodeFields([[1, encodeFields([[4, 1n]])]])]])],
                ]),
              ],
              [9, Buffer.alloc(16, 7)],
            ]),
          ],
        ]),
      ],
    ]),
  ],
])

const cases: [name: string, route: IntakeRoute, headers: Record<string, string>, seeds: (string | Uint8Array)[]][] = [
  [
    'native single',
    single,
    {},
    [`{"log":{"timestamp":"${time}","service":"s","level":"info","message":"m","metadata":{"a":1}}}`],
  ],
  ['native batch', batch, {}, [`{"logs":[{"timestamp":"${time}","service":"s","level":"info","message":"m"},{}]}`]],
  ['lines', lines(''), {}, [`{"msg":"m","time":"${time}","log":{"level":"warn"}}\nplain\n{"a":`]],
  [
    'Loki as JSON',
    push(''),
    json,
    [lokiJson, '{"streams":[{"labels":"{a=\\"b\\"}","entries":[{"ts":"2026-01-15T11:00:00Z","line":"x"}]}]}'],
  ],
  ['Loki in snappy', push(''), {}, [snappy.compressSync(Buffer.from(lokiProtobuf))]],
  ['Loki as protobuf', push(''), { 'content-encoding': 'gzip' }, [lokiProtobuf]],
  [
    'Elasticsearch bulk',
    bulk('', ''),
    {},
    [`{"create":{"_index":"i","_id":"1"}}\n{"@timestamp":"${time}","message":"m"}\n{"delete":{}}\n`],
  ],
  [
    'Elasticsearch document',
    document('', 'i', undefined),
    {},
    [`{"@timestamp":"${time}","log":{"level":"warn","x":[1]}}`],
  ],
  ['OTLP as JSON', exportLogs(''), json, [otlpJson]],
  ['OTLP as protobuf', exportLogs(''), { 'content-type': 'application/x-protobuf' }, [otlpProtobuf]],
  ['Datadog', input(''), {}, ['[{"message":{"a":1},"ddtags":"a:b","status":"warn","timestamp":1768478399123},1]']],
]

/** Bytes changed, dropped, doubled or cut; several at once. */
function mutations(seed: Uint8Array): fc.Arbitrary<Uint8Array> {
  const step = fc.tuple(fc.constantFrom('set', 'drop', 'double', 'cut', 'json'), fc.nat(), fc.nat({ max: 255 }))
  return fc.array(step, { minLength: 1, maxLength: 6 }).map(steps => {
    let bytes = Buffer.from(seed)
    for (const [kind, where, value] of steps) {
      const at = bytes.length === 0 ? 0 : where % bytes.length
      const insert =
        kind === 'double' ? bytes.subarray(at, at + value) : Buffer.from(oddities[value % oddities.length] ?? '')
      if (kind === 'set') bytes[at] = value
      else if (kind === 'drop') bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + (value % 8))])
      else if (kind === 'cut') bytes = bytes.subarray(0, at)
      else bytes = Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at)])
    }
    return bytes
  })
}
const oddities = [
  'null',
  '{}',
  '[]',
  '"',
  '\\u0000',
  '\\ud800',
  '1e999',
  '-',
  ',',
  '\n',
  '{"a":[{"password":1}]}',
  '\x00',
  '\xff',
]

for (const [name, route, headers, seeds] of cases)
  test(`${name}: any body gets an answer, and the rows of an answer add up`, () => {
    const bodies = fc.oneof(
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }) },
      { weight: 1, arbitrary: fc.json().map(text => Buffer.from(text)) },
      { weight: 4, arbitrary: fc.oneof(...seeds.map(seed => mutations(Buffer.from(seed)))) },
    )
    fc.assert(
      fc.property(bodies, body => {
        try {
          const { rows, setAside, total, rejectedCount, answer } = decode(route, body, {
            headers,
            options: { entriesMax: 50 },
          })
          assert.equal(rows.length + setAside.length, total - rejectedCount)
          assert.ok(total <= 50)
          assert.ok(answer.status >= 200 && answer.status < 500)
        } catch (error) {
          const isNamed = error instanceof DecodeError || error instanceof TooManyEntries || error instanceof Refusal
          if (!isNamed) throw error
        }
      }),
      { numRuns: 1_000 },
    )
  })

for (const [name, route, headers, seeds] of cases)
  test(`${name}: the seeds of the fuzzer are sound`, () => {
    for (const seed of seeds) assert.ok(decode(route, seed, { headers }).rows.length > 0)
  })

const manyValues = Array.from({ length: 20_000 }, () => `["0","${'x'.repeat(80)}"]`).join(',')
const manyRecords = Array.from({ length: 20_000 }, () => `{"body":{"stringValue":"${'x'.repeat(80)}"}}`).join(',')
const long: [name: string, route: IntakeRoute, headers: Record<string, string>, body: string][] = [
  ['Loki', push(''), json, `{"streams":[{"values":[${manyValues}],"stream":{"app":"a"}}]}`],
  ['OTLP', exportLogs(''), json, `{"resourceLogs":[{"scopeLogs":[{"logRecords":[${manyRecords}]}]}]}`],
  ['lines', lines(''), {}, `${'x'.repeat(99)}\n`.repeat(20_000)],
  ['Elasticsearch', bulk('', 'i'), {}, `{"create":{}}\n{"message":"${'x'.repeat(70)}"}\n`.repeat(20_000)],
  ['Datadog', input(''), {}, `[${Array.from({ length: 20_000 }, () => `{"message":"${'x'.repeat(80)}"}`).join(',')}]`],
]
for (const [name, route, headers, body] of long)
  test(`${name}: a long body gives way to others all along, before the first entry too`, () => {
    const { rows, pauses } = decode(route, body, { headers, options: { entriesMax: 100_000, bodyBytesMax: 1e9 } })
    assert.equal(rows.length, 20_000)
    // Each pass over the body pauses every 256 KiB, give or take an entry.
    assert.ok(pauses >= Math.floor(body.length / (257 * 1024)), `${pauses} pauses in ${body.length} bytes`)
  })
