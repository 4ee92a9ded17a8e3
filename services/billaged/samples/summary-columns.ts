import { crc32 } from 'node:zlib'
import { type Columns, valuesPerSample } from './columns.ts'
import { spacingsKept, summarisedMin, summaryBytes } from './summary.ts'

// The same bytes as `encodeSummary` (summary.ts describes them), from columns: without a BigInt per sample.

/** Writes the summary of samples [from, to), which are in strictly ascending order and within one hour, at `at`. False,
 *  and nothing that counts is written, when they have none. */
export function writeSummary(columns: Columns, from: number, to: number, out: Buffer, at: number): boolean {
  if (to - from < summarisedMin || !doCountersRise(columns, from, to) || hasNoReading(columns, from, to)) return false
  const { seconds, nanos, high, low, capacity } = columns
  const startS = seconds[from] ?? 0
  const timeOf = (i: number) => ((seconds[i] ?? 0) - startS) * 1e9 + (nanos[i] ?? 0)
  const memory = capacity
  sums.fill(0)
  let before = timeOf(from)
  let [h1, l1] = [high[memory + from] ?? 0, low[memory + from] ?? 0]
  let [peakHigh, peakLow] = [h1, l1]
  let maxSpacing = 0
  for (let i = from + 1; i < to; i++) {
    const time = timeOf(i)
    const spacing = time - before
    before = time
    if (spacing > maxSpacing) maxSpacing = spacing
    const [h2, l2] = [high[memory + i] ?? 0, low[memory + i] ?? 0]
    const isLess = h2 < h1 || (h2 === h1 && l2 < l1)
    addProduct(isLess ? h2 : h1, isLess ? l2 : l1, spacing)
    if (h2 > peakHigh || (h2 === peakHigh && l2 > peakLow)) {
      peakHigh = h2
      peakLow = l2
    }
    h1 = h2
    l1 = l2
  }
  const byteNs = sumOfProducts()
  const begin = at
  at = out.writeUInt8(1, at)
  at = out.writeBigInt64BE(BigInt(maxSpacing), at)
  at = out.writeBigUInt64BE(byteNs >> 64n, at)
  at = out.writeBigUInt64BE(BigInt.asUintN(64, byteNs), at)
  at = writeLimbs(out, at, peakHigh, peakLow)
  for (const i of [from, to - 1])
    for (let f = 0; f < valuesPerSample; f++)
      at = writeLimbs(out, at, high[f * capacity + i] ?? 0, low[f * capacity + i] ?? 0)
  for (const first of [from + 1, to - spacingsKept])
    for (let i = first; i < first + spacingsKept; i++) at = out.writeUIntBE(timeOf(i) - timeOf(i - 1), at, 6)
  out.writeUInt32BE(crc32(out.subarray(begin, at)), at)
  return at + 4 - begin === summaryBytes
}

function doCountersRise({ high, low, capacity }: Columns, from: number, to: number): boolean {
  for (let f = 0; f < valuesPerSample; f++) {
    if (f === 1) continue
    const end = f * capacity + to
    let [h1, l1] = [0, 0]
    for (let i = f * capacity + from; i < end; i++) {
      const h2 = high[i] ?? 0
      const l2 = low[i] ?? 0
      if (h2 < h1 || (h2 === h1 && l2 < l1)) return false
      h1 = h2
      l1 = l2
    }
  }
  return true
}

/** Of counters that rise only the first samples can be all zero. */
function hasNoReading({ high, low, capacity }: Columns, from: number, to: number): boolean {
  for (let i = from; i < to; i++) {
    let isAllZero = true
    for (let f = 0; f < valuesPerSample && isAllZero; f++)
      isAllZero = high[f * capacity + i] === 0 && low[f * capacity + i] === 0
    if (isAllZero) return true
    if (high[i] !== 0 || low[i] !== 0) return false
  }
  return false
}

// A level of 63 bits times a spacing of 42, summed exactly in doubles: both in two limbs, and each product, which is below
// 2⁵³, cut once more so that a hundred thousand of them can be added.

const spacingLimb = 2 ** 21
const cut = 2 ** 26
/** Upper and lower parts of the sums of low × low, low × high, high × low and high × high. */
const sums = new Float64Array(8)

function addProduct(high: number, low: number, spacing: number) {
  const s1 = Math.floor(spacing / spacingLimb)
  const s0 = spacing - s1 * spacingLimb
  add(0, low * s0)
  add(2, low * s1)
  if (high === 0) return
  add(4, high * s0)
  add(6, high * s1)
}

function add(at: number, product: number) {
  const upper = Math.floor(product / cut)
  sums[at] = (sums[at] ?? 0) + upper
  sums[at + 1] = (sums[at + 1] ?? 0) + (product - upper * cut)
}

function sumOfProducts(): bigint {
  const sum = (at: number) => (BigInt(sums[at] ?? 0) << 26n) + BigInt(sums[at + 1] ?? 0)
  return sum(0) + (sum(2) << 21n) + (sum(4) << 32n) + (sum(6) << 53n)
}

function writeLimbs(out: Buffer, at: number, high: number, low: number): number {
  return out.writeUInt32BE(low, out.writeUInt32BE(high, at))
}
