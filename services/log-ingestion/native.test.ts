import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createRedaction, newTally, type Tally } from './json/metadata.ts'
import { levelAt } from './level.ts'
import { DecodeError, decodeNative, type NativeOptions, type NativeResult, TooManyEntries } from './native.ts'
import { noDedupe, RecordBuilder, RowWalk, readRecord } from './record.ts'
import { formatMoment } from './rfc3339.ts'

const nowMs = Date.UTC(2026, 0, 15, 12)
const now = new Date(nowMs).toISOString()

interface Row {
  timestamp: string
  service: string
  level: string
  message: string
  metadata: string | null
}

function decode(body: string | Buffer, o: Partial<NativeOptions> = {}): NativeResult & { rows: Row[]; tally: Tally } {
  const builder = new RecordBuilder()
  const tally = newTally()
  const rules = {
    messageBytesMax: 10_000,
    metadataBytesMax: 1_048_576,
    timestampPastMaxMs: 7 * 86_400_000,
    timestampFutureMaxMs: 3_600_000,
    redaction: createRedaction(),
  }
  const steps = decodeNative(Buffer.from(body), builder, {
    shape: 'batch',
    errors: 'whole',
    rules,
    entriesMax: 100_000,
    nowMs,
    tally,
    ...o,
  })
  let step = steps.next()
  while (!step.done) step = steps.next()
  const payload = builder.finish({
    rowsBefore: 0n,
    protocol: 'native',
    receivedUs: 0n,
    tenant: 't',
    key: 'k',
    idempotencyKey: '',
    dedupeHash: noDedupe,
  })
  const walk = new RowWalk(readRecord(payload))
  const rows: Row[] = []
  while (walk.next())
    rows.push({
      timestamp: formatMoment(walk.seconds, walk.nanos),
      service: walk.service,
      level: levelAt(walk.level),
      message: walk.message,
      metadata: walk.metadata,
    })
  return { ...step.value, rows, tally }
}

const good = { timestamp: now, service: 'shop', level: 'info', message: 'hello' }
const batch = (...entries: unknown[]) => JSON.stringify({ logs: entries })

function detailsOf(body: string | Buffer, o: Partial<NativeOptions> = {}): string {
  try {
    decode(body, o)
  } catch (error) {
    if (error instanceof DecodeError) return error.message
    throw error
  }
  throw new assert.AssertionError({ message: 'decoded without complaint' })
}

test('an entry arrives as it was sent, its level in upper case', () => {
  const { rows, total, rejected } = decode(batch({ ...good, level: 'Warning', metadata: { a: 1 } }, good))
  assert.deepEqual(rows, [
    { timestamp: '2026-01-15T12:00:00Z', service: 'shop', level: 'WARNING', message: 'hello', metadata: '{"a":1}' },
    { timestamp: '2026-01-15T12:00:00Z', service: 'shop', level: 'INFO', message: 'hello', metadata: null },
  ])
  assert.equal(total, 2)
  assert.deepEqual(rejected, [])
})

test('arbitrary texts and metadata survive the way into the journal', () => {
  const entry = fc.record({
    message: fc.string({ unit: 'binary', minLength: 1, maxLength: 200 }),
    metadata: fc.option(fc.dictionary(fc.string(), fc.jsonValue())),
  })
  fc.assert(
    fc.property(fc.array(entry, { minLength: 1, maxLength: 5 }), entries => {
      const { rows } = decode(batch(...entries.map(e => ({ ...good, ...e }))))
      assert.equal(rows.length, entries.length)
      for (const [i, e] of entries.entries()) {
        assert.equal(
          rows[i]?.message,
          [...e.message.toWellFormed()].filter(c => c >= ' ' || '\t\n\r'.includes(c)).join(''),
        )
        const sent = e.metadata === null ? null : JSON.parse(JSON.stringify(e.metadata))
        if (
          rows[i]?.metadata !== undefined &&
          !/u0000|ud[89a-f]|\ufffd/i.test(JSON.stringify(sent)) &&
          !/pass|tok|secr|api|auth|card|ssn|soc/i.test(JSON.stringify(sent))
        )
          assert.deepEqual(JSON.parse(rows[i].metadata ?? 'null'), sent)
      }
    }),
  )
})

test('numbers keep every digit', () => {
  const metadata = '{"a":12345678901234567890123,"b":1.10,"c":-0.1e-7,"d":9007199254740993}'
  const { rows } = decode(
    `{"logs":[{"timestamp":"${now}","service":"s","level":"INFO","message":"m","metadata":${metadata}}]}`,
  )
  assert.equal(rows[0]?.metadata, metadata)
})

