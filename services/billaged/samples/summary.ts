import { crc32 } from 'node:zlib'
import { larger, smaller } from '../bigint.ts'
import { type Sample, valueFields } from './sample.ts'

// What a part says when nothing in it is out of the ordinary: counters only rise, every instant has one sample and none is
// "no reading". Then its use is last − first, and folding it needs no look at its samples: ten numbers instead of thousands.
// A summary lies beside the part, made where the part is made; a part without one is folded sample by sample.
//
//   version u8 = 1 · longest spacing i64 · memory in byte-nanoseconds u128 · peak memory i64 · first values 6 × i64
//   · last values 6 × i64 · the first 16 spacings, then the last 16, each 6 bytes · CRC-32 u32; all big-endian

export interface PartSummary {
  readonly count: number
  readonly first: Sample
  readonly last: Sample
  readonly maxSpacingNs: bigint
  /** The smaller of both ends times the length, over all pairs. */
  readonly memoryByteNs: bigint
  readonly peakBytes: bigint
  /** The first 16 spacings, and the last 16: what the rule for gaps looks at from outside. */
  readonly headSpacings: readonly bigint[]
  readonly tailSpacings: readonly bigint[]
}

/** Smaller parts are folded as fast from their samples, and a summary would be much of them. */
export const summarisedMin = 33
export const spacingsKept = 16
export const summaryBytes = 1 + 8 + 16 + 8 + 2 * 6 * 8 + 2 * spacingsKept * 6 + 4

/** Of samples in strictly ascending order; null when they are too few or not plain. */
export function encodeSummary(samples: readonly Sample[]): Buffer | null {
  const [first, last] = [samples[0], samples.at(-1)]
  if (first === undefined || last === undefined || samples.length < summarisedMin) return null
  let maxSpacingNs = 0n
  let memoryByteNs = 0n
  let peakBytes = first.memoryBytes
  const spacings: bigint[] = []
  for (let i = 0; i < samples.length; i++) {
    const [a, b] = [samples[i - 1], samples[i]]
    if (b === undefined || valueFields.every(field => b[field] === 0n)) return null
    if (a === undefined) continue
    const spacingNs = b.atNs - a.atNs
    if (spacingNs <= 0n) return null
    if (valueFields.some(field => field !== 'memoryBytes' && b[field] < a[field])) return null
    maxSpacingNs = larger(maxSpacingNs, spacingNs)
    memoryByteNs += smaller(a.memoryBytes, b.memoryBytes) * spacingNs
    peakBytes = larger(peakBytes, b.memoryBytes)
    spacings.push(spacingNs)
  }
  const out = Buffer.alloc(summaryBytes)
  let at = out.writeUInt8(version, 0)
  at = out.writeBigInt64BE(maxSpacingNs, at)
  at = out.writeBigUInt64BE(memoryByteNs >> 64n, at)
  at = out.writeBigUInt64BE(BigInt.asUintN(64, memoryByteNs), at)
  at = out.writeBigInt64BE(peakBytes, at)
  for (const sample of [first, last]) for (const field of valueFields) at = out.writeBigInt64BE(sample[field], at)
  for (const spacingNs of [...spacings.slice(0, spacingsKept), ...spacings.slice(-spacingsKept)])
    at = out.writeUIntBE(Number(spacingNs), at, 6)
  out.writeUInt32BE(crc32(out.subarray(0, at)), at)
  return out
}

/** Null for bytes that no `encodeSummary` wrote: the part is folded from its samples then. */
export function decodeSummary(
  summary: Buffer,
  { count, minNs, maxNs }: { count: number; minNs: bigint; maxNs: bigint },
): PartSummary | null {
  if (summary.length !== summaryBytes || summary[0] !== version) return null
  if (summary.readUInt32BE(summaryBytes - 4) !== crc32(summary.subarray(0, summaryBytes - 4))) return null
  const spacing = (i: number) => BigInt(summary.readUIntBE(spacingsAt + 6 * i, 6))
  const list = (from: number) => Array.from({ length: spacingsKept }, (_, i) => spacing(from + i))
  return {
    count,
    first: sampleAt(summary, minNs, valuesAt),
    last: sampleAt(summary, maxNs, valuesAt + 48),
    maxSpacingNs: summary.readBigInt64BE(1),
    memoryByteNs: (summary.readBigUInt64BE(9) << 64n) | summary.readBigUInt64BE(17),
    peakBytes: summary.readBigInt64BE(25),
    // Looked at for the rare pair that may be a gap.
    get headSpacings() {
      return list(0)
    },
    get tailSpacings() {
      return list(spacingsKept)
    },
  }
}

const version = 1
const valuesAt = 33
const spacingsAt = valuesAt + 96

function sampleAt(summary: Buffer, atNs: bigint, at: number): Sample {
  return {
    atNs,
    cpuNs: summary.readBigInt64BE(at),
    memoryBytes: summary.readBigInt64BE(at + 8),
    diskReadBytes: summary.readBigInt64BE(at + 16),
    diskWriteBytes: summary.readBigInt64BE(at + 24),
    netRxBytes: summary.readBigInt64BE(at + 32),
    netTxBytes: summary.readBigInt64BE(at + 40),
  }
}
