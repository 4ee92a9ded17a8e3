import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { CorruptPart, decodePart, digestPart, encodeParts } from './part.ts'
import { compareSamples, hourNs, hourOf, type Sample, sampleSet } from './sample.ts'

const int63 = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }), fc.bigInt({ min: 0n, max: 1000n }))
const arbitrarySample: fc.Arbitrary<Sample> = fc.record(
  {
    atNs: fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }), fc.bigInt({ min: 0n, max: 3n * hourNs })),
    cpuNs: int63,
    memoryBytes: int63,
    diskReadBytes: int63,
    diskWriteBytes: int63,
    netRxBytes: int63,
    netTxBytes: int63,
  },
  { noNullPrototype: true },
)

test('decoding what was encoded gives the set of samples, cut at the hours', () => {
  fc.assert(
    fc.property(fc.array(arbitrarySample, { maxLength: 40 }), samples => {
      const parts = encodeParts(samples)
      assert.deepEqual(
        parts.flatMap(part => decodePart(part.body)),
        sampleSet(samples),
      )
      for (const part of parts) {
        const decoded = decodePart(part.body)
        assert.ok(decoded.every(sample => hourOf(sample.atNs) === part.hour))
        assert.deepEqual([decoded.length, decoded[0]?.atNs, decoded.at(-1)?.atNs], [part.count, part.minNs, part.maxNs])
      }
      assert.equal(new Set(parts.map(part => part.hour)).size, parts.length)
    }),
  )
})

test('order and duplicates inside a batch do not change the bytes', () => {
  fc.assert(
    fc.property(fc.array(arbitrarySample, { minLength: 1, maxLength: 20 }), fc.nat(), (samples, seed) => {
      const shuffled = [...samples, ...samples].toSorted(
        (a, b) =>
          Number((a.cpuNs ^ BigInt(seed)) % 97n) - Number((b.cpuNs ^ BigInt(seed)) % 97n) || compareSamples(b, a),
      )
      const digests = (set: readonly Sample[]) => encodeParts(set).map(part => digestPart(part.body).toString('hex'))
      assert.deepEqual(digests(shuffled), digests(samples))
    }),
  )
})

test('any flipped bit is found', () => {
  fc.assert(
    fc.property(fc.array(arbitrarySample, { minLength: 1, maxLength: 5 }), fc.nat(), (samples, bit) => {
      for (const { body } of encodeParts(samples)) {
        const damaged = Buffer.from(body)
        const at = Math.floor(bit / 8) % body.length
        damaged[at] = (damaged[at] ?? 0) ^ (1 << (bit % 8))
        assert.throws(() => decodePart(damaged), CorruptPart)
      }
    }),
  )
})

test('bytes from elsewhere are refused, never read past or looped over', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
      assert.throws(() => decodePart(bytes), CorruptPart)
    }),
  )
})

test('a steady VM takes few bytes a sample', () => {
  const samples = Array.from({ length: 600 }, (_, i) => {
    const jitter = BigInt((i * 7919) % 1000)
    const n = BigInt(i)
    return {
      atNs: 1_790_000_000_000_000_000n + n * 100_000_000n + jitter * 1000n,
      cpuNs: n * 93_000_000n + jitter * 2000n,
      memoryBytes: 2_147_483_648n + 4096n * (jitter % 5n),
      diskReadBytes: n * 4096n,
      diskWriteBytes: n * 8192n,
      netRxBytes: n * 1500n,
      netTxBytes: n * 900n,
    }
  })
  const bytes = encodeParts(samples).reduce((sum, part) => sum + part.body.length, 0)
  assert.ok(bytes / samples.length <= 14, `${bytes / samples.length} bytes a sample`)
})