const broken: [string, unknown, string][] = [
  ['no timestamp', { ...good, timestamp: undefined }, 'timestamp is required'],
  ['the zero time of Go', { ...good, timestamp: '0001-01-01T00:00:00Z' }, 'timestamp is required'],
  ['null instead of an entry', null, 'timestamp is required'],
  [
    'a future time',
    { ...good, timestamp: '2026-01-15T13:00:00.000000001Z' },
    'timestamp cannot be more than 1 hour in the future',
  ],
  [
    'an old time',
    { ...good, timestamp: '2026-01-08T11:59:59.999999999Z' },
    'timestamp cannot be more than 7 days in the past',
  ],
  ['no service', { ...good, service: '' }, 'service is required'],
  ['a long service', { ...good, service: 'é'.repeat(128) }, 'service name exceeds maximum length of 255'],
  ['an unknown level', { ...good, level: 'Trace ' }, 'invalid log level: Trace '],
  ['no level', { ...good, level: null }, 'invalid log level: '],
  ['no message', { ...good, message: null }, 'message is required'],
  ['a long message', { ...good, message: 'x'.repeat(10_001) }, 'message exceeds maximum length of 10000'],
  ['deep metadata', { ...good, metadata: nested(129) }, 'metadata nesting exceeds 128 levels'],
  ['large metadata', { ...good, metadata: { x: 'y'.repeat(1_048_576) } }, 'metadata exceeds maximum size of 1048576'],
  ['everything wrong', { service: '', level: 'x', message: '' }, 'timestamp is required'],
]
function nested(levels: number): unknown {
  return levels === 0 ? 1 : { a: nested(levels - 1) }
}
for (const [what, entry, text] of broken)
  test(`${what}: "${text}", and the neighbours are kept`, () => {
    const { rows, rejected, total } = decode(batch(good, entry, good))
    assert.deepEqual(rejected, [`Log entry 1 validation failed: ${text}`])
    assert.equal(rows.length, 2)
    assert.equal(total, 3)
    assert.deepEqual(decode(JSON.stringify({ log: entry }), { shape: 'single' }).rejected, [text])
  })

test('the bounds themselves are inside', () => {
  const { rejected } = decode(
    batch(
      { ...good, timestamp: '2026-01-15T13:00:00Z' },
      { ...good, timestamp: '2026-01-08T12:00:00Z' },
      { ...good, service: 'x'.repeat(255) },
      { ...good, message: 'x'.repeat(10_000) },
      { ...good, metadata: nested(128) },
    ),
  )
  assert.deepEqual(rejected, [])
})

test('services keep letters, digits, _ and -; an emptied one is stored as unknown with its original', () => {
  const { rows } = decode(
    batch(
      { ...good, service: 'my shop/é.v2_a-b' },
      { ...good, service: '日本', metadata: { a: 1 } },
      { ...good, service: '..' },
    ),
  )
  assert.deepEqual(
    rows.map(r => [r.service, r.metadata]),
    [
      ['myshopv2_a-b', null],
      ['unknown', '{"a":1,"service_original":"日本"}'],
      ['unknown', '{"service_original":".."}'],
    ],
  )
})

test('messages lose C0 controls except tab, line feed and carriage return', () => {
  assert.equal(
    decode(batch({ ...good, message: 'a\u0000b\u0007\tc\n\r\u001bd\u007f' })).rows[0]?.message,
    'ab\tc\n\rd\u007f',
  )
})

test('sensitive keys never reach the journal', () => {
  const { rows, tally } = decode(
    batch({ ...good, metadata: { user: 'u', Api_Key: 'hush', nested: { PASSWORD: 'hush' } } }),
  )
  assert.equal(rows[0]?.metadata, '{"user":"u","nested":{}}')
  assert.equal(tally.redactions.get('apikey'), 1)
})

