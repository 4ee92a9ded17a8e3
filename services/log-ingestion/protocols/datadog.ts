// Datadog's log intake: JSON items. It has no partial answer, so an item that cannot be an entry goes to quarantine
// as the text it was.

import type { Buffer } from 'node:buffer'
import { protocolCredential } from '../access/credentials.ts'
import { EntryWriter } from '../entry-writer.ts'
import { Fields, isText, levelOf, readTime } from '../fields.ts'
import { Cursor, JsonSyntaxError } from '../json/cursor.ts'
import { itemsOf, readMembers } from '../json/members.ts'
import { cleanMetadata } from '../json/metadata.ts'
import { DecodeError } from '../native.ts'
import { RecordBuilder } from '../record.ts'
import type { Moment } from '../rfc3339.ts'
import { type Answer, type DecodeOptions, type Fault, type IntakeRoute, jsonAnswer, type Target } from './protocol.ts'

const yieldEveryBytes = 256 * 1024

/** `key` is that of the path, /v1/input/K. */
export const input = (label: string, key?: string): IntakeRoute => ({
  ...datadog(label, ['POST'], key),
  *decode(target, body, builder, o) {
    const items = new Items(target, body, builder, o)
    try {
      yield* items.run()
    } catch (error) {
      if (error instanceof JsonSyntaxError)
        throw new DecodeError(`invalid JSON at byte ${error.offset}: ${error.message}`)
      throw error
    }
    const { total, rejectedCount, hasTimestamps } = items.writer
    return {
      total,
      rejectedCount,
      hasTimestamps,
      setAside: items.setAside,
      answer: () => ({ status: 202, body: '{}', headers: jsonType }),
    }
  },
})

export const validate: IntakeRoute = {
  ...datadog('/api/v1/validate', ['GET', 'HEAD']),
  reply: () => ({ status: 200, body: '{"valid":true}', headers: jsonType }),
  // biome-ignore lint/correctness/useYield: it never runs
  *decode() {
    throw new Error('BUG: a route that only replies has nothing to decode')
  },
}

const jsonType = { 'Content-Type': 'application/json' }

function datadog(label: string, methods: readonly string[], key?: string) {
  return {
    protocol: 'datadog',
    label,
    methods,
    credential: (target: Target) => protocolCredential(target) ?? key,
    fault: faultAnswer,
  } as const
}

class Items {
  readonly writer: EntryWriter
  readonly setAside = new RecordBuilder(64)
  readonly #aside: EntryWriter
  readonly #body: Buffer
  readonly #o: DecodeOptions
  readonly #target: Target
  readonly #moment: Moment = { seconds: 0, nanos: 0 }

  constructor(target: Target, body: Buffer, builder: RecordBuilder, o: DecodeOptions) {
    this.writer = new EntryWriter(builder, o)
    this.#aside = new EntryWriter(this.setAside, o)
    this.#body = body
    this.#o = o
    this.#target = target
  }

  *run(): Generator<void> {
    const cursor = new Cursor(this.#body)
    const first = cursor.peek()
    if (first === 0x7b) this.#item(cursor)
    else if (first === 0x5b) {
      let yieldedAt = 0
      for (const _ of itemsOf(cursor)) {
        this.#item(cursor)
        if (cursor.at - yieldedAt >= yieldEveryBytes) {
          yieldedAt = cursor.at
          yield
        }
      }
    } else if (first === -1) throw new DecodeError('the body is empty')
    else throw new DecodeError('the body must be an item or an array of items')
    if (cursor.peek() !== -1) throw cursor.unexpected('the end of the body')
  }

  #item(cursor: Cursor): void {
    const from = cursor.at
    const first = this.#body[from]
    if (first !== 0x7b) {
      cursor.skip()
      this.writer.count()
      this.#keepText(from, cursor.at, 'an item must be an object')
      return
    }
    const members = readMembers(cursor, this.#body, this.#o.rules.redaction.watch)
    // Agents ask with an empty object whether anybody is there.
    if (members.length === 0) return
    this.writer.count()
    const isSuspect = members.some(({ notes }) => notes !== 0)
    const refused = this.#add(
      new Fields(this.#body, members, this.#o.rules.redaction.watch),
      from,
      cursor.at,
      isSuspect,
    )
    if (refused === null) return
    this.writer.rejectedCount--
    this.#keepText(from, cursor.at, refused)
  }

  #add(fields: Fields, from: number, to: number, isSuspect: boolean): string | null {
    const { keyName } = this.#o
    const message = fields.take(['message'])?.text ?? this.#cleanText(from, to, isSuspect)
    const severity = fields.take(['status'])?.text
    const service = fields.take(['service'], isText)?.text || this.#parameter('service') || keyName
    const itemTags = fields.take(['ddtags'], isText)?.text
    const time = fields.take(['timestamp', 'date'], ({ text }) => readTime(text, this.#moment))
    const hasTime = time !== undefined || this.#headerTime()
    const rest = fields.rest()
    const level = levelOf(severity, rest.members)
    for (const name of ['hostname', 'ddsource'])
      if (!fields.has(name) && this.#parameter(name))
        rest.members.push(`"${name}":${JSON.stringify(this.#parameter(name))}`)
    const tags = [this.#parameter('ddtags'), itemTags]
      .flatMap(text => (text ?? '').split(','))
      .map(tag => tag.trim())
      .filter(tag => tag !== '')
    if (tags.length > 0) rest.members.push(`"tags":${JSON.stringify(tags)}`)
    return this.writer.add({
      members: rest.members,
      // Texts of parameters and tags were not looked at.
      isSuspect: rest.isSuspect || rest.members.some(member => member.includes('\\u')),
      deepest: Math.max(rest.deepest, tags.length > 0 ? 1 : 0),
      message,
      service,
      level,
      time: hasTime ? this.#moment : null,
    })
  }

  #parameter(name: string): string | undefined {
    return this.#target.parameters.get(name) || undefined
  }

  #headerTime(): boolean {
    const header = this.#target.headers['dd-message-timestamp']
    return typeof header === 'string' && readTime(header.trim(), this.#moment)
  }

  #keepText(from: number, to: number, reason: string): void {
    this.#aside.add({
      message: this.#cleanText(from, to, true),
      service: this.#parameter('service') ?? this.#o.keyName,
      level: 'INFO',
      time: null,
      members: [`"_refused":${JSON.stringify(reason)}`],
      isSuspect: false,
      deepest: 0,
    })
  }

  #cleanText(from: number, to: number, isSuspect: boolean): string {
    const text = this.#body.toString('utf8', from, to)
    const { rules, tally } = this.#o
    return isSuspect ? cleanMetadata(text, rules.redaction, { ...tally, redactions: new Map() }) : text
  }
}

const titles: Readonly<Record<Fault['kind'], string>> = {
  keyMissing: 'Unauthorized',
  keyInvalid: 'Forbidden',
  rateLimited: 'Too Many Requests',
  overloaded: 'Too Many Requests',
  malformed: 'Bad Request',
  tooLarge: 'Payload Too Large',
  encoding: 'Unsupported Media Type',
  mediaType: 'Unsupported Media Type',
  method: 'Method Not Allowed',
  conflict: 'Unprocessable Entity',
  internal: 'Internal Server Error',
}

/** No key is 401, a wrong one 403: that is how its clients tell them apart. */
function faultAnswer({ kind, status, detail }: Fault): Answer {
  const own = kind === 'keyInvalid' ? 403 : status
  return jsonAnswer(own, { errors: [{ status: String(own), title: titles[kind], detail }] }, jsonType)
}
