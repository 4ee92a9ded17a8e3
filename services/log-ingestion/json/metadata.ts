// What happens to metadata before it reaches the disk: sensitive keys go, characters no database takes are replaced,
// numbers too long for one are kept as text.
//
// The cursor notes whether any of this can be needed; most entries need none and their bytes are carried as they came.

import { Buffer } from 'node:buffer'
import type { KeyWatch } from './cursor.ts'
import { foldCase, unescapeToken } from './text.ts'

const sensitiveKeys = [
  'password',
  'token',
  'secret',
  'api_key',
  'apikey',
  'auth',
  'authorization',
  'credit_card',
  'ssn',
  'social_security',
]

/** Digits a number may have when written out. PostgreSQL's numeric takes more, but one literal must not cost kilobytes. */
const numberDigitsMax = 400

export interface Redaction {
  /** Cheap and on the safe side: true for every key that `redacts` accepts. */
  readonly watch: KeyWatch
  redacts(key: string): boolean
  /** What patterns make of a string value. Without it values stay as they are. */
  replace?(text: string, tally: Tally): string
}

/** Keys are compared without case, `-` and `_`. */
export function createRedaction(extraKeys: readonly string[] = []): Redaction {
  const keys = new Set([...sensitiveKeys, ...extraKeys].map(normalise).filter(key => key !== ''))
  /** By the first byte: asked of every key of every entry, so nothing may be made here. */
  const byFirst: Uint8Array[][] = Array.from({ length: 128 }, () => [])
  for (const key of keys) {
    const bytes = Buffer.from(key)
    const first = bytes[0] as number
    if (first < 128) byFirst[first]?.push(bytes)
  }
  const watch: KeyWatch = (bytes, from, to, hasEscape) => {
    if (hasEscape) return true
    let at = from
    while (at < to && isLeftOut(bytes[at] as number)) at++
    if (at === to) return false
    const first = lowerCase(bytes[at] as number)
    if (first >= 0x80) return true
    const candidates = byFirst[first] as Uint8Array[]
    if (candidates.length === 0) return false
    for (let i = 0; i < candidates.length; i++) if (mayBe(bytes, at, to, candidates[i] as Uint8Array)) return true
    // What folding makes of other alphabets is for the careful path.
    for (at++; at < to; at++) if ((bytes[at] as number) >= 0x80) return true
    return false
  }
  return { watch, redacts: key => keys.has(normalise(key)) }
}

function isLeftOut(byte: number): boolean {
  return byte === 0x2d || byte === 0x5f
}

function lowerCase(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte + 32 : byte
}

/** Whether bytes[from, to) are `key` without case, `-` and `_`. */
function mayBe(bytes: Uint8Array, from: number, to: number, key: Uint8Array): boolean {
  let matched = 0
  for (let at = from; at < to; at++) {
    const byte = bytes[at] as number
    if (isLeftOut(byte)) continue
    if (matched === key.length || lowerCase(byte) !== key[matched]) return false
    matched++
  }
  return matched === key.length
}

function normalise(key: string): string {
  return foldCase(key).replaceAll(/[-_]/g, '')
}

/** Counts of what was changed, for the metrics; added to, never reset here. */
export interface Tally {
  redactions: Map<string, number>
  nul: number
  surrogate: number
  number: number
}

export function newTally(): Tally {
  return { redactions: new Map(), nul: 0, surrogate: 0, number: 0 }
}

/** The same value with everything this file promises applied. `text` is valid JSON of bounded depth. */
export function cleanMetadata(text: string, redaction: Redaction, tally: Tally): string {
  return new Cleaner(text, redaction, tally).value()
}

class Cleaner {
  readonly #text: string
  readonly #redaction: Redaction
  readonly #tally: Tally
  #at = 0

  constructor(text: string, redaction: Redaction, tally: Tally) {
    this.#text = text
    this.#redaction = redaction
    this.#tally = tally
  }

