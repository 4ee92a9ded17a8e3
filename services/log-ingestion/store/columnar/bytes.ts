// Growing bytes and varints. Numbers are whole and below 2^53.

import { Buffer } from 'node:buffer'

export class ByteWriter {
  bytes: Buffer
  at = 0

  constructor(capacity = 4_096) {
    this.bytes = Buffer.allocUnsafe(capacity)
  }

  reserve(count: number): void {
    if (this.at + count <= this.bytes.length) return
    const grown = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.at + count))
    this.bytes.copy(grown, 0, 0, this.at)
    this.bytes = grown
  }

  byte(value: number): void {
    this.reserve(1)
    this.bytes[this.at++] = value
  }

  varint(value: number): void {
    this.reserve(8)
    const { bytes } = this
    let at = this.at
    while (value >= 0x8000_0000) {
      const high = Math.floor(value / 128)
      bytes[at++] = (value - high * 128) | 0x80
      value = high
    }
    while (value >= 0x80) {
      bytes[at++] = (value & 0x7f) | 0x80
      value >>>= 7
    }
    bytes[at++] = value
    this.at = at
  }

  /** Small magnitudes of either sign become few bytes; |value| < 2^52. */
  zigzag(value: number): void {
    this.varint(value >= 0 ? value * 2 : -value * 2 - 1)
  }

  copy(source: Uint8Array, from: number, to: number): void {
    const length = to - from
    this.reserve(length)
    const { bytes } = this
    let { at } = this
    // Short copies are quicker in a loop than through a call into native code.
    if (length < 32) for (let i = from; i < to; i++) bytes[at++] = source[i] as number
    else {
      bytes.set(source.subarray(from, to), at)
      at += length
    }
    this.at = at
  }

  text(value: string): void {
    const bytes = Buffer.from(value)
    this.varint(bytes.length)
    this.copy(bytes, 0, bytes.length)
  }

  finish(): Buffer {
    return this.bytes.subarray(0, this.at)
  }
}

export class BlockError extends Error {}

export class ByteReader {
  readonly bytes: Buffer
  at: number

  constructor(bytes: Buffer, at = 0) {
    this.bytes = bytes
    this.at = at
  }

  byte(): number {
    const value = this.bytes[this.at++]
    if (value === undefined) throw new BlockError('a column ends early')
    return value
  }

  varint(): number {
    const { bytes } = this
    let at = this.at
    let byte = bytes[at++] as number
    if (byte < 0x80) {
      this.at = at
      return byte
    }
    let value = byte & 0x7f
    for (let scale = 128; ; scale *= 128) {
      byte = bytes[at++] as number
      if (byte === undefined || scale > 2 ** 49) throw new BlockError('a number in a column runs past its end')
      value += (byte & 0x7f) * scale
      if (byte < 0x80) break
    }
    this.at = at
    return value
  }

  zigzag(): number {
    const value = this.varint()
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }

  slice(length: number): Buffer {
    if (this.at + length > this.bytes.length) throw new BlockError('a column ends early')
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }

  text(): string {
    return this.slice(this.varint()).toString()
  }
}
