// A JSON reader that walks over bytes and builds nothing.
//
// Intake carries metadata as text from the request to the sink, so that numbers keep every digit and a body never
// becomes an object tree. What is needed is therefore only: is this JSON, where does each value start and end, how
// deep does it go, and is there anything in it that the careful path has to look at (`notes`). The accepted grammar
// is that of Go's encoding/json, whose habits the intake keeps.

/** The careful path has to look: a key that may be redacted, an escape that no database takes, a long number. */
export const noteKey = 1
export const noteEscape = 2
export const noteNumber = 4

/** Go refuses deeper nesting too. */
const depthMax = 10_000

export class JsonSyntaxError extends Error {
  readonly offset: number
  /** The text ended inside a value. */
  readonly isCut: boolean
  constructor(message: string, offset: number, isCut = false) {
    super(message)
    this.offset = offset
    this.isCut = isCut
  }
}

/** Answers whether the careful path must see an object key at bytes[from, to). */
export type KeyWatch = (bytes: Uint8Array, from: number, to: number, hasEscape: boolean) => boolean

export class Cursor {
  readonly bytes: Uint8Array
  readonly end: number
  at: number
  /** The last string read by `string()`, without its quotes. */
  from = 0
  to = 0
  hasEscape = false
  /** What the last `skip()` met: the OR of the note bits, and the deepest nesting. */
  notes = 0
  deepest = 0
  readonly #stack: Uint8Array
  #watch: KeyWatch | null = null

  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.bytes = bytes
    this.at = at
    this.end = end
    this.#stack = sharedStack
  }

  /** Moves to the next byte that is not whitespace and returns it, or -1 at the end. */
  peek(): number {
    const { bytes, end } = this
    let at = this.at
    while (at < end) {
      const c = bytes[at] as number
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) {
        this.at = at
        return c
      }
      at++
    }
    this.at = at
    return -1
  }

  /** Reads the string whose opening quote is at `at`; sets from, to, hasEscape and leaves `at` behind it. */
  string(): void {
    const { bytes, end } = this
    let i = this.at + 1
    this.from = i
    this.hasEscape = false
    while (i < end) {
      const c = bytes[i] as number
      if (c === 0x22) {
        this.to = i
        this.at = i + 1
        return
      }
      if (c === 0x5c) {
        this.hasEscape = true
        i = this.#escape(i + 1)
      } else if (c < 0x20) {
        throw new JsonSyntaxError(`control character 0x${c.toString(16).padStart(2, '0')} in a string`, i)
      } else i++
    }
    throw cut(end)
  }

  #escape(at: number): number {
    const { bytes, end } = this
    if (at >= end) throw cut(end)
    const c = bytes[at] as number
    if (c !== 0x75) {
      if (!isEscapeLetter(c)) throw new JsonSyntaxError(`"\\${printable(c)}" is not an escape`, at)
      return at + 1
    }
    let code = 0
    for (let i = at + 1; i <= at + 4; i++) {
      if (i >= end) throw cut(end)
      const digit = hexDigit(bytes[i] as number)
      if (digit < 0) throw new JsonSyntaxError('"\\u" needs four hexadecimal digits', i)
      code = code * 16 + digit
    }
    if (code === 0 || (code >= 0xd800 && code <= 0xdfff)) this.notes |= noteEscape
    return at + 5
  }

  /** Skips the value at `at` (whitespace allowed before it) and leaves `at` right behind it. */
  skip(watch: KeyWatch | null = null): void {
    this.notes = 0
    this.deepest = 0
    this.#watch = watch
    const stack = this.#stack
    let depth = 0
    for (;;) {
      let c = this.peek()
      if (c === 0x7b || c === 0x5b) {
        if (depth === depthMax) throw new JsonSyntaxError(`nesting exceeds ${depthMax} levels`, this.at)
        stack[depth++] = c
        if (depth > this.deepest) this.deepest = depth
        this.at++
        if (c === 0x7b) {
          if (this.peek() !== 0x7d) {
            this.#key()
            continue
          }
        } else if (this.peek() !== 0x5d) continue
        this.at++
        depth--
      } else this.scalar(c)

      for (;;) {
        if (depth === 0) return
        c = this.peek()
        const open = stack[depth - 1]
        if (c === 0x2c) {
          this.at++
          if (open === 0x7b) {
            this.peek()
            this.#key()
          }
          break
        }
        if (c !== (open === 0x7b ? 0x7d : 0x5d)) {
          if (c === -1) throw cut(this.end)
          throw this.unexpected(open === 0x7b ? 'a comma or "}"' : 'a comma or "]"')
        }
        this.at++
        depth--
      }
    }
  }

  /** Reads an object key and the colon behind it; the key is left in from, to, hasEscape. */
  key(): void {
    const c = this.peek()
    if (c === -1) throw cut(this.end)
    if (c !== 0x22) throw this.unexpected('a key in quotes')
    this.string()
    const colon = this.peek()
    if (colon === -1) throw cut(this.end)
    if (colon !== 0x3a) throw this.unexpected('":" after the key')
    this.at++
  }

  #key(): void {
    this.key()
    if (this.#watch?.(this.bytes, this.from, this.to, this.hasEscape)) this.notes |= noteKey
  }

  /** Skips a string, number or literal whose first byte is `c`. */
  scalar(c: number): void {
    if (c === 0x22) this.string()
    else if (c === 0x2d || (c >= 0x30 && c <= 0x39)) this.#number()
    else if (c === 0x74) this.#literal('true')
    else if (c === 0x66) this.#literal('false')
    else if (c === 0x6e) this.#literal('null')
    else if (c === -1) throw cut(this.end)
    else throw this.unexpected('a value')
  }

  #literal(word: string): void {
    for (let i = 0; i < word.length; i++) {
      if (this.at + i >= this.end) throw cut(this.end)
      if (this.bytes[this.at + i] !== word.charCodeAt(i)) {
        this.at += i
        throw this.unexpected(`"${word}"`)
      }
    }
    this.at += word.length
  }

  #number(): void {
    const start = this.at
    let i = start
    if (this.bytes[i] === 0x2d) i++
    if (i >= this.end) throw cut(this.end)
    if (this.bytes[i] === 0x30) i++
    else i = this.#digits(i)
    let hasExponent = false
    if (i < this.end && this.bytes[i] === 0x2e) i = this.#digits(i + 1)
    if (i < this.end && ((this.bytes[i] as number) | 0x20) === 0x65) {
      hasExponent = true
      i++
      if (i < this.end && (this.bytes[i] === 0x2b || this.bytes[i] === 0x2d)) i++
      i = this.#digits(i)
    }
    // An exponent may stand for any number of digits; the careful path counts them.
    if (hasExponent || i - start > 400) this.notes |= noteNumber
    this.at = i
  }

  #digits(at: number): number {
    let i = at
    while (i < this.end) {
      const c = this.bytes[i] as number
      if (c < 0x30 || c > 0x39) break
      i++
    }
    if (i === at) {
      if (i >= this.end) throw cut(this.end)
      this.at = i
      throw this.unexpected('a digit')
    }
    return i
  }

  /** The error for the byte at `at` where `wanted` should be. */
  unexpected(wanted: string): JsonSyntaxError {
    const c = this.bytes[this.at]
    if (this.at >= this.end || c === undefined) return cut(this.end)
    return new JsonSyntaxError(`found ${printable(c)} where ${wanted} should be`, this.at)
  }
}

// A cursor never gives control away inside skip(), so all of them may share one stack.
const sharedStack = new Uint8Array(depthMax)

function cut(offset: number): JsonSyntaxError {
  return new JsonSyntaxError('unexpected EOF', offset, true)
}

function isEscapeLetter(c: number): boolean {
  return c === 0x22 || c === 0x5c || c === 0x2f || c === 0x62 || c === 0x66 || c === 0x6e || c === 0x72 || c === 0x74
}

function hexDigit(c: number): number {
  if (c >= 0x30 && c <= 0x39) return c - 0x30
  const lower = c | 0x20
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1
}

function printable(c: number): string {
  return c > 0x20 && c < 0x7f ? `"${String.fromCharCode(c)}"` : `byte 0x${c.toString(16).padStart(2, '0')}`
}
