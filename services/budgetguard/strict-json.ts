// The one way a caller's JSON comes in: valid UTF-8, no byte order mark, no duplicate names, bounded depth.
//
// JSON.parse keeps the last of two members with the same name while an upstream may keep the first; then the call
// that was priced is not the call that is made. So duplicates are refused, and what is sent upstream are the caller's
// own bytes with a few members replaced in place, which also keeps integers beyond 2⁵³.

import { isUtf8 } from 'node:buffer'

export const depthMax = 128

export interface JsonObject {
  bytes: Buffer
  value: Record<string, unknown>
  /** Byte range of each top-level member's value, end exclusive. */
  spans: ReadonlyMap<string, { start: number; end: number }>
}

/** @throws StrictJsonError */
export function parseObject(bytes: Buffer): JsonObject {
  if (bytes.length === 0) throw new StrictJsonError('The body is empty; send a JSON object', 0)
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf)
    throw new StrictJsonError('The body begins with a byte order mark; send plain UTF-8', 0)
  if (!isUtf8(bytes)) throw new StrictJsonError('The body is not valid UTF-8', firstInvalid(bytes))
  const scanner = new Scanner(bytes)
  const spans = scanner.document()
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch {
    throw new StrictJsonError('The body is not valid JSON', null)
  }
  return { bytes, value: value as Record<string, unknown>, spans }
}

export class StrictJsonError extends Error {
  /** Byte offset of the fault, when one place is to blame. */
  readonly offset: number | null
  constructor(message: string, offset: number | null) {
    super(offset === null ? message : `${message} (at byte ${offset})`)
    this.name = 'StrictJsonError'
    this.offset = offset
  }
}

/** The same object with some top-level members set to the given JSON texts; every other byte stays as it came. */
export function withMembers(object: JsonObject, members: ReadonlyMap<string, string>): Buffer {
  if (members.size === 0) return object.bytes
  const edits: { start: number; end: number; text: string }[] = []
  let added = ''
  for (const [name, text] of members) {
    const span = object.spans.get(name)
    if (span) edits.push({ ...span, text })
    else added += `,${JSON.stringify(name)}:${text}`
  }
  edits.sort((a, b) => a.start - b.start)
  const close = object.bytes.lastIndexOf(0x7d)
  const parts: Buffer[] = []
  let at = 0
  for (const edit of edits) {
    parts.push(object.bytes.subarray(at, edit.start), Buffer.from(edit.text))
    at = edit.end
  }
  const tail = object.spans.size === 0 ? added.slice(1) : added
  parts.push(object.bytes.subarray(at, close), Buffer.from(tail), object.bytes.subarray(close))
  return Buffer.concat(parts)
}

const quote = 0x22
const backslash = 0x5c

