// Which words and fields a block may hold. A bloom filter of 8 bits per distinct thing says "certainly not" for all but 2 %.
//
//   u8 version = 1 · u8 flags (1: numbers that are not written plainly, 2: message words are in it) · bits
//
// Things are: words of messages (runs of ASCII letters and digits, folded), and key=value of top-level metadata, array
// elements one by one. Only what is surely exact is asked: a word that the query's text encloses on both sides, and a name
// without a dot.

import { Buffer } from 'node:buffer'
import { isJsonNumber } from '../../query/decimal.ts'
import type { Query } from '../../query/query.ts'
import type { Block } from './decode.ts'

const version = 1
const oddNumbers = 1
const bitsPerThing = 8
/** ln 2 × bits per thing. */
const hashes = 5

export function buildBloom(block: Block): Buffer {
  const things = new HashSet()
  let flags = 0
  addWords(block, things)
  for (const { key, rows, values } of block.metadata.columns()) {
    if (key === undefined) continue
    const seen = new Set<string>()
    for (let n = 0; n < rows.length; n++) {
      const text = values(n)
      if (seen.has(text)) continue
      if (seen.size < 50_000) seen.add(text)
      for (const value of scalarsOf(text)) {
        if (isJsonNumber(value.text) && !value.isString && !isPlainInteger(value.text)) flags |= oddNumbers
        things.add(hashText(`${key}=${value.text}`))
      }
    }
  }
  const bits = Math.max(64, Math.ceil((things.size * bitsPerThing) / 8) * 8)
  const bloom = Buffer.alloc(2 + bits / 8)
  bloom[0] = version
  bloom[1] = flags
  for (const thing of things.values())
    for (let i = 0; i < hashes; i++) {
      const bit = bitOf(thing, i, bits)
      const at = 2 + (bit >>> 3)
      bloom[at] = (bloom[at] as number) | (1 << (bit & 7))
    }
  return bloom
}

/** False only when no row of the block can match. */
export function bloomMayMatch(bloom: Buffer, query: Query): boolean {
  if (bloom[0] !== version) return true
  switch (query.kind) {
    case 'and':
      return query.terms.every(term => bloomMayMatch(bloom, term))
    case 'or':
      return query.terms.some(term => bloomMayMatch(bloom, term))
    case 'message':
      return enclosedWords(query.text).every(word => has(bloom, hashText(word)))
    case 'equals': {
      const { name, value } = query
      if (name.includes('.')) return true
      if (isJsonNumber(value) && (!isPlainInteger(value) || ((bloom[1] as number) & oddNumbers) !== 0)) return true
      return has(bloom, hashText(`${name}=${value}`))
    }
    default:
      return true
  }
}

export function asksBloom(query: Query): boolean {
  switch (query.kind) {
    case 'and':
      return query.terms.some(asksBloom)
    case 'or':
      return query.terms.every(asksBloom)
    case 'message':
      return enclosedWords(query.text).length > 0
    case 'equals':
      return !query.name.includes('.')
    default:
      return false
  }
}

function addWords(block: Block, things: HashSet): void {
  const { bytes, ends } = block.messages
  for (let row = 0; row < block.rows; row++) {
    const end = ends[row + 1] as number
    let hash = hashStart
    let length = 0
    for (let at = ends[row] as number; at <= end; at++) {
      const byte = at < end ? wordByte(bytes[at] as number) : 0
      if (byte !== 0) {
        hash = Math.imul(hash ^ byte, hashPrime)
        length++
      } else if (length > 0) {
        things.add(hash >>> 0)
        hash = hashStart
        length = 0
      }
    }
  }
}

/** Hashes in one typed array: a Set of a hundred thousand numbers costs more than all the rest of a merge. */
class HashSet {
  #slots = new Uint32Array(1 << 16)
  size = 0

  add(hash: number): void {
    // 0 marks a free slot.
    const value = hash === 0 ? 1 : hash
    const mask = this.#slots.length - 1
    let at = Math.imul(value, 0x9e3779b1) >>> 8
    for (;;) {
      at &= mask
      const found = this.#slots[at]
      if (found === value) return
      if (found === 0) break
      at++
    }
    this.#slots[at] = value
    if (++this.size * 2 > this.#slots.length) this.#grow()
  }

  #grow(): void {
    const before = this.#slots
    this.#slots = new Uint32Array(before.length * 4)
    this.size = 0
    for (const value of before) if (value !== 0) this.add(value)
  }

  values(): Uint32Array {
    return this.#slots.filter(value => value !== 0)
  }
}

/** Folded letter or digit, else 0. */
function wordByte(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte
  if (byte >= 0x61 && byte <= 0x7a) return byte
  return byte >= 0x41 && byte <= 0x5a ? byte + 32 : 0
}

/** Words of a searched text that end inside it: an outer one may be a part of a longer word. */
function enclosedWords(text: string): string[] {
  const words = text
    .split(/[^A-Za-z0-9]+/)
    .slice(1, -1)
    .filter(word => word !== '')
  return words.map(word => word.toLowerCase())
}

/** What `equals` could be asked for: a scalar, or the elements of an array. */
function scalarsOf(text: string): { text: string; isString: boolean }[] {
  const first = text[0]
  if (first === '{') return []
  if (first === '"') {
    const plain = text.slice(1, -1)
    return [{ text: plain.includes('\\') ? String(parsed(text)) : plain, isString: true }]
  }
  if (first !== '[') return [{ text, isString: false }]
  const list = parsed(text)
  if (!Array.isArray(list)) return []
  return list.flatMap((item: unknown): { text: string; isString: boolean }[] => {
    if (typeof item === 'string') return [{ text: item, isString: true }]
    if (item instanceof Digits) return [{ text: item.text, isString: false }]
    return typeof item === 'object' && item !== null ? [] : [{ text: String(item), isString: false }]
  })
}

class Digits {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** Numbers as their digits. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text, (_, value, context?: { source?: string }) =>
      typeof value === 'number' ? new Digits(context?.source ?? String(value)) : value,
    )
  } catch {
    return undefined
  }
}

function isPlainInteger(text: string): boolean {
  return /^(?:0|-?[1-9]\d*)$/.test(text)
}

function has(bloom: Buffer, hash: number): boolean {
  const thing = hash === 0 ? 1 : hash
  const bits = (bloom.length - 2) * 8
  for (let i = 0; i < hashes; i++) {
    const bit = bitOf(thing, i, bits)
    if (((bloom[2 + (bit >>> 3)] as number) & (1 << (bit & 7))) === 0) return false
  }
  return true
}

/** FNV-1a over UTF-16 units; what is asked and what is stored go the same way. */
const hashStart = 0x811c9dc5
const hashPrime = 0x01000193

function hashText(text: string): number {
  let hash = hashStart
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), hashPrime)
  return hash >>> 0
}

/** Double hashing from one 32-bit value, mixed well: FNV alone leaves patterns. */
function bitOf(thing: number, i: number, bits: number): number {
  let mixed = Math.imul(thing ^ (thing >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  const step = ((mixed ^ (mixed >>> 16)) | 1) >>> 0
  return (thing + i * step) % bits
}
