import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { createColumns } from './columns.ts'
import { hourNs, type Sample, valueFields } from './sample.ts'
import { decodeSummary, encodeSummary, summaryBytes } from './summary.ts'
import { writeSummary } from './summary-columns.ts'

const start = 497_000n * hourNs
const level = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
  fc.bigInt({ min: 0n, max: 1n << 33n }),
  fc.constant(0n),
)
const step = fc.record({
  spacing: fc.oneof(fc.bigInt({ min: 1n, max: 40_000_000_000n }), fc.constant(100_000_000n)),
  rise: fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 2n ** 56n }), fc.bigInt({ min: 0n, max: 9n })),
  memory: level,
})
const samples = fc
  .tuple(level, fc.array(step, { minLength: 30, maxLength: 80 }), fc.option(fc.nat(60), { freq: 3 }), fc.boolean())
  .map(([from, steps, fallAt, isIdle]) => {
    let [at, count] = [start, isIdle ? 0n : from >> 1n]
    return steps.map(({ spacing, rise, memory }, i): Sample => {
      at += spacing
      count = i === fallAt ? count / 2n : isIdle ? count : BigInt.asUintN(63, count + rise)
      const others = { diskReadBytes: count >> 1n, diskWriteBytes: count, netRxBytes: count >> 33n, netTxBytes: 0n }
      return { atNs: at, cpuNs: count, memoryBytes: isIdle && i % 9 > 6 ? 0n : memory, ...others }
    })
  })

function fromColumns(list: readonly Sample[]): Buffer | null {
  const columns = createColumns(list.length + 3)
  columns.count = list.length
  for (const [i, sample] of list.entries()) {
    columns.seconds[i] = Number(sample.atNs / 1_000_000_000n)
    columns.nanos[i] = Number(sample.atNs % 1_000_000_000n)
    for (const [f, field] of valueFields.entries()) {
      columns.high[f * columns.capacity + i] = Number(sample[field] >> 32n)
      columns.low[f * columns.capacity + i] = Number(sample[field] & 0xffff_ffffn)
    }
  }
  const out = Buffer.alloc(summaryBytes + 10)
  return writeSummary(columns, 0, list.length, out, 10) ? out.subarray(10) : null
}

test('a summary from columns is the one from samples, to the byte, and says what the samples come to', () => {
  let some = 0
  fc.assert(
    fc.property(samples, list => {
      const bytes = encodeSummary(list)
      assert.deepEqual(fromColumns(list)?.toString('hex'), bytes?.toString('hex'))
      const [first, last] = [list[0], list.at(-1)]
      if (bytes === null || first === undefined || last === undefined) return
      some++
      const summary = decodeSummary(bytes, { count: list.length, minNs: first.atNs, maxNs: last.atNs })
      assert.deepEqual([summary?.first, summary?.last], [first, last])
      const spacings = list.slice(1).map((b, i) => b.atNs - (list[i]?.atNs ?? 0n))
      assert.deepEqual(summary?.headSpacings, spacings.slice(0, 16))
      assert.deepEqual(summary?.tailSpacings, spacings.slice(-16))
      assert.equal(
        summary?.maxSpacingNs,
        spacings.reduce((most, ns) => (ns > most ? ns : most)),
      )
      const least = (a: bigint, b: bigint) => (a < b ? a : b)
      const memory = spacings.reduce(
        (sum, ns, i) => sum + ns * least(list[i]?.memoryBytes ?? 0n, list[i + 1]?.memoryBytes ?? 0n),
        0n,
      )
      assert.equal(summary?.memoryByteNs, memory)
    }),
    { numRuns: 300 },
  )
  // One in four or so; which ones is chance.
  assert.ok(some > 10, `only ${some} had a summary`)
})

test('a summary with a flipped bit is none', () => {
  const list = Array.from({ length: 40 }, (_, i): Sample => {
    const n = BigInt(i + 1)
    const values = { cpuNs: n, memoryBytes: 7n, diskReadBytes: n, diskWriteBytes: n, netRxBytes: n, netTxBytes: n }
    return { atNs: start + n, ...values }
  })
  const of = { count: 40, minNs: start + 1n, maxNs: start + 40n }
  const bytes = encodeSummary(list)
  assert.ok(bytes !== null && decodeSummary(bytes, of) !== null)
  for (let bit = 0; bit < summaryBytes * 8; bit++) {
    const damaged: Buffer = Buffer.from(bytes)
    damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    assert.equal(decodeSummary(damaged, of), null)
  }
})
