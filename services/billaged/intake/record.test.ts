import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import type { Json } from '../events/cloud-event.ts'
import { summaryBytes } from '../samples/summary.ts'
import { CorruptRecord, decodeRecord, encodeRecord, type Fact } from './record.ts'

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
const text = fc.string({ unit: 'grapheme', maxLength: 12 })
const maybe = fc.option(text)
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>
const json = fc.json({ maxDepth: 3 }).map((source): Json => JSON.parse(source))

const fact: fc.Arbitrary<Fact> = fc.oneof(
  record<Fact & { kind: 'samples' }>({
    kind: fc.constant('samples'),
    customerId: text,
    vmId: text,
    part: fc.record(
      {
        hour: fc.nat(),
        count: fc.nat(),
        minNs: int64,
        maxNs: int64,
        body: fc.uint8Array({ maxLength: 20 }).map(bytes => Buffer.from(bytes)),
        summary: fc
          .uint8Array({ minLength: summaryBytes, maxLength: summaryBytes })
          .map((bytes): Buffer => Buffer.from(bytes)),
      },
      { requiredKeys: ['hour', 'count', 'minNs', 'maxNs', 'body'], noNullPrototype: true },
    ),
  }),
  record<Fact & { kind: 'mark' }>({
    kind: fc.constant('mark'),
    customerId: maybe,
    vmId: text,
    mark: fc.constantFrom('start', 'stop', 'gap'),
    atNs: int64,
    untilNs: fc.option(int64),
  }),
  record<Fact & { kind: 'heartbeat' }>({
    kind: fc.constant('heartbeat'),
    instanceId: text,
    atNs: int64,
    vmIds: fc.array(text, { maxLength: 5 }),
  }),
  record<Fact & { kind: 'event' }>({
    kind: fc.constant('event'),
    event: record({
      source: text,
      id: text,
      type: text,
      subject: maybe,
      atNs: int64,
      hasTime: fc.boolean(),
      data: json,
    }),
    receivedNs: int64,
  }),
  record<Fact & { kind: 'aside' }>({
    kind: fc.constant('aside'),
    aside: record({
      what: fc.constantFrom('sample', 'event', 'mark'),
      customerId: maybe,
      vmId: maybe,
      reason: fc.constantFrom('no_timestamp', 'before_2000', 'too_far_ahead', 'too_old'),
      receivedNs: int64,
      payload: text,
    }),
  }),
)

test('decoding a record gives the facts that were encoded', () => {
  fc.assert(
    fc.property(fc.array(fact, { maxLength: 6 }), facts => {
      assert.deepEqual(decodeRecord(encodeRecord(facts)), facts)
    }),
  )
})

test('a cut record is refused, unless it was cut between two facts', () => {
  fc.assert(
    fc.property(fc.array(fact, { minLength: 1, maxLength: 3 }), fc.nat(), (facts, cut) => {
      const bytes = encodeRecord(facts)
      const whole = facts.map((_, i) => encodeRecord(facts.slice(0, i)).length)
      const length = cut % bytes.length
      if (!whole.includes(length)) assert.throws(() => decodeRecord(bytes.subarray(0, length)), CorruptRecord)
    }),
  )
})
