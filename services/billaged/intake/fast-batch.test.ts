import assert from 'node:assert/strict'
import test from 'node:test'
import { create, fromBinary, fromJson, type JsonObject, toBinary, toJson } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { SendMetricsBatchRequestSchema } from '#proto/billing/v1/billing_pb'
import { samplesOf } from '../samples/columns.ts'
import { decodeBatch } from './decode-batch.ts'
import { decodeJsonBatch } from './decode-json-batch.ts'
import { encodeBatch } from './fast-batch.ts'
import { encodeRecord } from './record.ts'
import { batchFacts } from './validate.ts'

const int63 = fc.oneof(
  fc.bigInt({ min: 0n, max: 1000n }),
  fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
  fc.bigInt({ min: 0n, max: 62n }).map(bits => 2n ** bits),
  fc.bigInt({ min: 0n, max: 62n }).map(bits => 2n ** bits - 1n),
)
const nowS = 1_790_000_000n
const window = {
  nowNs: nowS * 1_000_000_000n,
  maxFutureNs: 300n * 1_000_000_000n,
  maxPastNs: 2400n * 3600n * 1_000_000_000n,
}

const reading = fc.record(
  {
    timestamp: fc.record({
      seconds: fc.oneof(
        { weight: 8, arbitrary: fc.bigInt({ min: nowS - 7_200n, max: nowS }) },
        { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 62n }) },
      ),
      nanos: fc.oneof(fc.constant(0), fc.nat(999_999_999)),
    }),
    cpuTimeNanos: int63,
    memoryUsageBytes: int63,
    diskReadBytes: int63,
    diskWriteBytes: int63,
    networkRxBytes: int63,
    networkTxBytes: int63,
  },
  { requiredKeys: ['timestamp'], noNullPrototype: true },
)
const batch = fc.record(
  {
    vmId: fc.oneof(fc.constant('vm-1'), fc.string({ maxLength: 20 })),
    customerId: fc.oneof(fc.constant('acme'), fc.string({ maxLength: 20 })),
    metrics: fc.array(reading, { maxLength: 30 }),
  },
  { noNullPrototype: true },
)

/** What the generated decoder makes of the same bytes; null when it refuses them. */
function generated(body: Uint8Array) {
  try {
    return fromBinary(SendMetricsBatchRequestSchema, body)
  } catch {
    return null
  }
}

function sameAsGenerated(body: Uint8Array) {
  const ours = decodeBatch(Buffer.from(body), 100_000)
  if (ours === null) return false
  const theirs = generated(body)
  assert.ok(theirs !== null, `the generated decoder refuses ${Buffer.from(body).toString('hex')}`)
  assert.deepEqual([ours.vmId, ours.customerId], [theirs.vmId, theirs.customerId])
  const samples = samplesOf(ours.columns)
  assert.equal(samples.length, theirs.metrics.length)
  for (const [i, message] of theirs.metrics.entries()) {
    const { seconds = 0n, nanos = 0 } = message.timestamp ?? {}
    assert.deepEqual(samples[i], {
      atNs: seconds * 1_000_000_000n + BigInt(nanos),
      cpuNs: message.cpuTimeNanos,
      memoryBytes: message.memoryUsageBytes,
      diskReadBytes: message.diskReadBytes,
      diskWriteBytes: message.diskWriteBytes,
      netRxBytes: message.networkRxBytes,
      netTxBytes: message.networkTxBytes,
    })
  }
  return true
}

test('the hand-written decoder takes every ordinary batch and reads it as the generated one does', () => {
  const ordinary = batch.filter(
    ({ vmId, customerId, metrics }) =>
      /^[\x20-\x7e]+$/.test(vmId) && /^[\x20-\x7e]+$/.test(customerId) && metrics.length > 0,
  )
  fc.assert(
    fc.property(ordinary, message => {
      const taken = sameAsGenerated(
        toBinary(SendMetricsBatchRequestSchema, create(SendMetricsBatchRequestSchema, message)),
      )
      const isFar = message.metrics.some(({ timestamp }) => timestamp.seconds >= 2n ** 53n)
      assert.equal(taken, !isFar)
    }),
  )
})

/** Valid fields, oddly put: repeated, split, over-long, unknown, out of order, in the wrong wire type. */
const varint = (value: bigint, pad: number) => {
  const bytes: number[] = []
  let rest = value
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80)
    rest >>= 7n
  }
  bytes.push(Number(rest))
  for (let i = 0; i < pad && bytes.length < 10; i++) {
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) | 0x80
    bytes.push(0)
  }
  return bytes
}
const number = fc
  .tuple(fc.oneof(int63, fc.bigInt({ min: 2n ** 63n, max: 2n ** 64n - 1n })), fc.nat(9))
  .map(([value, pad]) => varint(value, pad))
