// What is recognised as a secret inside a text. The built-in patterns are scanners of our own or expressions whose every
// repeat is bounded or unambiguous, so their time grows with the text whatever it holds; patterns of users are RE2.

import { RE2JS } from 're2js'
import { compileRegex } from '../query/regex.ts'

/** Where the matches are, in order, not touching each other's characters. */
export type Finder = (text: string) => Iterable<readonly [from: number, to: number]>

export const builtInPatterns = ['card', 'bearer', 'jwt', 'aws', 'email'] as const
export type BuiltInPattern = (typeof builtInPatterns)[number]

export function isBuiltIn(name: string): name is BuiltInPattern {
  return (builtInPatterns as readonly string[]).includes(name)
}

/** In the order in which they are applied: the longer surroundings first. */
export const findersInOrder: readonly (readonly [BuiltInPattern, Finder])[] = [
  ['bearer', byExpression(/bearer\s+[A-Za-z0-9._~+/-]{8,}=*/gi)],
  ['jwt', findTokens],
  [
    'aws',
    byExpression(
      /(?:A3T[A-Z0-9]|AKIA|ABIA|ACCA|AGPA|AIDA|AIPA|ANPA|ANVA|AROA|ASCA|ASIA)[A-Z0-9]{16}|secret[_-]?access[_-]?key["'\s:=>\\]{0,8}[A-Za-z0-9/+]{40}/gi,
    ),
  ],
  ['card', findCards],
  ['email', findAddresses],
]

function byExpression(expression: RegExp): Finder {
  return function* (text) {
    for (const match of text.matchAll(expression)) yield [match.index, match.index + match[0].length]
  }
}

/** header.payload.signature, where the first two begin like the Base64 of `{"`. */
function* findTokens(text: string): Generator<[number, number]> {
  for (let from = text.indexOf('eyJ'); from >= 0; ) {
    const header = endOfRun(text, from)
    let next = header
    if (text.startsWith('.eyJ', header)) {
      const payload = endOfRun(text, header + 1)
      next = payload
      if (text[payload] === '.') {
        next = endOfRun(text, payload + 1)
        yield [from, next]
      } else next = header + 1
    }
    from = text.indexOf('eyJ', next)
  }
}

function endOfRun(text: string, at: number): number {
  while (isBase64Url(text.charCodeAt(at))) at++
  return at
}

function isBase64Url(c: number): boolean {
  return isAlphanumeric(c) || c === 0x2d || c === 0x5f
}

function isAlphanumeric(c: number): boolean {
  return isDigit(c) || (c >= 0x41 && c <= 0x5a) || (c >= 0x61 && c <= 0x7a)
}

function isDigit(c: number): boolean {
  return c >= 0x30 && c <= 0x39
}

export const cardDigitsMin = 13
const cardDigitsMax = 19

/**
 * 13 to 19 digits, one space or dash between two of them at most, that begin with 2 to 6 and whose check digit fits.
 * Not the fraction of a number. Times in ms or ns begin with 1, so they are none.
 */
function* findCards(text: string): Generator<[number, number]> {
  for (let i = 0; i < text.length; i++) {
    const first = text.charCodeAt(i)
    if (!isDigit(first) || isDigit(text.charCodeAt(i - 1))) continue
    const isFraction = text[i - 1] === '.' && isDigit(text.charCodeAt(i - 2))
    const to = first < 0x32 || first > 0x36 || isFraction ? -1 : endOfCard(text, i)
    if (to < 0) continue
    yield [i, to]
    i = to - 1
  }
}

/** The longest card that starts here, or -1. */
function endOfCard(text: string, from: number): number {
  const digits: number[] = []
  let end = -1
  for (let at = from; at < text.length; at++) {
    const c = text.charCodeAt(at)
    if (isDigit(c)) {
      digits.push(c - 0x30)
      if (digits.length > cardDigitsMax) break
      if (digits.length >= cardDigitsMin && !isDigit(text.charCodeAt(at + 1)) && fitsLuhn(digits)) end = at + 1
    } else if ((c !== 0x20 && c !== 0x2d) || !isDigit(text.charCodeAt(at - 1))) break
  }
  return end
}

function fitsLuhn(digits: readonly number[]): boolean {
  let sum = 0
  for (let i = 0; i < digits.length; i++) {
    const digit = digits[digits.length - 1 - i] ?? 0
    const doubled = i % 2 === 1 ? digit * 2 : digit
    sum += doubled > 9 ? doubled - 9 : doubled
  }
  return sum % 10 === 0
}

const domain = /(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}/y

function* findAddresses(text: string): Generator<[number, number]> {
  let free = 0
  for (let at = text.indexOf('@'); at >= 0; at = text.indexOf('@', Math.max(at + 1, free))) {
    let from = at
    while (from > free && isLocalPart(text.charCodeAt(from - 1))) from--
    domain.lastIndex = at + 1
    if (from === at || !domain.test(text)) continue
    free = domain.lastIndex
    yield [from, free]
  }
}

/** Letters of every alphabet count: an address is not spared for being spelled in another one. */
function isLocalPart(c: number): boolean {
  return (
    isAlphanumeric(c) || c === 0x2e || c === 0x5f || c === 0x25 || c === 0x2b || c === 0x2d || c === 0x27 || c >= 0x80
  )
}

/** @throws RegexError; a pattern that matches nothing at all would be found everywhere and is refused too */
export function compilePattern(pattern: string): Finder {
  compileRegex(pattern)
  const compiled = RE2JS.compile(pattern)
  return function* (text) {
    const matcher = compiled.matcher(text)
    while (matcher.find()) if (matcher.end() > matcher.start()) yield [matcher.start(), matcher.end()]
  }
}

// Which texts need looking at: one pass over bytes, on the safe side. Most have no candidate and are carried as they came.

const digit = 1
const separator = 2
const at = 3
const backslash = 4
const e = 5
const b = 6
const a = 7
const s = 8

/** Whether any of these patterns could match in bytes[from, to), which is a message or JSON text. */
export function candidateScan(
  names: ReadonlySet<BuiltInPattern>,
): (bytes: Uint8Array, from: number, to: number) => boolean {
  const kinds = new Uint8Array(256)
  // `\u0040` is an address too: escapes are for the careful path.
  kinds[0x5c] = backslash
  if (names.has('card')) {
    kinds.fill(digit, 0x30, 0x3a)
    kinds[0x20] = kinds[0x2d] = separator
  }
  if (names.has('email')) kinds[0x40] = at
  if (names.has('jwt')) kinds[0x65] = e
  if (names.has('bearer')) kinds[0x62] = kinds[0x42] = b
  if (names.has('aws')) kinds[0x61] = kinds[0x41] = a
  if (names.has('aws')) kinds[0x73] = kinds[0x53] = s
  return (bytes, from, to) => {
    let digits = 0
    for (let i = from; i < to; i++) {
      const kind = kinds[bytes[i] as number]
      if (kind === digit) {
        const byte = bytes[i] as number
        // Only from where a card could begin: every other time in milliseconds would be one.
        const mayBegin = byte >= 0x32 && byte <= 0x36 && (i === from || kinds[bytes[i - 1] as number] !== digit)
        if (digits > 0 || mayBegin) digits++
        if (digits >= cardDigitsMin) return true
        continue
      }
      if (kind === separator) {
        if (kinds[bytes[i - 1] as number] !== digit) digits = 0
        continue
      }
      digits = 0
      if (kind === 0) continue
      if (kind === at) return true
      if (kind === backslash) {
        if (bytes[i + 1] === 0x75 && i + 1 < to) return true
      } else if (kind === e) {
        if (bytes[i + 1] === 0x79 && bytes[i + 2] === 0x4a) return true
      } else if (kind === b) {
        if (spells(bytes, i, 'bearer')) return true
      } else if (kind === s) {
        if (spells(bytes, i, 'secret')) return true
      } else if (kind === a && isIdOfAws(bytes, i)) return true
    }
    return false
  }
}

function spells(bytes: Uint8Array, from: number, word: string): boolean {
  for (let i = 1; i < word.length; i++) if (((bytes[from + i] ?? 0) | 0x20) !== word.charCodeAt(i)) return false
  return true
}

/** Twenty letters and digits from here: of access keys that is the shape, of few words. */
function isIdOfAws(bytes: Uint8Array, from: number): boolean {
  for (let i = 1; i < 20; i++) if (!isAlphanumeric(bytes[from + i] ?? 0)) return false
  return true
}
