import { digestPart, type Part } from '../samples/part.ts'
import { summaryBytes } from '../samples/summary.ts'

// Parts in PostgreSQL's binary COPY format. Text would write each body as hex: twice the bytes, and strings to collect.

export const partColumns = [
  'customer_id',
  'vm_id',
  'hour',
  'digest',
  'n',
  'min_ns',
  'max_ns',
  'summary',
  'body',
] as const

const signature = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)])
const trailer = Buffer.of(0xff, 0xff)

/** Large enough that a system call carries many rows, small enough to be written while the next is made. */
const chunkBytes = 256 * 1024

export function* partRows(facts: readonly { customerId: string; vmId: string; part: Part }[]): Generator<Uint8Array> {
  yield signature
  let chunk = Buffer.allocUnsafe(chunkBytes)
  let at = 0
  for (const { customerId, vmId, part } of facts) {
    const bytesMax = fixedBytes + 3 * (customerId.length + vmId.length) + part.body.length
    if (at + bytesMax > chunk.length) {
      yield chunk.subarray(0, at)
      chunk = Buffer.allocUnsafe(Math.max(chunkBytes, bytesMax))
      at = 0
    }
    at = chunk.writeInt16BE(partColumns.length, at)
    at = writeText(chunk, at, customerId)
    at = writeText(chunk, at, vmId)
    at = writeInt4(chunk, at, part.hour)
    at = writeBytes(chunk, at, digestPart(part.body))
    at = writeInt4(chunk, at, part.count)
    at = writeInt8(chunk, at, part.minNs)
    at = writeInt8(chunk, at, part.maxNs)
    at = part.summary === undefined ? chunk.writeInt32BE(-1, at) : writeBytes(chunk, at, part.summary)
    at = writeBytes(chunk, at, part.body)
  }
  yield chunk.subarray(0, at)
  yield trailer
}

/** Of a row beside its texts and its body: counts, lengths, integers, digest, summary. */
const fixedBytes = 2 + partColumns.length * 4 + 2 * 4 + 2 * 8 + 16 + summaryBytes

function writeText(out: Buffer, at: number, value: string): number {
  const length = out.write(value, at + 4)
  out.writeInt32BE(length, at)
  return at + 4 + length
}

function writeBytes(out: Buffer, at: number, value: Uint8Array): number {
  out.writeInt32BE(value.length, at)
  out.set(value, at + 4)
  return at + 4 + value.length
}

function writeInt4(out: Buffer, at: number, value: number): number {
  return out.writeInt32BE(value, out.writeInt32BE(4, at))
}

function writeInt8(out: Buffer, at: number, value: bigint): number {
  return out.writeBigInt64BE(value, out.writeInt32BE(8, at))
}