const wrong: [string, string, RegExp][] = [
  ['an empty body', '', /^EOF$/],
  ['white space only', ' \n\t', /^EOF$/],
  ['a cut body', `{"logs":[{"timestamp":"${now}"`, /^unexpected EOF$/],
  ['a wrong type in a cut body', '{"logs":[{"service":1}', /^unexpected EOF$/],
  ['a byte order mark', '\ufeff{}', /byte order mark/],
  [
    'a time that is not one',
    batch(good, { ...good, timestamp: 'yesterday' }),
    /^log entry 1: field "timestamp" must be an RFC 3339 time/,
  ],
  ['an empty time', batch({ ...good, timestamp: '' }), /^log entry 0: field "timestamp"/],
  [
    'metadata that is no object',
    batch({ ...good, metadata: [] }),
    /field "metadata" must be an object or null, found an array at byte \d+$/,
  ],
  [
    'a number for a text',
    batch({ ...good, service: 5 }),
    /field "service" must be a string, found a number at byte \d+$/,
  ],
  [
    'an entry that is no object',
    '{"logs":["x"]}',
    /^log entry 0: an entry must be an object, found a string at byte 9$/,
  ],
  ['logs that are no array', '{"logs":{}}', /field "logs" must be an array, found an object/],
  ['a body that is no object', '[1]', /the body must be an object, found an array/],
  ['bad JSON in an unknown key', '{"x":[1,}', /^invalid JSON at byte 8: found "}" where a value should be$/],
  [
    'a raw control character',
    '{"logs":[{"message":"a\nb"}]}',
    /^invalid JSON at byte 22 \(log entry 0\): control character 0x0a in a string$/,
  ],
]
for (const [what, body, details] of wrong) test(`undecodable: ${what}`, () => assert.match(detailsOf(body), details))

test('X-Batch-Errors: entry lets an undecodable entry fail alone', () => {
  const { rows, rejected } = decode(batch(good, { ...good, service: 5 }, good), { errors: 'entry' })
  assert.equal(rows.length, 2)
  assert.match(rejected[0] ?? '', /^Log entry 1 could not be decoded: field "service" must be a string/)
})

test('the decoder keeps the habits clients grew up with', () => {
  const entry = JSON.stringify(good)
  assert.equal(decode(`{"LOGS":[${entry}]}`).rows.length, 1, 'keys in any case')
  assert.equal(
    decode(`{"logs":[{"TimeStamp":"${now}","SERVICE":"a","\\u006cevel":"info","meſſage":"m"}]}`).rows.length,
    1,
    'folded as Go folds',
  )
  assert.equal(decode(`{"x":{"y":[1]},"logs":[${entry}],"z":1}`).rows.length, 1, 'unknown keys')
  assert.deepEqual(decode(`{"logs":[${entry},${entry}],"logs":[${entry}]}`).rows.length, 1, 'the last duplicate')
  assert.equal(
    decode(`{"logs":[{"service":"a","timestamp":"${now}","level":"info","message":"m","service":"b"}]}`).rows[0]
      ?.service,
    'b',
  )
  assert.equal(decode(`{"logs":[${entry}]} and more {{`).rows.length, 1, 'bytes after the first value')
  assert.equal(decode(`{"log":${entry}}garbage`, { shape: 'single' }).rows.length, 1)
  assert.equal(decode('null').total, 0)
  assert.equal(decode('{"logs":null}').total, 0)
  assert.equal(decode('{}').total, 0)
  assert.deepEqual(decode(`{"logs":[{"id":"ignored",${entry.slice(1)}]}`).rejected, [])
})

test('invalid UTF-8 and lone surrogates become U+FFFD everywhere', () => {
  const body = Buffer.concat([
    Buffer.from(`{"logs":[{"timestamp":"${now}","service":"s","level":"info","message":"a`),
    Buffer.from([0xff]),
    Buffer.from('\\ud800b","metadata":{"k'),
    Buffer.from([0xc3]),
    Buffer.from('":"\\udfff"}}]}'),
  ])
  const { rows } = decode(body)
  assert.equal(rows[0]?.message, 'a\ufffd\ufffdb')
  assert.deepEqual(JSON.parse(rows[0]?.metadata ?? ''), { 'k\ufffd': '\ufffd' })
})

test('too many entries are refused as soon as the bound is passed', () => {
  assert.throws(() => decode(batch(good, good, good), { entriesMax: 2 }), TooManyEntries)
})

test('mutated bodies are always answered with rows or a DecodeError', () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.uint8Array({ maxLength: 4 }),
      fc.nat({ max: 6 }),
      fc.constantFrom('whole', 'entry'),
      (seed, inserted, removed, errors) => {
        const body = Buffer.from(batch({ ...good, metadata: { a: ['\u0000', 1e300, { token: 1 }] } }, good))
        const at = seed % body.length
        const mutated = Buffer.concat([body.subarray(0, at), inserted, body.subarray(at + removed)])
        try {
          const { rows, rejected, total } = decode(mutated, { errors })
          assert.equal(rows.length + rejected.length, total)
        } catch (error) {
          assert.ok(error instanceof DecodeError, String(error))
        }
      },
    ),
    { numRuns: 2_000 },
  )
})
