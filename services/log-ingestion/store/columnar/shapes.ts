// Metadata by shape. A shape is the text of an object with its top-level values cut out: keys, punctuation and spaces as
// they were written. Rows of one shape share it, and each of its values becomes a column. What goes in comes out, byte for
// byte.

import { Buffer } from 'node:buffer'

/** Texts around the values: one more than there are values. */
export type Shape = readonly Buffer[]

const valuesMax = 64
export const shapesMax = 250
const quote = 0x22
const backslash = 0x5c

/** The shape of what is not taken apart: the whole text is its one value. */
export const wholeShape: Shape = [Buffer.alloc(0), Buffer.alloc(0)]

/** Starts and ends of the values of the row looked at last. */
export class ShapeMatcher {
  readonly froms = new Int32Array(valuesMax)
  readonly tos = new Int32Array(valuesMax)
  readonly shapes: Shape[] = [wholeShape]
  readonly #byText = new Map<string, number>()
  #last = 0

  /** The number of the shape of bytes[from, to). */
  match(bytes: Buffer, from: number, to: number): number {
    if (this.#last > 0 && this.#fits(this.shapes[this.#last] as Shape, bytes, from, to)) return this.#last
    const number = this.#find(bytes, from, to)
    if (number > 0) this.#last = number
    return number
  }

  #fits(shape: Shape, bytes: Buffer, from: number, to: number): boolean {
    let at = from
    const last = shape.length - 1
    for (let i = 0; ; i++) {
      const piece = shape[i] as Buffer
      if (at + piece.length > to) return false
      for (let j = 0; j < piece.length; j++) if (bytes[at + j] !== piece[j]) return false
      at += piece.length
      if (i === last) return at === to
      const end = valueEnd(bytes, at, to)
      if (end < 0) return false
      this.froms[i] = at
      this.tos[i] = end
      at = end
    }
  }

  #find(bytes: Buffer, from: number, to: number): number {
    const pieces = this.#takeApart(bytes, from, to)
    if (pieces) {
      const text = pieces.map(piece => `${piece.length}:${piece.toString('latin1')}`).join('')
      const known = this.#byText.get(text)
      if (known !== undefined) return known
      if (this.shapes.length < shapesMax) {
        this.shapes.push(pieces.map(piece => Buffer.from(piece)))
        this.#byText.set(text, this.shapes.length - 1)
        return this.shapes.length - 1
      }
    }
    this.froms[0] = from
    this.tos[0] = to
    return 0
  }

  /** Null when it is not an object of at most so many values. Syntax that is wrong elsewhere does no harm: it stays. */
  #takeApart(bytes: Buffer, from: number, to: number): Buffer[] | null {
    const pieces: Buffer[] = []
    let pieceFrom = from
    let at = skipSpace(bytes, from, to)
    if (bytes[at] !== 0x7b) return null
    at = skipSpace(bytes, at + 1, to)
    if (bytes[at] === 0x7d) return at + 1 === to ? [bytes.subarray(from, to)] : null
    for (let i = 0; ; i++) {
      if (i === valuesMax || bytes[at] !== quote) return null
      at = valueEnd(bytes, at, to)
      if (at < 0) return null
      at = skipSpace(bytes, at, to)
      if (bytes[at] !== 0x3a) return null
      at = skipSpace(bytes, at + 1, to)
      const end = valueEnd(bytes, at, to)
      if (end <= at) return null
      pieces.push(bytes.subarray(pieceFrom, at))
      this.froms[i] = at
      this.tos[i] = end
      pieceFrom = end
      at = skipSpace(bytes, end, to)
      if (bytes[at] === 0x2c) at = skipSpace(bytes, at + 1, to)
      else if (bytes[at] === 0x7d) {
        pieces.push(bytes.subarray(pieceFrom, to))
        return pieces
      } else return null
    }
  }
}

function skipSpace(bytes: Buffer, at: number, to: number): number {
  while (at < to && (bytes[at] === 0x20 || bytes[at] === 0x0a || bytes[at] === 0x0d || bytes[at] === 0x09)) at++
  return at
}

/** Where the JSON value at `at` ends; −1 when it does not before `to`. */
export function valueEnd(bytes: Buffer, at: number, to: number): number {
  const first = bytes[at]
  if (first === quote) {
    for (let i = at + 1; i < to; i++) {
      const byte = bytes[i]
      if (byte === quote) return i + 1
      if (byte === backslash) i++
    }
    return -1
  }
  if (first === 0x7b || first === 0x5b) {
    let depth = 0
    for (let i = at; i < to; i++) {
      const byte = bytes[i]
      if (byte === quote) {
        i = valueEnd(bytes, i, to) - 1
        if (i < 0) return -1
      } else if (byte === 0x7b || byte === 0x5b) depth++
      else if ((byte === 0x7d || byte === 0x5d) && --depth === 0) return i + 1
    }
    return -1
  }
  let end = at
  while (end < to) {
    const byte = bytes[end] as number
    if (byte === 0x2c || byte === 0x7d || byte === 0x5d || byte <= 0x20) break
    end++
  }
  return end === at ? -1 : end
}

/** The key of each value, as text; undefined where the shape is not an object. */
export function keysOf(shape: Shape): (string | undefined)[] {
  return shape.slice(0, -1).map(piece => {
    const text = piece.toString()
    const match = /("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*$/s.exec(text)
    if (!match?.[1]) return undefined
    try {
      return String(JSON.parse(match[1]))
    } catch {
      return undefined
    }
  })
}