class Scanner {
  readonly #bytes: Buffer
  #at = 0
  /** Where we are, for messages: member names and array indexes. */
  readonly #path: (string | number)[] = []

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  document(): Map<string, { start: number; end: number }> {
    const spans = new Map<string, { start: number; end: number }>()
    this.#space()
    if (this.#bytes[this.#at] !== 0x7b) throw this.#error('The body must be a JSON object')
    this.#object(spans)
    this.#space()
    if (this.#at < this.#bytes.length) throw this.#error('Something follows the JSON object')
    return spans
  }

  #value(): void {
    const byte = this.#bytes[this.#at]
    if (byte === 0x7b) this.#object(null)
    else if (byte === 0x5b) this.#array()
    else if (byte === quote) this.#string()
    else if (byte === undefined) throw this.#error('The JSON ends too early')
    else this.#scalar()
  }

  #object(spans: Map<string, { start: number; end: number }> | null): void {
    this.#enter()
    if (this.#take(0x7d)) return
    const names = new Set<string>()
    const last = this.#path.push('') - 1
    for (;;) {
      const nameAt = this.#at
      if (this.#bytes[this.#at] !== quote) throw this.#error('A member name in double quotes is expected')
      const name = this.#decode(this.#string(), nameAt)
      this.#path[last] = name
      if (names.has(name)) {
        this.#at = nameAt
        throw this.#error(`"${this.#where()}" is given twice`)
      }
      names.add(name)
      this.#space()
      if (!this.#take(0x3a)) throw this.#error('A colon is expected')
      this.#space()
      const start = this.#at
      this.#value()
      spans?.set(name, { start, end: this.#at })
      this.#space()
      if (this.#take(0x7d)) break
      if (!this.#take(0x2c)) throw this.#error('A comma or closing brace is expected')
      this.#space()
    }
    this.#path.pop()
  }

  #array(): void {
    this.#enter()
    if (this.#take(0x5d)) return
    const last = this.#path.push(0) - 1
    for (let index = 0; ; index++) {
      this.#path[last] = index
      this.#value()
      this.#space()
      if (this.#take(0x5d)) break
      if (!this.#take(0x2c)) throw this.#error('A comma or closing bracket is expected')
      this.#space()
    }
    this.#path.pop()
  }

  /** Steps over the opening bracket. */
  #enter(): void {
    if (this.#path.length >= depthMax) throw this.#error(`"${this.#where()}" is nested deeper than ${depthMax} levels`)
    this.#at += 1
    this.#space()
  }

  /** The bytes between the quotes; the cursor ends behind them. JSON.parse checks control characters afterwards. */
  #string(): Buffer {
    const start = this.#at
    let end = start
    do {
      end = this.#bytes.indexOf(quote, end + 1)
      if (end < 0) throw this.#error('A string is not closed')
    } while (this.#isEscaped(end, start))
    this.#at = end + 1
    return this.#bytes.subarray(start + 1, end)
  }

  #decode(text: Buffer, at: number): string {
    if (!text.includes(backslash)) return text.toString('utf8')
    try {
      return JSON.parse(`"${text.toString('utf8')}"`)
    } catch {
      this.#at = at
      throw this.#error('A member name holds an invalid escape')
    }
  }

  #isEscaped(at: number, start: number): boolean {
    let slashes = 0
    for (let i = at - 1; i > start && this.#bytes[i] === backslash; i--) slashes += 1
    return slashes % 2 === 1
  }

  #scalar(): void {
    const start = this.#at
    for (let byte = this.#bytes[this.#at]; byte !== undefined && isScalar(byte); byte = this.#bytes[this.#at])
      this.#at += 1
    const text = this.#bytes.toString('latin1', start, this.#at)
    if (!/^(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)$/.test(text)) {
      this.#at = start
      throw this.#error('A JSON value is expected')
    }
  }

  #take(byte: number): boolean {
    if (this.#bytes[this.#at] !== byte) return false
    this.#at += 1
    return true
  }

  #space(): void {
    for (;;) {
      const byte = this.#bytes[this.#at]
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return
      this.#at += 1
    }
  }

  #where(): string {
    const path = this.#path.reduce<string>(
      (text, step) => (typeof step === 'number' ? `${text}[${step}]` : text === '' ? step : `${text}.${step}`),
      '',
    )
    return path.length > 120 ? `…${path.slice(-120)}` : path
  }

  #error(message: string): StrictJsonError {
    return new StrictJsonError(message, this.#at)
  }
}

/** Letters, digits and the signs of a number. */
function isScalar(byte: number): boolean {
  return (
    (byte >= 0x30 && byte <= 0x39) ||
    (byte >= 0x61 && byte <= 0x7a) ||
    (byte >= 0x41 && byte <= 0x5a) ||
    byte === 0x2d ||
    byte === 0x2b ||
    byte === 0x2e
  )
}

/** The length of the longest valid prefix. */
function firstInvalid(bytes: Buffer): number {
  // A prefix may end inside a character, so "valid but for its last three bytes" is what can be bisected.
  const validEnd = (length: number) =>
    [0, 1, 2, 3].map(cut => length - cut).find(end => end >= 0 && isUtf8(bytes.subarray(0, end)))
  let low = 0
  let high = bytes.length
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (validEnd(middle) !== undefined) low = middle
    else high = middle
  }
  return validEnd(low) ?? 0
}
