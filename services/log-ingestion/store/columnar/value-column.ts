// One value of one shape, row after row. The tightest form that gives back the very same bytes is chosen.

import type { Buffer } from 'node:buffer'
import { BlockError, ByteReader, ByteWriter } from './bytes.ts'

/** Slices of `bytes`, gathered while rows are taken apart. */
export class Slices {
  from = new Int32Array(1_024)
  to = new Int32Array(1_024)
  count = 0

  push(from: number, to: number): void {
    if (this.count === this.from.length) {
      this.from = grown(this.from)
      this.to = grown(this.to)
    }
    this.from[this.count] = from
    this.to[this.count++] = to
  }
}

function grown(values: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(values.length * 2)
  larger.set(values)
  return larger
}

const form = { text: 0, quoted: 1, integer: 2, hex: 3, constant: 4, fromMessage: 5 } as const

const quote = 0x22

/** Where to look for values that repeat a part of the row's message. */
export interface Messages {
  bytes: Buffer
  /** Of the n-th row of the column. */
  from: (n: number) => number
  to: (n: number) => number
}

export function encodeValues(bytes: Buffer, values: Slices): Buffer {
  const { count } = values
  if (count > 1 && isConstant(bytes, values)) {
    const out = new ByteWriter(64)
    out.byte(form.constant)
    out.copy(bytes, values.from[0] as number, values.to[0] as number)
    return out.finish()
  }
  return encodeIntegers(bytes, values) ?? encodeHex(bytes, values) ?? encodeTexts(bytes, values)
}

/** Null when some value does not stand in its message, quotes aside. */
export function encodeFromMessage(bytes: Buffer, values: Slices, messages: Messages): Buffer | null {
  const { count } = values
  if (count === 0) return null
  const isQuoted = isAllQuoted(bytes, values)
  const trim = isQuoted ? 1 : 0
  const out = new ByteWriter(count * 3)
  out.byte(form.fromMessage)
  out.byte(trim)
  const lengths = new ByteWriter(count)
  for (let i = 0; i < count; i++) {
    const from = (values.from[i] as number) + trim
    const to = (values.to[i] as number) - trim
    if (to - from < 2) return null
    const low = messages.from(i)
    const high = messages.to(i)
    const at = messages.bytes.subarray(low, high).indexOf(bytes.subarray(from, to))
    if (at < 0) return null
    out.varint(at)
    lengths.varint(to - from)
  }
  out.copy(lengths.bytes, 0, lengths.at)
  return out.finish()
}

function isConstant(bytes: Buffer, { from, to, count }: Slices): boolean {
  const first = from[0] as number
  const length = (to[0] as number) - first
  for (let i = 1; i < count; i++) {
    const at = from[i] as number
    if ((to[i] as number) - at !== length) return false
    for (let j = 0; j < length; j++) if (bytes[at + j] !== bytes[first + j]) return false
  }
  return true
}

/** Only integers written as JavaScript would write them, so that the number gives the text back. */
function encodeIntegers(bytes: Buffer, { from, to, count }: Slices): Buffer | null {
  const out = new ByteWriter(count * 3)
  out.byte(form.integer)
  for (let i = 0; i < count; i++) {
    let at = from[i] as number
    const end = to[i] as number
    const isNegative = bytes[at] === 0x2d
    if (isNegative) at++
    if (end === at || end - at > 15) return null
    if (bytes[at] === 0x30 && (end - at > 1 || isNegative)) return null
    let value = 0
    for (; at < end; at++) {
      const digit = (bytes[at] as number) - 0x30
      if (digit < 0 || digit > 9) return null
      value = value * 10 + digit
    }
    out.zigzag(isNegative ? -value : value)
  }
  return out.finish()
}

/** Quoted lower-case hex, all of one even length. */
function encodeHex(bytes: Buffer, { from, to, count }: Slices): Buffer | null {
  const length = (to[0] as number) - (from[0] as number)
  if (count === 0 || length < 10 || length % 2 !== 0) return null
  const out = new ByteWriter(16 + (count * length) / 2)
  out.byte(form.hex)
  out.varint((length - 2) / 2)
  for (let i = 0; i < count; i++) {
    const at = from[i] as number
    if ((to[i] as number) - at !== length || bytes[at] !== quote) return null
    for (let j = at + 1; j < at + length - 1; j += 2) {
      const high = nibble(bytes[j] as number)
      const low = nibble(bytes[j + 1] as number)
      if (high < 0 || low < 0) return null
      out.bytes[out.at++] = high * 16 + low
    }
  }
  return out.finish()
}

function nibble(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  return byte >= 0x61 && byte <= 0x66 ? byte - 0x57 : -1
}

function encodeTexts(bytes: Buffer, values: Slices): Buffer {
  const { from, to, count } = values
  const isQuoted = isAllQuoted(bytes, values)
  const trim = isQuoted ? 1 : 0
  const out = new ByteWriter(count * 12 + 16)
  out.byte(isQuoted ? form.quoted : form.text)
  for (let i = 0; i < count; i++) out.varint((to[i] as number) - (from[i] as number) - 2 * trim)
  for (let i = 0; i < count; i++) out.copy(bytes, (from[i] as number) + trim, (to[i] as number) - trim)
  return out.finish()
}

function isAllQuoted(bytes: Buffer, { from, to, count }: Slices): boolean {
  for (let i = 0; i < count; i++)
    if (bytes[from[i] as number] !== quote || (to[i] as number) - (from[i] as number) < 2) return false
  return true
}

/** Gives back the n-th value as text in UTF-8. */
export type Values = (n: number) => string

/** @throws BlockError */
export function decodeValues(column: Buffer, count: number, messageOf: (n: number) => Buffer): Values {
  const reader = new ByteReader(column)
  const kind = reader.byte()
  switch (kind) {
    case form.constant: {
      const text = column.toString('utf8', 1)
      return () => text
    }
    case form.integer: {
      const numbers = new Float64Array(count)
      for (let i = 0; i < count; i++) numbers[i] = reader.zigzag()
      return n => String(numbers[n])
    }
    case form.hex: {
      const length = reader.varint()
      const start = reader.at
      if (start + length * count !== column.length) throw new BlockError('a column of hex has another length')
      return n => `"${column.toString('hex', start + n * length, start + (n + 1) * length)}"`
    }
    case form.text:
    case form.quoted: {
      const ends = new Int32Array(count + 1)
      for (let i = 0; i < count; i++) ends[i + 1] = (ends[i] as number) + reader.varint()
      const start = reader.at
      if (start + (ends[count] as number) !== column.length)
        throw new BlockError('a column of texts has another length')
      const mark = kind === form.quoted ? '"' : ''
      return n => mark + column.toString('utf8', start + (ends[n] as number), start + (ends[n + 1] as number)) + mark
    }
    case form.fromMessage: {
      const mark = reader.byte() === 1 ? '"' : ''
      const starts = new Int32Array(count)
      const lengths = new Int32Array(count)
      for (let i = 0; i < count; i++) starts[i] = reader.varint()
      for (let i = 0; i < count; i++) lengths[i] = reader.varint()
      return n => {
        const start = starts[n] as number
        return mark + messageOf(n).toString('utf8', start, start + (lengths[n] as number)) + mark
      }
    }
    default:
      throw new BlockError(`a column has the unknown form ${kind}`)
  }
}
