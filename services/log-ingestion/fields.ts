// Picks an entry's own fields out of a JSON object by the names people give them; what nobody picks is metadata.

import type { Buffer } from 'node:buffer'
import { Cursor, type KeyWatch } from './json/cursor.ts'
import { type Member, readMembers } from './json/members.ts'
import { unescapeToken } from './json/text.ts'
import { type Level, levelOfText } from './level.ts'
import { type Moment, parseRfc3339 } from './rfc3339.ts'
import { readUnix } from './unix-time.ts'

export interface Field {
  /** Content of a string, JSON of anything else. */
  text: string
  isString: boolean
  isObject: boolean
}

type Accepts = (field: Field) => boolean

export const isText: Accepts = field => field.isString
const isAnything: Accepts = () => true

export class Fields {
  readonly #body: Buffer
  readonly #watch: KeyWatch
  #members: Member[]
  /** Members of which a part was taken, as what is left of them. */
  readonly #rewritten = new Map<Member, string>()

  constructor(body: Buffer, members: Member[], watch: KeyWatch) {
    this.#body = body
    this.#members = members
    this.#watch = watch
  }

  has(name: string): boolean {
    return this.#members.some(({ key }) => key === name)
  }

  /** The value under the first of `names` that is there, null counting as not there; of duplicates the last. It is not
   *  metadata any more. A name with dots is looked for as it is first, then as a path of two. */
  take(names: readonly string[], accepts: Accepts = isAnything): Field | undefined {
    for (const name of names) {
      const member = this.#members.findLast(candidate => candidate.key === name)
      const field = member && this.#field(member)
      if (field && accepts(field)) {
        this.#members = this.#members.filter(other => other !== member)
        return field
      }
      const nested = this.#takeNested(name, accepts)
      if (nested) return nested
    }
    return undefined
  }

  #takeNested(name: string, accepts: Accepts): Field | undefined {
    const dot = name.indexOf('.')
    if (dot <= 0) return undefined
    const parent = this.#members.findLast(candidate => candidate.key === name.slice(0, dot))
    if (!parent || this.#body[parent.valueFrom] !== 0x7b || this.#rewritten.has(parent)) return undefined
    const inner = readMembers(new Cursor(this.#body, parent.valueFrom, parent.to), this.#body, this.#watch)
    const member = inner.findLast(candidate => candidate.key === name.slice(dot + 1))
    const field = member && this.#field(member)
    if (!field || !accepts(field)) return undefined
    const left = inner.filter(other => other !== member).map(other => this.#textAt(other.from, other.to))
    if (left.length === 0) this.#members = this.#members.filter(other => other !== parent)
    else this.#rewritten.set(parent, `${this.#textAt(parent.from, parent.valueFrom)}{${left.join(',')}}`)
    return field
  }

  #field(member: Member): Field | undefined {
    const first = this.#body[member.valueFrom]
    if (first === 0x6e) return undefined
    if (first !== 0x22)
      return { text: this.#textAt(member.valueFrom, member.to), isString: false, isObject: first === 0x7b }
    const raw = this.#textAt(member.valueFrom + 1, member.to - 1)
    return { text: raw.includes('\\') ? unescapeToken(raw) : raw, isString: true, isObject: false }
  }

  /** Texts `"key":value` of what was not taken. */
  rest(): { members: string[]; isSuspect: boolean; deepest: number } {
    let isSuspect = false
    let deepest = 0
    const members = this.#members.map(member => {
      if (member.notes !== 0) isSuspect = true
      if (member.deepest > deepest) deepest = member.deepest
      return this.#rewritten.get(member) ?? this.#textAt(member.from, member.to)
    })
    return { members, isSuspect, deepest }
  }

  #textAt(from: number, to: number): string {
    return this.#body.toString('utf8', from, to)
  }
}

/** Level of a field, or INFO with the original beside it. */
export function levelOf(text: string | undefined, members: string[]): Level {
  if (text === undefined || text === '') return 'INFO'
  const level = levelOfText(text)
  if (level) return level
  members.push(`"severity_text":${JSON.stringify(text.toWellFormed().replaceAll('\0', '\u2400'))}`)
  return 'INFO'
}

/** RFC 3339 (a space for the T allowed), or Unix time in s, ms, µs or ns told apart by magnitude. */
export function readTime(text: string, out: Moment): boolean {
  if (text.length > 64) return false
  if (text.charCodeAt(4) === 0x2d) {
    const bytes = encoder.encode(text)
    return parseRfc3339(bytes, 0, bytes.length, out, bytes[10] === 0x20 ? 0x20 : 0x54)
  }
  return readUnix(text, out)
}

const encoder = new TextEncoder()
