// From string tokens to text, and comparison of keys the way Go's decoder compares them.

import type { Buffer } from 'node:buffer'

/** The text of the string token at bytes[from, to). Invalid UTF-8 and lone surrogates become U+FFFD. */
export function tokenText(bytes: Buffer, from: number, to: number, hasEscape: boolean): string {
  const raw = bytes.toString('utf8', from, to)
  return hasEscape ? unescapeToken(raw) : raw
}

/** The token was checked by the cursor, so JSON.parse cannot fail on it. */
export function unescapeToken(raw: string): string {
  return String(JSON.parse(`"${raw}"`)).toWellFormed()
}

/** True when the key token equals `lower` (ASCII lower case) in any case, as Go folds: K and ſ count as k and s. */
export function keyEquals(bytes: Buffer, from: number, to: number, hasEscape: boolean, lower: string): boolean {
  if (!hasEscape && to - from === lower.length) {
    let i = 0
    for (; i < lower.length; i++) {
      const byte = bytes[from + i] as number
      if (byte !== lower.charCodeAt(i) && (byte | 0x20) !== lower.charCodeAt(i)) break
    }
    if (i === lower.length) return true
  }
  if (!hasEscape && isAscii(bytes, from, to)) return false
  return foldCase(tokenText(bytes, from, to, hasEscape)) === lower
}

/** Upper case first: it maps ſ to S, and lower case then maps the Kelvin sign to k. */
export function foldCase(text: string): string {
  return text.toUpperCase().toLowerCase()
}

function isAscii(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if ((bytes[i] as number) >= 0x80) return false
  return true
}

/** C0 controls other than tab, line feed and carriage return do not survive in messages. */
export function stripControls(text: string): string {
  return hasControl.test(text) ? text.replace(controls, '') : text
}
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are exactly the characters to remove
const hasControl = /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are exactly the characters to remove
const controls = /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g
