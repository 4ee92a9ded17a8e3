// The bytes of a frame: the values of one tick, in the order of its shape.
//
// Each value is a varint tag t (LEB128, 7 bits a byte, low first):
//   even  the whole number t / 2, below 2^48; most kernel counters fit and cost 1–7 bytes
//   1     an 8-byte little-endian double follows
//   3     absent
// A frame per tick instead of a row per sample is what makes a week of 65 series fit in 9 MB.

import { crc32 } from 'node:zlib'

/** Values a frame may hold; leaves room in a position (seq · 65,536 + ordinal) for the thinned form. */
export const frameValuesMax = 16_384

/** Whole numbers from here on go as doubles. */
const integerLimit = 2 ** 48

const tagDouble = 1
const tagAbsent = 3

/** `undefined` is an absent value. Values are finite, which is checked where readings enter. */
export function encodeValues(values: readonly (number | undefined)[]): Buffer {
  if (values.length > frameValuesMax)
    throw new Error(`BUG: a frame of ${values.length} values, at most ${frameValuesMax}`)
  const body = Buffer.allocUnsafe(values.length * 9)
  let at = 0
  for (const value of values) {
    if (value === undefined) {
      body[at++] = tagAbsent
    } else if (Number.isInteger(value) && value >= 0 && value < integerLimit) {
      at = writeVarint(body, at, value * 2)
    } else {
      if (!Number.isFinite(value)) throw new Error(`BUG: a frame cannot hold ${value}`)
      body[at++] = tagDouble
      at = body.writeDoubleLE(value, at)
    }
  }
  return Buffer.from(body.subarray(0, at))
}

/** All values of a frame; an absent one is NaN, which no stored value is. */
export function decodeValues(body: Uint8Array, count: number): Float64Array {
  const values = new Float64Array(count)
  const end = walk(body, count, (index, value) => {
    values[index] = value
  })
  if (end !== body.length) throw new Error(`a frame of ${count} values has ${body.length - end} bytes too many`)
  return values
}

/** The values at ascending `ordinals`, reading no further than the last of them. */
export function pickValues(body: Uint8Array, ordinals: readonly number[], take: (slot: number, value: number) => void) {
  let slot = 0
  const last = ordinals.at(-1)
  if (last === undefined) return
  walk(body, last + 1, (index, value) => {
    if (index !== ordinals[slot]) return
    take(slot++, value)
  })
}

const doubleBytes = new Uint8Array(8)
const doubleView = new DataView(doubleBytes.buffer)

function walk(body: Uint8Array, count: number, take: (index: number, value: number) => void): number {
  let at = 0
  for (let index = 0; index < count; index++) {
    let byte = body[at++]
    if (byte === undefined) throw new Error(`a frame ends after ${index} of ${count} values`)
    let tag = byte & 0x7f
    for (let scale = 128; byte >= 0x80; scale *= 128) {
      byte = body[at++]
      if (byte === undefined || scale > 2 ** 42) throw new Error(`value ${index} of a frame has a malformed tag`)
      tag += (byte & 0x7f) * scale
    }
    if (tag % 2 === 0) take(index, tag / 2)
    else if (tag === tagAbsent) take(index, Number.NaN)
    else if (tag === tagDouble) {
      if (at + 8 > body.length) throw new Error(`a frame ends inside value ${index} of ${count}`)
      for (let i = 0; i < 8; i++) doubleBytes[i] = body[at + i] ?? 0
      at += 8
      take(index, doubleView.getFloat64(0, true))
    } else throw new Error(`value ${index} of a frame has the unknown tag ${tag}`)
  }
  return at
}

/** Ascending series ids as differences: a shape of 300 series is about 300 bytes. */
export function encodeShape(seriesIds: readonly number[]): Buffer {
  const body = Buffer.allocUnsafe(seriesIds.length * 8)
  let at = 0
  let previous = 0
  for (const id of seriesIds) {
    if (id <= previous) throw new Error(`BUG: series ${id} after ${previous} in a shape`)
    at = writeVarint(body, at, id - previous)
    previous = id
  }
  return Buffer.from(body.subarray(0, at))
}

export function decodeShape(body: Uint8Array): number[] {
  const ids: number[] = []
  let id = 0
  let delta = 0
  let scale = 1
  for (const byte of body) {
    delta += (byte & 0x7f) * scale
    if (byte >= 0x80) {
      scale *= 128
      if (scale > 2 ** 49) throw new Error('a shape has a malformed series id')
      continue
    }
    id += delta
    ids.push(id)
    delta = 0
    scale = 1
  }
  if (scale !== 1) throw new Error('a shape ends inside a series id')
  return ids
}

export interface FrameHead {
  epoch: number
  monoMs: number
  shape: number
  count: number
  kind: number
}

/** Covers the columns beside the body too: a flipped bit in a time or a shape id is as wrong as one in a value. */
export function frameChecksum(head: FrameHead, body: Uint8Array): number {
  return crc32(body, crc32(`${head.epoch} ${head.monoMs} ${head.shape} ${head.count} ${head.kind}`))
}

function writeVarint(into: Buffer, at: number, value: number): number {
  let rest = value
  while (rest >= 128) {
    into[at++] = (rest % 128) | 0x80
    rest = Math.floor(rest / 128)
  }
  into[at++] = rest
  return at
}
