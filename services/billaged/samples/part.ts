import { hash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { hourNs, type Sample, sampleSet, valueFields } from './sample.ts'
import { encodeSummary } from './summary.ts'

// A part holds the samples of one series within one UTC hour: sorted, each once, column by column.
//
//   version u8 = 1 · count varint · hour varint · 7 columns · CRC-32 u32 little-endian over all before it
//   column: first value, first difference, then differences of differences; each a zigzag varint of 64 bits
//
// Counters and clocks move evenly, so second differences are small. All arithmetic wraps at 64 bits, which makes it
// exact for every 64-bit input. Equal sets of samples give equal bytes, so a part's digest names its content.

export interface Part {
  /** Hours since 1970. */
  hour: number
  count: number
  minNs: bigint
  maxNs: bigint
  body: Buffer
  /** See summary.ts; absent when the part has none. */
  summary?: Buffer
}

/** The parts of a batch: one per hour it touches, in order of time. */
export function encodeParts(samples: readonly Sample[]): Part[] {
  const parts: Part[] = []
  const set = sampleSet(samples)
  for (let from = 0; from < set.length; ) {
    const first = set[from]
    if (first === undefined) break
    const hour = first.atNs / hourNs
    let to = from + 1
    for (let next = set[to]; next !== undefined && next.atNs / hourNs === hour; next = set[to]) to++
    parts.push(encodePart(Number(hour), set.slice(from, to)))
    from = to
  }
  return parts
}

/** First 16 bytes of SHA-256: what tells one part of a series and hour from another. */
export function digestPart(body: Uint8Array): Buffer {
  return hash('sha256', body, 'buffer').subarray(0, 16)
}

export class CorruptPart extends Error {
  override name = 'CorruptPart'
}

/** None of a damaged part, which is reported where it is read for usage. */
export function decodeIntact(body: Uint8Array): Sample[] {
  try {
    return decodePart(body)
  } catch (error) {
    if (error instanceof CorruptPart) return []
    throw error
  }
}

/** Samples in order of time. Throws CorruptPart on bytes that `encodeParts` did not write. */
export function decodePart(body: Uint8Array): Sample[] {
  if (body.length < 8 || body[0] !== version) throw new CorruptPart(`part of version ${body[0]}; this reads ${version}`)
  const end = body.length - 4
  const stored = Buffer.from(body.buffer, body.byteOffset + end, 4).readUInt32LE()
  const computed = crc32(body.subarray(0, end))
  if (stored !== computed) throw new CorruptPart(`part has CRC ${computed}, its trailer says ${stored}`)
  const reader = { body, at: 1, end }
  const count = Number(readVarint(reader))
  const start = readVarint(reader) * hourNs
  // A sample takes at least a byte per column; a larger count would only reserve memory for nothing.
  if (count > end) throw new CorruptPart(`part of ${body.length} bytes claims ${count} samples`)
  const [at, cpuNs, memoryBytes, diskReadBytes, diskWriteBytes, netRxBytes, netTxBytes] = Array.from(
    { length: 1 + valueFields.length },
    () => readColumn(reader, count),
  )
  if (reader.at !== end) throw new CorruptPart('part has bytes after its last column')
  return Array.from({ length: count }, (_, i) => ({
    atNs: start + (at?.[i] ?? 0n),
    cpuNs: cpuNs?.[i] ?? 0n,
    memoryBytes: memoryBytes?.[i] ?? 0n,
    diskReadBytes: diskReadBytes?.[i] ?? 0n,
    diskWriteBytes: diskWriteBytes?.[i] ?? 0n,
    netRxBytes: netRxBytes?.[i] ?? 0n,
    netTxBytes: netTxBytes?.[i] ?? 0n,
  }))
}

const version = 1

function encodePart(hour: number, samples: readonly Sample[]): Part {
  // Seven columns of at most ten bytes a value.
  const body = Buffer.allocUnsafe(32 + samples.length * 70)
  const writer = { body, at: 0 }
  body[writer.at++] = version
  writeVarint(writer, BigInt(samples.length))
  writeVarint(writer, BigInt(hour))
  const start = BigInt(hour) * hourNs
  writeColumn(writer, samples, sample => sample.atNs - start)
  for (const field of valueFields) writeColumn(writer, samples, sample => sample[field])
  body.writeUInt32LE(crc32(body.subarray(0, writer.at)), writer.at)
  const summary = encodeSummary(samples)
  return {
    hour,
    count: samples.length,
    minNs: samples[0]?.atNs ?? 0n,
    maxNs: samples.at(-1)?.atNs ?? 0n,
    body: Buffer.from(body.subarray(0, writer.at + 4)),
    ...(summary === null ? {} : { summary }),
  }
}

interface Writer {
  readonly body: Buffer
  at: number
}

function writeColumn(writer: Writer, samples: readonly Sample[], pick: (sample: Sample) => bigint) {
  let value = 0n
  let step = 0n
  for (const sample of samples) {
    const next = pick(sample)
    const nextStep = BigInt.asIntN(64, next - value)
    writeVarint(writer, zigzag(BigInt.asIntN(64, nextStep - step)))
    value = next
    step = nextStep
  }
}

const zigzag = (n: bigint) => BigInt.asUintN(64, n < 0n ? (-n << 1n) - 1n : n << 1n)

function writeVarint(writer: Writer, value: bigint) {
  // Nearly every value fits a double, whose arithmetic is far cheaper than a bigint's.
  if (value <= 0xfff_ffff_ffffn) {
    let rest = Number(value)
    while (rest > 0x7f) {
      writer.body[writer.at++] = (rest % 0x80) | 0x80
      rest = Math.floor(rest / 0x80)
    }
    writer.body[writer.at++] = rest
    return
  }
  let rest = value
  while (rest > 0x7fn) {
    writer.body[writer.at++] = Number(rest & 0x7fn) | 0x80
    rest >>= 7n
  }
  writer.body[writer.at++] = Number(rest)
}

interface Reader {
  readonly body: Uint8Array
  at: number
  readonly end: number
}

function readColumn(reader: Reader, count: number): BigInt64Array {
  const column = new BigInt64Array(count)
  let value = 0n
  let step = 0n
  for (let i = 0; i < count; i++) {
    const coded = readVarint(reader)
    step = BigInt.asIntN(64, step + (coded & 1n ? -(coded >> 1n) - 1n : coded >> 1n))
    value = BigInt.asIntN(64, value + step)
    column[i] = value
  }
  return column
}

function readVarint(reader: Reader): bigint {
  let low = 0
  let scale = 1
  // Six bytes are 42 bits: whole in a double.
  for (let i = 0; i < 6; i++) {
    const byte = nextByte(reader)
    low += (byte & 0x7f) * scale
    if (byte < 0x80) return BigInt(low)
    scale *= 0x80
  }
  let value = BigInt(low)
  for (let shift = 42n; shift < 70n; shift += 7n) {
    const byte = nextByte(reader)
    value |= BigInt(byte & 0x7f) << shift
    if (byte < 0x80) return BigInt.asUintN(64, value)
  }
  throw new CorruptPart('part holds a number of more than ten bytes')
}

function nextByte(reader: Reader): number {
  const byte = reader.at < reader.end ? reader.body[reader.at] : undefined
  if (byte === undefined) throw new CorruptPart('part ends inside a number')
  reader.at++
  return byte
}