  value(): string {
    const c = this.#peek()
    if (c === '{') return this.#object()
    if (c === '[') return this.#array()
    if (c === '"') return this.#cleanValue(this.#string())
    return this.#scalar()
  }

  #object(): string {
    const members: string[] = []
    this.#at++
    while (this.#peek() !== '}') {
      if (this.#peek() === ',') this.#at++
      this.#peek()
      const raw = this.#string()
      const key = raw.includes('\\') ? unescapeToken(raw) : raw
      this.#peek()
      this.#at++ // the colon
      if (this.#redaction.redacts(key)) {
        const rule = normalise(key)
        this.#tally.redactions.set(rule, (this.#tally.redactions.get(rule) ?? 0) + 1)
        this.#discard()
      } else members.push(`${this.#cleanString(raw)}:${this.value()}`)
    }
    this.#at++
    return `{${members.join(',')}}`
  }

  #array(): string {
    const items: string[] = []
    this.#at++
    while (this.#peek() !== ']') {
      if (this.#peek() === ',') this.#at++
      items.push(this.value())
    }
    this.#at++
    return `[${items.join(',')}]`
  }

  /** Walks over a value that is dropped: what it held must not count as sanitized or redacted. */
  #discard(): void {
    const unheard = new Cleaner(this.#text, keepAll, newTally())
    unheard.#at = this.#at
    unheard.value()
    this.#at = unheard.#at
  }

  #peek(): string | undefined {
    while (isSpace(this.#text.charCodeAt(this.#at))) this.#at++
    return this.#text[this.#at]
  }

  /** The raw content of the string at the cursor. */
  #string(): string {
    const start = ++this.#at
    while (this.#text[this.#at] !== '"') this.#at += this.#text[this.#at] === '\\' ? 2 : 1
    return this.#text.slice(start, this.#at++)
  }

  #cleanValue(raw: string): string {
    const clean = this.#cleanString(raw)
    if (this.#redaction.replace === undefined) return clean
    const text = raw.includes('\\') ? String(JSON.parse(clean)) : clean.slice(1, -1)
    const replaced = this.#redaction.replace(text, this.#tally)
    return replaced === text ? clean : JSON.stringify(replaced)
  }

  #cleanString(raw: string): string {
    if (!raw.includes('\\u')) return `"${raw}"`
    const parsed = String(JSON.parse(`"${raw}"`))
    const wellFormed = parsed.toWellFormed()
    const clean = wellFormed.replaceAll('\0', '\u2400')
    if (wellFormed !== parsed) this.#tally.surrogate++
    if (clean !== wellFormed) this.#tally.nul++
    return clean === parsed ? `"${raw}"` : JSON.stringify(clean)
  }

  #scalar(): string {
    const start = this.#at
    while (this.#at < this.#text.length && !endsScalar(this.#text[this.#at] as string)) this.#at++
    const literal = this.#text.slice(start, this.#at)
    if (!isNumber(literal) || writtenOutDigits(literal) <= numberDigitsMax) return literal
    this.#tally.number++
    return `"${literal}"`
  }
}

const keepAll: Redaction = { watch: () => false, redacts: () => false }

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09
}

function endsScalar(char: string): boolean {
  return char === ',' || char === '}' || char === ']' || isSpace(char.charCodeAt(0))
}

function isNumber(literal: string): boolean {
  const c = literal.charCodeAt(0)
  return c === 0x2d || (c >= 0x30 && c <= 0x39)
}

/** How many digits a JSON number has without an exponent: `1e3` has four, `1e-3` has four too (0.001). */
export function writtenOutDigits(literal: string): number {
  const match = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(literal)
  if (!match) return 0
  const [, whole = '', fraction = '', exponentText = '0'] = match
  const exponent = Number(exponentText)
  const isZero = /^0*$/.test(whole + fraction)
  const wholeDigits = isZero ? 1 : Math.max(1, whole.length + exponent)
  return wholeDigits + Math.max(0, fraction.length - exponent)
}
