// ExportLogsServiceRequest as JSON: lowerCamelCase (protobuf's own names are taken too), ids in hexadecimal, 64-bit
// integers as strings or numbers. Walked over like every other body; numbers keep their digits.

import type { Buffer } from 'node:buffer'
import type { EntryWriter } from '../entry-writer.ts'
import { Cursor } from '../json/cursor.ts'
import { itemsOf, type Member, readLongMembers, readMembers, skipLong } from '../json/members.ts'
import type { Redaction } from '../json/metadata.ts'
import { unescapeToken } from '../json/text.ts'
import { DecodeError } from '../native.ts'
import {
  type Attribute,
  addRecord,
  deeper,
  emptyRecord,
  type LogRecord,
  listValue,
  nullValue,
  objectValue,
  plainValue,
  surroundingsOf,
  TooDeep,
  textValue,
  type Value,
} from './otlp-entry.ts'
import { reject } from './otlp-protobuf.ts'

const yieldEveryBytes = 256 * 1024

/** A value in the body. */
interface Place {
  from: number
  to: number
}

/** Gives way every 256 KiB; `refused` hears why a record was not taken. @throws JsonSyntaxError, DecodeError */
export function* decodeJson(
  body: Buffer,
  writer: EntryWriter,
  redaction: Redaction,
  refused: (why: string) => void,
): Generator<void> {
  const json = new OtlpJson(body, redaction)
  const cursor = new Cursor(body)
  if (cursor.peek() !== 0x7b) throw new DecodeError('the body must be an object with "resourceLogs"')
  const request = yield* readLongMembers(cursor, body, 5)
  if (cursor.peek() !== -1) throw cursor.unexpected('the end of the body')
  let yieldedAt = 0
  for (const resourceLogs of json.longList(request, 'resourceLogs', 4)) {
    if (resourceLogs === null) {
      yield
      continue
    }
    const parts = yield* json.longMembers(resourceLogs, 3)
    const resource = json.attributes(json.nested(parts, 'resource'), 1)
    for (const scopeLogs of json.longList(parts, 'scopeLogs', 2)) {
      if (scopeLogs === null) {
        yield
        continue
      }
      const inner = yield* json.longMembers(scopeLogs, 1)
      const around = surroundingsOf(resource, json.scope(json.nested(inner, 'scope')), redaction)
      for (const place of json.list(inner, 'logRecords')) {
        writer.count()
        const record = json.record(place)
        const why = record === null ? reject(writer) : addRecord(writer, record, around, redaction)
        if (why !== null) refused(why)
        if (place.to - yieldedAt >= yieldEveryBytes) {
          yieldedAt = place.to
          yield
        }
      }
    }
  }
}

type Found = Pick<Member, 'key' | 'valueFrom' | 'to'>

class OtlpJson {
  readonly #body: Buffer
  readonly #redaction: Redaction

  constructor(body: Buffer, redaction: Redaction) {
    this.#body = body
    this.#redaction = redaction
  }