const delimited = (tag: number, content: readonly number[]) => [tag, ...varint(BigInt(content.length), 0), ...content]
const timeField = fc.oneof(
  fc.tuple(fc.nat(2 ** 31), fc.nat(3)).map(([n, pad]) => [0x08, ...varint(BigInt(n), pad)]),
  number.map(bytes => [0x08, ...bytes]),
  fc.nat(2 ** 30).map(n => [0x10, ...varint(BigInt(n), 0)]),
)
const fields = (field: fc.Arbitrary<number[]>, maxLength: number) =>
  fc.array(field, { maxLength }).map(all => all.flat())
const readingField = fc.oneof(
  { weight: 9, arbitrary: fields(timeField, 3).map(bytes => delimited(0x0a, bytes)) },
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.constantFrom(0x10, 0x18, 0x20, 0x28, 0x30, 0x38), number)
      .map(([tag, bytes]) => [tag, ...bytes]),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat(255), fc.uint8Array({ maxLength: 4 })).map(([tag, bytes]) => [tag, ...bytes]),
  },
)
const batchField = fc.oneof(
  { weight: 15, arbitrary: fields(readingField, 5).map(bytes => delimited(0x1a, [0x0a, 0, ...bytes])) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.constantFrom(0x0a, 0x12), fc.string({ maxLength: 10 }))
      .map(([tag, text]) => delimited(tag, [...Buffer.from(text)])),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat(255), fc.uint8Array({ maxLength: 6 })).map(([tag, bytes]) => [tag, ...bytes]),
  },
)

test('what it takes of odd bytes it reads as the generated one does: repeated, split, padded, unknown, cut off', () => {
  let taken = 0
  fc.assert(
    fc.property(fields(batchField, 4), fc.constantFrom(0, 0, 0, 1, 2), (tail, cut) => {
      const bytes = [0x0a, 1, 0x76, ...tail]
      if (sameAsGenerated(Uint8Array.from(bytes.slice(0, bytes.length - cut)))) taken++
    }),
    { numRuns: 3000 },
  )
  assert.ok(taken > 100, `it took only ${taken} of them`)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), bytes => {
      sameAsGenerated(bytes)
    }),
  )
})

test('JSON that the short way takes means what the generated decoder says, in either spelling of names and numbers', () => {
  let taken = 0
  fc.assert(
    fc.property(batch, fc.infiniteStream(fc.nat(9)), (message, dice) => {
      const json = toJson(
        SendMetricsBatchRequestSchema,
        create(SendMetricsBatchRequestSchema, {
          ...message,
          metrics: message.metrics.filter(({ timestamp }) => timestamp.seconds < 253_402_300_799n),
        }),
      ) as JsonObject
      const respelt = JSON.parse(JSON.stringify(json), (key, value) => {
        const roll = dice.next().value ?? 0
        if (roll > 6 && /Nanos|Bytes/.test(key) && Number.isSafeInteger(Number(value))) return Number(value)
        if (roll < 1 && /Nanos|Bytes/.test(key)) return `-${value}`
        return value
      })
      const ours = decodeJsonBatch(respelt, 100_000)
      if (ours === null) return
      taken++
      const theirs = fromJson(SendMetricsBatchRequestSchema, respelt)
      const body = toBinary(SendMetricsBatchRequestSchema, theirs)
      assert.deepEqual(
        samplesOf(ours.columns),
        samplesOf(decodeBatch(Buffer.from(body), 100_000)?.columns ?? ours.columns),
      )
      assert.deepEqual(
        samplesOf(ours.columns).map(sample => sample.cpuNs),
        theirs.metrics.map(metric => metric.cpuTimeNanos),
      )
    }),
    { numRuns: 1500 },
  )
  assert.ok(taken > 30, `it took only ${taken}`)
})

test('the record made from columns is byte for byte the one made from samples, whatever their order and size', () => {
  let made = 0
  fc.assert(
    fc.property(fc.array(reading, { minLength: 1, maxLength: 30 }), fc.boolean(), (metrics, isSorted) => {
      const at = (r: (typeof metrics)[number]) => r.timestamp.seconds * 1_000_000_000n + BigInt(r.timestamp.nanos)
      const ordered = isSorted ? metrics.toSorted((a, b) => (at(a) < at(b) ? -1 : 1)) : metrics
      const message = create(SendMetricsBatchRequestSchema, { vmId: 'vm-1', customerId: 'acmé', metrics: ordered })
      const body = toBinary(SendMetricsBatchRequestSchema, { ...message, customerId: 'acme' })
      const decoded = decodeBatch(Buffer.from(body), 100_000)
      if (decoded === null) return
      const ours = encodeBatch('acmé', 'vm-1', decoded.columns, window)
      const { facts, aside } = batchFacts('acmé', 'vm-1', message.metrics, window)
      if (aside.size > 0) assert.equal(ours, null)
      if (ours === null) return
      made++
      assert.ok(ours.equals(encodeRecord(facts)))
    }),
    { numRuns: 500 },
  )
  assert.ok(made > 100, `it made only ${made}`)
})
