import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createRedaction, newTally } from './json/metadata.ts'
import { levelAt } from './level.ts'
import { decodeLines, type LineOptions, type LineResult } from './lines.ts'
import { TooManyEntries } from './native.ts'
import { noDedupe, RecordBuilder, RowWalk, readRecord } from './record.ts'
import { formatMoment } from './rfc3339.ts'

const nowMs = Date.UTC(2026, 0, 15, 12)
const receipt = '2026-01-15T12:00:00Z'

function decode(body: string | Buffer, o: Partial<LineOptions> = {}): LineResult & { rows: unknown[][] } {
  const builder = new RecordBuilder()
  const rules = {
    messageBytesMax: 10_000,
    metadataBytesMax: 1_048_576,
    timestampPastMaxMs: 7 * 86_400_000,
    timestampFutureMaxMs: 3_600_000,
    redaction: createRedaction(),
  }
  const steps = decodeLines(Buffer.from(body), builder, {
    rules,
    lineBytesMax: 100,
    oldestAllowedMs: undefined,
    entriesMax: 1_000,
    nowMs,
    tally: newTally(),
    service: undefined,
    level: undefined,
    messageField: undefined,
    timeField: undefined,
    keyName: 'my-key',
    ...o,
  })
  let step = steps.next()
  while (!step.done) step = steps.next()
  const payload = builder.finish({
    rowsBefore: 0n,
    protocol: 'lines',
    receivedUs: 0n,
    tenant: 't',
    key: 'k',
    idempotencyKey: '',
    dedupeHash: noDedupe,
  })
  const walk = new RowWalk(readRecord(payload))
  const rows: unknown[][] = []
  while (walk.next()) {
    const metadata: unknown = walk.metadata === null ? null : JSON.parse(walk.metadata)
    rows.push([formatMoment(walk.seconds, walk.nanos), walk.service, levelAt(walk.level), walk.message, metadata])
  }
  return { ...step.value, rows }
}

test('plain lines are messages; blank lines, CR and a missing last line feed are nothing special', () => {
  const { rows, total } = decode('hello\r\n\n  \nworld', { service: 'shop', level: 'warn' })
  assert.deepEqual(rows, [
    [receipt, 'shop', 'WARN', 'hello', null],
    [receipt, 'shop', 'WARN', 'world', null],
  ])
  assert.equal(total, 2)
})

test('objects give message, time, level and service by the usual names; the rest is metadata', () => {
  const { rows } = decode(`{"msg":"up","ts":1768478399.5,"lvl":"err","app":"api v2","port":8080,"a":{"b":[1]}}
{"log":"x","@timestamp":"2026-01-15 11:00:00.25Z","severity":20,"service.name":"billing"}
{"_msg":"y","time":"1768478399123","log.level":"chatty","container_name":"c"}
{"body":{"deep":1},"timestamp":1768478399123456789}`)
  assert.deepEqual(rows, [
    ['2026-01-15T11:59:59.5Z', 'api v2', 'ERROR', 'up', { port: 8080, a: { b: [1] } }],
    ['2026-01-15T11:00:00.25Z', 'billing', 'DEBUG', 'x', null],
    ['2026-01-15T11:59:59.123Z', 'c', 'INFO', 'y', { severity_text: 'chatty' }],
    ['2026-01-15T11:59:59.123456789Z', 'my-key', 'INFO', '{"deep":1}', null],
  ])
})

test('the named fields come before the usual ones', () => {
  const { rows } = decode('{"event":"e","message":"m","when":"2026-01-15T10:00:00Z","time":1}', {
    messageField: 'event',
    timeField: 'when',
  })
  assert.deepEqual(rows, [['2026-01-15T10:00:00Z', 'my-key', 'INFO', 'e', { message: 'm', time: 1 }]])
})

test('an object without a message is its own message, and stays searchable', () => {
  assert.deepEqual(decode('{"status":500, "token":"hush"}').rows, [
    [receipt, 'my-key', 'INFO', '{"status":500}', { status: 500 }],
  ])
})

test('what only looks like an object is a line', () => {
  assert.deepEqual(
    decode('{"a":1} trailing\n{broken').rows.map(row => row[3]),
    ['{"a":1} trailing', '{broken'],
  )
})

test('a time far ahead is replaced by the receipt and kept beside it', () => {
  assert.deepEqual(decode('{"message":"m","time":"2027-01-01T00:00:00Z"}').rows, [
    [receipt, 'my-key', 'INFO', 'm', { original_timestamp: '2027-01-01T00:00:00Z' }],
  ])
})

test('an unreadable time is not lost', () => {
  assert.deepEqual(decode('{"message":"m","time":"noon"}').rows, [[receipt, 'my-key', 'INFO', 'm', { time: 'noon' }]])
})

test('long messages are cut between characters and say how long they were', () => {
  const { rows } = decode('é'.repeat(60))
  assert.deepEqual(rows, [[receipt, 'my-key', 'INFO', 'é'.repeat(50), { _truncated_from_bytes: 120 }]])
})

test('secrets are removed from metadata', () => {
  assert.deepEqual(decode('{"message":"m","password":"p","n":{"api-key":1}}').rows[0]?.[4], { n: {} })
})

test('too deep metadata is refused by its line number, the neighbours stay', () => {
  const { rows, rejected, rejectedCount } = decode(`a\n\n{"message":"m","x":${'['.repeat(128)}${']'.repeat(128)}}\nb`)
  assert.equal(rows.length, 2)
  assert.deepEqual(rejected, ['Line 3: metadata nesting exceeds 128 levels'])
  assert.equal(rejectedCount, 1)
})

test('too many lines are refused', () => {
  assert.throws(() => decode('a\nb\nc', { entriesMax: 2 }), TooManyEntries)
})

test('any bytes give rows, and as many as there are lines with something on them', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.json(), fc.string(), fc.uint8Array({ maxLength: 20 }))), parts => {
      const body = Buffer.concat(
        parts.flatMap(part => [typeof part === 'string' ? Buffer.from(part) : part, Buffer.from('\n')]),
      )
      const { rows, rejectedCount } = decode(body)
      const lines = body
        .toString('latin1')
        .split('\n')
        .filter(line => /[^ \t\r]/.test(line))
      assert.equal(rows.length + rejectedCount, lines.length)
    }),
  )
})
