import { crc32 } from 'node:zlib'
import { type Columns, valuesPerSample } from './columns.ts'

// The same bytes as `encodeParts` (part.ts describes them), written from columns. Second differences are computed in
// doubles where all of them are exact, which is nearly always; the rest goes through BigInt.

/** Most bytes that a part of so many samples takes. */
export function partBytesMax(samples: number): number {
  return 32 + samples * 70
}

/** Writes the part of samples [from, to), which are in strictly ascending order and within one hour, at `at`; returns
 *  the end. */
export function writePart(columns: Columns, from: number, to: number, hour: number, out: Buffer, at: number): number {
  const begin = at
  out[at++] = 1
  at = writeNumber(out, at, to - from)
  at = writeNumber(out, at, hour)
  at = writeTimes(columns, from, to, hour, out, at)
  for (let f = 0; f < valuesPerSample; f++) at = writeValues(columns, f * columns.capacity, from, to, out, at)
  out.writeUInt32LE(crc32(out.subarray(begin, at)), at)
  return at + 4
}

function writeTimes(columns: Columns, from: number, to: number, hour: number, out: Buffer, at: number): number {
  const { seconds, nanos } = columns
  const startS = hour * 3_600
  let value = 0
  let step = 0
  for (let i = from; i < to; i++) {
    // Below 3.6 × 10¹²: its second differences are whole in a double.
    const next = ((seconds[i] ?? 0) - startS) * 1e9 + (nanos[i] ?? 0)
    const nextStep = next - value
    at = writeSigned(out, at, nextStep - step)
    value = next
    step = nextStep
  }
  return at
}

/** Doubles are whole up to 2⁵³; a second difference of such steps, doubled by the zigzag, stays below it. */
const exactStep = 2 ** 50
const limb = 2 ** 32

function writeValues(
  { high, low }: Columns,
  column: number,
  from: number,
  to: number,
  out: Buffer,
  at: number,
): number {
  let h1 = 0
  let l1 = 0
  let step1 = 0
  for (let i = column + from; i < column + to; i++) {
    const h = high[i] ?? 0
    const l = low[i] ?? 0
    const step = (h - h1) * limb + (l - l1)
    if (step < exactStep && step > -exactStep && step1 < exactStep && step1 > -exactStep)
      at = writeSigned(out, at, step - step1)
    else at = writeExact(high, low, column + from, i, out, at)
    h1 = h
    l1 = l
    step1 = step
  }
  return at
}

/** The second difference at `i` of a column beginning at `first`, before which every value counts as 0. */
function writeExact(high: Uint32Array, low: Uint32Array, first: number, i: number, out: Buffer, at: number): number {
  const value = (k: number) => (k < first ? 0n : (BigInt(high[k] ?? 0) << 32n) | BigInt(low[k] ?? 0))
  const step = BigInt.asIntN(64, value(i) - value(i - 1))
  const before = BigInt.asIntN(64, value(i - 1) - value(i - 2))
  const change = BigInt.asIntN(64, step - before)
  let rest = BigInt.asUintN(64, change < 0n ? (-change << 1n) - 1n : change << 1n)
  while (rest > 0x7fn) {
    out[at++] = Number(rest & 0x7fn) | 0x80
    rest >>= 7n
  }
  out[at++] = Number(rest)
  return at
}

function writeSigned(out: Buffer, at: number, value: number): number {
  return writeNumber(out, at, value < 0 ? -2 * value - 1 : 2 * value)
}

function writeNumber(out: Buffer, at: number, value: number): number {
  let rest = value
  while (rest > 0x7fff_ffff) {
    out[at++] = (rest % 0x80) | 0x80
    rest = Math.floor(rest / 0x80)
  }
  let small = rest | 0
  while (small > 0x7f) {
    out[at++] = (small & 0x7f) | 0x80
    small >>>= 7
  }
  out[at++] = small
  return at
}