  /** The members of the object there; none for null. */
  members({ from, to }: Place): Member[] {
    const first = this.#body[from]
    if (first === 0x6e) return []
    if (first !== 0x7b) throw new DecodeError(`an object is needed at byte ${from}`)
    return readMembers(new Cursor(this.#body, from, to), this.#body, null)
  }

  nested(members: readonly Found[], name: string): Member[] {
    const place = find(members, name)
    return place ? this.members(place) : []
  }

  /** The same for one that may be most of the body. */
  *longMembers({ from, to }: Place, levels: number): Generator<void, Found[]> {
    const first = this.#body[from]
    if (first === 0x6e) return []
    if (first !== 0x7b) throw new DecodeError(`an object is needed at byte ${from}`)
    return yield* readLongMembers(new Cursor(this.#body, from, to), this.#body, levels)
  }

  /** Items that may be most of the body; null between them is a pause. */
  *longList(members: readonly Found[], name: string, levels: number): Generator<Place | null> {
    const cursor = this.#listAt(members, name)
    if (!cursor) return
    for (const _ of itemsOf(cursor)) {
      const from = cursor.at
      for (const _ of skipLong(cursor, this.#body, levels)) yield null
      yield { from, to: cursor.at }
    }
  }

  *list(members: readonly Found[], name: string): Generator<Place> {
    const cursor = this.#listAt(members, name)
    if (!cursor) return
    for (const _ of itemsOf(cursor)) {
      const from = cursor.at
      cursor.skip()
      yield { from, to: cursor.at }
    }
  }

  #listAt(members: readonly Found[], name: string): Cursor | undefined {
    const place = find(members, name)
    if (!place || this.#body[place.from] === 0x6e) return undefined
    if (this.#body[place.from] !== 0x5b) throw new DecodeError(`"${name}" must be an array, at byte ${place.from}`)
    return new Cursor(this.#body, place.from, place.to)
  }

  attributes(members: readonly Found[], depth: number, name = 'attributes'): Attribute[] {
    const attributes: Attribute[] = []
    for (const item of this.list(members, name)) {
      const pair = this.members(item)
      const value = find(pair, 'value')
      attributes.push({ key: this.#text(pair, 'key'), value: value ? this.#value(value, depth) : nullValue })
    }
    return attributes
  }

  scope(members: readonly Found[]): Attribute[] {
    const named = ['name', 'version'].map(key => ({ key, value: textValue(this.#text(members, key)) }))
    const attributes = this.attributes(members, 2)
    return [
      ...named.filter(({ value }) => value.text !== ''),
      ...(attributes.length > 0 ? [{ key: 'attributes', value: objectValue(attributes, this.#redaction) }] : []),
    ]
  }

  /** Null when a value nests too deep to be stored. */
  record(place: Place): LogRecord | null {
    const members = this.members(place)
    try {
      const body = find(members, 'body')
      return {
        ...emptyRecord(),
        timeNanos: this.#integer(members, 'timeUnixNano'),
        observedNanos: this.#integer(members, 'observedTimeUnixNano'),
        severityNumber: this.#severity(members),
        severityText: this.#text(members, 'severityText'),
        body: body && this.#body[body.from] !== 0x6e ? this.#value(body, 1) : null,
        attributes: this.attributes(members, 1),
        droppedAttributes: Number(this.#integer(members, 'droppedAttributesCount')),
        flags: Number(this.#integer(members, 'flags')),
        traceId: this.#id(members, 'traceId'),
        spanId: this.#id(members, 'spanId'),
        eventName: this.#text(members, 'eventName'),
      }
    } catch (error) {
      if (error instanceof TooDeep) return null
      throw error
    }
  }

  /** The content of a string; empty when it is absent or null. */
  #text(members: readonly Found[], name: string): string {
    const place = find(members, name)
    if (!place || this.#body[place.from] === 0x6e) return ''
    if (this.#body[place.from] !== 0x22) throw new DecodeError(`"${name}" must be a string, at byte ${place.from}`)
    return this.#stringAt(place)
  }

  #integer(members: readonly Found[], name: string): bigint {
    const place = find(members, name)
    if (!place || this.#body[place.from] === 0x6e) return 0n
    const text = this.#scalar(place)
    if (!/^\d{1,20}$/.test(text) || BigInt(text) > 0xffff_ffff_ffff_ffffn)
      throw new DecodeError(`"${name}" must be an unsigned integer, at byte ${place.from}`)
    return BigInt(text)
  }

  /** A number, or the name of one: SEVERITY_NUMBER_WARN2. */
  #severity(members: readonly Found[]): number {
    const place = find(members, 'severityNumber')
    if (!place) return 0
    const text = this.#scalar(place)
    const [, word = '', step = '1'] = /^SEVERITY_NUMBER_(TRACE|DEBUG|INFO|WARN|ERROR|FATAL)([2-4])?$/.exec(text) ?? []
    const rank = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'].indexOf(word)
    return rank >= 0 ? rank * 4 + Number(step) : /^\d{1,2}$/.test(text) ? Number(text) : 0
  }

  #id(members: readonly Found[], name: string): string {
    const id = this.#text(members, name)
    return /^0*$/.test(id) ? '' : /^[0-9a-fA-F]+$/.test(id) ? id.toLowerCase() : id
  }

  /** An AnyValue: the one member it has. */
  #value(place: Place, depth: number): Value {
    const member = this.members(place).findLast(({ valueFrom }) => this.#body[valueFrom] !== 0x6e)
    if (!member) return nullValue
    const inner = { from: member.valueFrom, to: member.to }
    switch (snakeless(member.key)) {
      case 'stringvalue':
      case 'bytesvalue':
        return this.#body[inner.from] === 0x22 ? this.#stringValue(inner) : this.#asItIs(inner)
      case 'intvalue':
        return /^-?\d{1,20}$/.test(this.#scalar(inner))
          ? plainValue(`${BigInt(this.#scalar(inner))}`)
          : this.#asItIs(inner)
      case 'arrayvalue': {
        const next = deeper(depth)
        return listValue([...this.list(this.members(inner), 'values')].map(item => this.#value(item, next)))
      }
      case 'kvlistvalue':
        return objectValue(this.attributes(this.members(inner), deeper(depth), 'values'), this.#redaction)
      default:
        return this.#asItIs(inner)
    }
  }

  #stringValue(place: Place): Value {
    const json = this.#textAt(place)
    return { json, text: this.#stringAt(place), isSuspect: json.includes('\\u'), deepest: 0 }
  }

  /** Booleans, doubles, and what a newer version may bring. */
  #asItIs(place: Place): Value {
    const cursor = new Cursor(this.#body, place.from, place.to)
    cursor.skip(this.#redaction.watch)
    return {
      json: this.#textAt(place),
      text: this.#body[place.from] === 0x22 ? this.#stringAt(place) : null,
      isSuspect: cursor.notes !== 0,
      deepest: cursor.deepest,
    }
  }

  /** Content of a string, text of anything else. */
  #scalar(place: Place): string {
    return this.#body[place.from] === 0x22 ? this.#stringAt(place) : this.#textAt(place)
  }

  #stringAt({ from, to }: Place): string {
    const raw = this.#body.toString('utf8', from + 1, to - 1)
    return raw.includes('\\') ? unescapeToken(raw) : raw
  }

  #textAt({ from, to }: Place): string {
    return this.#body.toString('utf8', from, to)
  }
}

/** The last member of that name, as JSON or as protobuf spells it. */
function find(members: readonly Found[], name: string): Place | undefined {
  const wanted = name.toLowerCase()
  const member = members.findLast(({ key }) => key === name || snakeless(key) === wanted)
  return member && { from: member.valueFrom, to: member.to }
}

function snakeless(key: string): string {
  return key.replaceAll('_', '').toLowerCase()
}
