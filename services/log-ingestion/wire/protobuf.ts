// A reader of protobuf's wire format: enough for OTLP and Loki, over slices, building nothing.
//
// Every length is checked against what is there before anything is read, so a hostile message costs what it weighs.

import { Buffer } from 'node:buffer'

export class WireError extends Error {}

/** Fields of one message, in the order in which they are in the bytes. */
export class WireReader {
  readonly bytes: Buffer
  readonly end: number
  at: number
  field = 0
  /** 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes. */
  type = 0
  /** Of a length-delimited field. */
  from = 0
  to = 0
  /** Of the others. */
  value = 0n

  constructor(bytes: Buffer, at = 0, end = bytes.length) {
    this.bytes = bytes
    this.at = at
    this.end = end
  }

  /** Reads the next field into field, type and from…to or value; false at the end. @throws WireError */
  next(): boolean {
    if (this.at >= this.end) return false
    const tag = this.#varint()
    this.type = Number(tag & 7n)
    const field = tag >> 3n
    if (field === 0n || field > 536_870_911n) throw new WireError(`field number ${field} at byte ${this.at}`)
    this.field = Number(field)
    switch (this.type) {
      case 0:
        this.value = this.#varint()
        return true
      case 1:
        this.#need(8)
        this.value = this.bytes.readBigUInt64LE(this.at)
        this.at += 8
        return true
      case 2: {
        const length = this.#varint()
        if (length > BigInt(this.end - this.at))
          throw new WireError(`field ${this.field} says it has ${length} bytes, ${this.end - this.at} are left`)
        this.from = this.at
        this.to = this.at + Number(length)
        this.at = this.to
        this.value = 0n
        return true
      }
      case 5:
        this.#need(4)
        this.value = BigInt(this.bytes.readUInt32LE(this.at))
        this.at += 4
        return true
      default:
        throw new WireError(`wire type ${this.type} of field ${this.field} at byte ${this.at}`)
    }
  }

  /** The field just read, when it is length-delimited as its message has it. @throws WireError */
  delimited(): void {
    if (this.type !== 2) throw new WireError(`field ${this.field} has wire type ${this.type} where 2 should be`)
  }

  /** A reader over the message that is the field just read. */
  message(): WireReader {
    this.delimited()
    return new WireReader(this.bytes, this.from, this.to)
  }

  /** The field just read as text; bytes that are no UTF-8 become U+FFFD. */
  text(): string {
    this.delimited()
    return this.bytes.toString('utf8', this.from, this.to)
  }

  #varint(): bigint {
    // Most are short, and numbers are quicker than bigints.
    let low = 0
    for (let i = 0; i < 4; i++) {
      const byte = this.#byte()
      low += (byte & 0x7f) * 2 ** (7 * i)
      if (byte < 0x80) return BigInt(low)
    }
    let value = BigInt(low)
    for (let shift = 28n; shift < 70n; shift += 7n) {
      const byte = this.#byte()
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asUintN(64, value)
    }
    throw new WireError(`a varint of more than ten bytes before byte ${this.at}`)
  }

  #byte(): number {
    const byte = this.at < this.end ? this.bytes[this.at] : undefined
    if (byte === undefined) throw new WireError('the message is cut inside a number')
    this.at++
    return byte
  }

  #need(count: number): void {
    if (this.end - this.at < count) throw new WireError(`the message is cut inside field ${this.field}`)
  }
}

/** Writes the few fields that answers need. */
export function encodeFields(fields: readonly (readonly [number, bigint | string | Uint8Array])[]): Buffer {
  const parts: Uint8Array[] = []
  for (const [field, value] of fields) {
    if (typeof value === 'bigint') parts.push(varint(BigInt(field) << 3n), varint(BigInt.asUintN(64, value)))
    else {
      const bytes = typeof value === 'string' ? Buffer.from(value) : value
      parts.push(varint((BigInt(field) << 3n) | 2n), varint(BigInt(bytes.length)), bytes)
    }
  }
  return Buffer.concat(parts)
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = []
  for (let rest = value; ; rest >>= 7n) {
    if (rest < 0x80n) return Uint8Array.from([...bytes, Number(rest)])
    bytes.push(Number(rest & 0x7fn) | 0x80)
  }
}
