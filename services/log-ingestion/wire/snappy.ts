// Snappy's block format: a length, then literals and copies from what was already written.
// https://github.com/google/snappy/blob/main/format_description.txt

import { Buffer } from 'node:buffer'

export class SnappyError extends Error {}

/** The length the block says it has; at most 2^32 - 1. @throws SnappyError */
export function snappyLength(block: Uint8Array): { length: number; at: number } {
  let length = 0
  for (let at = 0; at < 5; at++) {
    const byte = block[at]
    if (byte === undefined) break
    length += (byte & 0x7f) * 2 ** (7 * at)
    if (byte < 0x80) {
      if (length > 0xffff_ffff) break
      return { length, at: at + 1 }
    }
  }
  throw new SnappyError('the snappy block does not begin with its length')
}

const yieldEveryBytes = 256 * 1024

/** Whoever calls has checked `snappyLength`: that many bytes are allocated before anything else is known. Gives way every
 *  256 KiB. @throws SnappyError */
export function* snappyDecode(block: Uint8Array): Generator<void, Buffer> {
  const { length, at: start } = snappyLength(block)
  const out = Buffer.allocUnsafe(length)
  let written = 0
  let yieldAt = yieldEveryBytes
  let at = start
  while (at < block.length) {
    if (written >= yieldAt) {
      yieldAt = written + yieldEveryBytes
      yield
    }
    const tag = block[at++] as number
    let count: number
    if ((tag & 3) === 0) {
      count = (tag >> 2) + 1
      if (count > 60) {
        const extra = count - 60
        count = littleEndian(block, at, extra) + 1
        at += extra
      }
      if (count > block.length - at) throw new SnappyError(`a literal runs past the end at byte ${at}`)
      if (count > length - written) throw tooLong(length)
      out.set(block.subarray(at, at + count), written)
      at += count
      written += count
      continue
    }
    let offset: number
    if ((tag & 3) === 1) {
      count = ((tag >> 2) & 7) + 4
      offset = ((tag >> 5) << 8) | littleEndian(block, at, 1)
      at += 1
    } else {
      count = (tag >> 2) + 1
      const bytes = (tag & 3) === 2 ? 2 : 4
      offset = littleEndian(block, at, bytes)
      at += bytes
    }
    if (offset === 0 || offset > written) throw new SnappyError(`a copy from before the start at byte ${at}`)
    if (count > length - written) throw tooLong(length)
    // A copy may overlap what it writes: that is how runs are spelt.
    if (offset >= count) out.copyWithin(written, written - offset, written - offset + count)
    else for (let i = 0; i < count; i++) out[written + i] = out[written + i - offset] as number
    written += count
  }
  if (written !== length) throw new SnappyError(`the block says ${length} bytes and holds ${written}`)
  return out
}

function littleEndian(block: Uint8Array, at: number, count: number): number {
  let value = 0
  for (let i = 0; i < count; i++) {
    const byte = block[at + i]
    if (byte === undefined) throw new SnappyError('the block is cut inside a tag')
    value += byte * 2 ** (8 * i)
  }
  return value
}

function tooLong(length: number): SnappyError {
  return new SnappyError(`the block says ${length} bytes and holds more`)
}
