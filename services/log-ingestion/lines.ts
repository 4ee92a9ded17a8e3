// NDJSON and plain lines: each line that is a JSON object is an entry, any other line is a message by itself.

import type { Buffer } from 'node:buffer'
import { type EntryOptions, EntryWriter } from './entry-writer.ts'
import { Fields, isText, levelOf, readTime } from './fields.ts'
import { Cursor, JsonSyntaxError } from './json/cursor.ts'
import { type Member, readMembers } from './json/members.ts'
import { cleanMetadata } from './json/metadata.ts'
import type { RecordBuilder } from './record.ts'
import type { Moment } from './rfc3339.ts'

export interface LineOptions extends EntryOptions {
  /** Of every line, before what the line says itself. */
  service: string | undefined
  level: string | undefined
  messageField: string | undefined
  timeField: string | undefined
  /** Service of lines that name none. */
  keyName: string
}

export interface LineResult {
  total: number
  rejectedCount: number
  /** The first hundred, with lines counted from 1. */
  rejected: string[]
  hasTimestamps: boolean
}

const yieldEveryBytes = 256 * 1024
const rejectedMax = 100

const messageFields = ['message', 'msg', '_msg', 'log', 'body']
const timeFields = ['timestamp', '@timestamp', '_time', 'time', 'ts', 'date']
const levelFields = ['level', 'severity', 'severity_text', 'log.level', 'lvl']
const serviceFields = ['service', 'service.name', 'app', 'job', 'container_name']

export function* decodeLines(body: Buffer, builder: RecordBuilder, o: LineOptions): Generator<void, LineResult> {
  const writer = new EntryWriter(builder, o)
  const decoder = new LineDecoder(body, writer, o)
  const rejected: string[] = []
  let lineNumber = 0
  let yieldedAt = 0
  for (let from = 0; from < body.length; ) {
    const feed = body.indexOf(0x0a, from)
    const end = feed < 0 ? body.length : feed
    lineNumber++
    const refused = decoder.line(from, end > from && body[end - 1] === 0x0d ? end - 1 : end)
    if (refused !== null && rejected.length < rejectedMax) rejected.push(`Line ${lineNumber}: ${refused}`)
    from = end + 1
    if (from - yieldedAt >= yieldEveryBytes) {
      yieldedAt = from
      yield
    }
  }
  const { total, rejectedCount, hasTimestamps } = writer
  return { total, rejectedCount, rejected, hasTimestamps }
}

class LineDecoder {
  readonly #body: Buffer
  readonly #writer: EntryWriter
  readonly #o: LineOptions
  readonly #messageFields: readonly string[]
  readonly #timeFields: readonly string[]
  readonly #moment: Moment = { seconds: 0, nanos: 0 }

  constructor(body: Buffer, writer: EntryWriter, o: LineOptions) {
    this.#body = body
    this.#writer = writer
    this.#o = o
    this.#messageFields = o.messageField === undefined ? messageFields : [o.messageField, ...messageFields]
    this.#timeFields = o.timeField === undefined ? timeFields : [o.timeField, ...timeFields]
  }

  /** Adds the line at body[from, to), or says why not; blank lines are nothing. */
  line(from: number, to: number): string | null {
    const cursor = new Cursor(this.#body, from, to)
    const first = cursor.peek()
    if (first === -1) return null
    this.#writer.count()
    const members = first === 0x7b ? this.#members(cursor) : null
    return members === null ? this.#plain(from, to) : this.#object(members, cursor.at)
  }

  /** The members of the object, or null when the line is not one JSON object and nothing else. */
  #members(cursor: Cursor): Member[] | null {
    try {
      const members = readMembers(cursor, this.#body, this.#o.rules.redaction.watch)
      const end = cursor.at
      if (cursor.peek() !== -1) return null
      cursor.at = end
      return members
    } catch (error) {
      if (error instanceof JsonSyntaxError) return null
      throw error
    }
  }

  #plain(from: number, to: number): string | null {
    const members: string[] = []
    const level = levelOf(this.#o.level, members)
    const message = this.#body.toString('utf8', from, to)
    return this.#writer.add({
      message,
      service: this.#o.service || this.#o.keyName,
      level,
      time: null,
      members,
      isSuspect: false,
      deepest: 0,
    })
  }

  #object(members: Member[], end: number): string | null {
    const { rules, service, level, keyName } = this.#o
    const fields = new Fields(this.#body, members, rules.redaction.watch)
    const message = fields.take(this.#messageFields)?.text ?? this.#textOfAll(members, end)
    const severity = fields.take(levelFields)?.text
    const name = service || (fields.take(serviceFields, isText)?.text ?? keyName)
    const time = fields.take(this.#timeFields, field => readTime(field.text, this.#moment))
    const rest = fields.rest()
    return this.#writer.add({
      ...rest,
      message,
      service: name,
      level: levelOf(severity ?? level, rest.members),
      time: time ? this.#moment : null,
    })
  }

  /** The text is stored without what must not be stored. */
  #textOfAll(members: readonly Member[], end: number): string {
    const [first] = members
    if (!first) return '{}'
    const line = `{${this.#body.toString('utf8', first.from, end)}`
    const { redaction } = this.#o.rules
    return members.some(member => member.notes !== 0)
      ? cleanMetadata(line, redaction, { ...this.#o.tally, redactions: new Map() })
      : line
  }
}
