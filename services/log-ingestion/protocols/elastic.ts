// Elasticsearch's document intake: _bulk, _doc and _create, with answers that its clients take for those of a cluster.

import type { Buffer } from 'node:buffer'
import { crc32 } from 'node:zlib'
import { protocolCredential } from '../access/credentials.ts'
import { EntryWriter } from '../entry-writer.ts'
import { Fields, isText, levelOf, readTime } from '../fields.ts'
import { Cursor, JsonSyntaxError } from '../json/cursor.ts'
import { type Member, readMembers } from '../json/members.ts'
import { cleanMetadata } from '../json/metadata.ts'
import { unescapeToken } from '../json/text.ts'
import { DecodeError } from '../native.ts'
import type { RecordBuilder } from '../record.ts'
import type { Moment } from '../rfc3339.ts'
import type { Answer, Decoded, DecodeOptions, Fault, IntakeRoute, Target } from './protocol.ts'

const actions = ['create', 'index', 'update', 'delete'] as const
type Action = (typeof actions)[number]

const yieldEveryBytes = 256 * 1024

export const bulk = (label: string, index: string): IntakeRoute => ({
  ...elastic(label, ['POST', 'PUT']),
  *decode(target, body, builder, o) {
    const documents = new Documents(body, builder, o)
    const items: string[] = []
    const ids = idMaker(o.nowMs, body)
    let hasErrors = false
    let yieldedAt = 0
    for (const item of documents.bulk(index)) {
      const { action, failure } = item
      hasErrors ||= failure !== null
      const id = item.id ?? ids()
      const place = `"_index":${JSON.stringify(item.index)},"_id":${JSON.stringify(id)}`
      items.push(
        failure === null
          ? `{"${action}":{${place},${created(items.length)},"status":201}}`
          : `{"${action}":{${place},"status":400,"error":${JSON.stringify(failure)}}}`,
      )
      if (documents.at - yieldedAt >= yieldEveryBytes) {
        yieldedAt = documents.at
        yield
      }
    }
    if (items.length === 0) throw new DecodeError('Validation Failed: 1: no requests added;')
    return documents.result(() => {
      // A repeat gets the same answer, so nothing in it may depend on the moment.
      const text = `{"took":0,"errors":${hasErrors},"items":[${items.join(',')}]}`
      return { status: 200, body: text, headers: headersFor(target) }
    })
  },
})

/** `id` undefined: one is made up. */
export const document = (label: string, index: string, id: string | undefined): IntakeRoute => ({
  ...elastic(label, ['POST', 'PUT']),
  *decode(target, body, builder, o) {
    const documents = new Documents(body, builder, o)
    const failure = documents.one(index, id)
    const place = `"_index":${JSON.stringify(index)},"_id":${JSON.stringify(id ?? idMaker(o.nowMs, body)())}`
    return documents.result(() =>
      failure === null
        ? { status: 201, body: `{${place},${created(0)}}`, headers: headersFor(target) }
        : errorAnswer(400, failure, target),
    )
  },
})

export function elastic(label: string, methods: readonly string[]) {
  return { protocol: 'elasticsearch', label, methods, credential: protocolCredential, fault: faultAnswer } as const
}

interface Failure {
  type: string
  reason: string
}

interface Item {
  action: Action
  index: string
  id: string | undefined
  failure: Failure | null
}

const created = (sequence: number) =>
  `"_version":1,"result":"created","_shards":{"total":1,"successful":1,"failed":0},"_seq_no":${sequence},"_primary_term":1`

class Documents {
  at = 0
  readonly #body: Buffer
  readonly #writer: EntryWriter
  readonly #o: DecodeOptions
  readonly #moment: Moment = { seconds: 0, nanos: 0 }
  #lineNumber = 0

  constructor(body: Buffer, builder: RecordBuilder, o: DecodeOptions) {
    this.#body = body
    this.#writer = new EntryWriter(builder, o)
    this.#o = o
  }

  result(answer: () => Answer): Decoded {
    const { total, rejectedCount, hasTimestamps } = this.#writer
    return { total, rejectedCount, hasTimestamps, answer }
  }

  *bulk(index: string): Generator<Item> {
    for (let line = this.#line(); line; line = this.#line()) {
      const action = this.#action(line, index)
      if (action === null) continue
      this.#writer.count()
      const source = action.action === 'delete' ? null : this.#line()
      yield { ...action, failure: this.#perform(action, source) }
    }
  }

  one(index: string, id: string | undefined): Failure | null {
    this.#writer.count()
    return this.#add([0, this.#body.length], index, id)
  }

  #perform({ action, index, id }: Omit<Item, 'failure'>, source: [number, number] | null): Failure | null {
    if (action === 'update' || action === 'delete')
      return this.#refuse('illegal_argument_exception', `entries are only ever added: ${action} is not supported`)
    if (source === null) return this.#refuse('illegal_argument_exception', 'the document is missing')
    return this.#add(source, index, id)
  }

  /** The next line, or null at the end. */
  #line(): [number, number] | null {
    if (this.at >= this.#body.length) return null
    const from = this.at
    const feed = this.#body.indexOf(0x0a, from)
    const end = feed < 0 ? this.#body.length : feed
    this.at = end + 1
    this.#lineNumber++
    return [from, end]
  }

  /** `{"create":{"_index":…,"_id":…}}`; null for a blank line. What follows a broken one cannot be told apart, so that one
   *  fails the request. */
  #action([from, to]: [number, number], index: string): Omit<Item, 'failure'> | null {
    const body = this.#body
    const cursor = new Cursor(body, from, to)
    const first = cursor.peek()
    if (first === -1) return null
    const fail = (why: string) => new DecodeError(`Malformed action/metadata line [${this.#lineNumber}], ${why}`)
    if (first !== 0x7b) throw fail('expected an object')
    let members: Member[]
    let inner: Member[] = []
    try {
      members = readMembers(cursor, body, null)
      const [only] = members
      if (only && body[only.valueFrom] === 0x7b)
        inner = readMembers(new Cursor(body, only.valueFrom, only.to), body, null)
    } catch (error) {
      if (error instanceof JsonSyntaxError) throw fail(error.message)
      throw error
    }
    const [member] = members
    const action = actions.find(name => name === member?.key)
    if (!member || !action || members.length > 1)
      throw fail(`expected one of [create, delete, index, update] but found [${(member?.key ?? '').slice(0, 60)}]`)
    if (body[member.valueFrom] !== 0x7b) throw fail('expected an object behind the action')
    const named = (name: string) => {
      const found = inner.findLast(candidate => candidate.key === name)
      return found && body[found.valueFrom] === 0x22 ? stringAt(body, found.valueFrom, found.to) : undefined
    }
    return { action, index: named('_index') || index, id: named('_id') || undefined }
  }

  #add([from, to]: [number, number], index: string, id: string | undefined): Failure | null {
    const body = this.#body
    const { rules, keyName } = this.#o
    const cursor = new Cursor(body, from, to)
    let fields: Fields
    let text = ''
    try {
      if (cursor.peek() !== 0x7b) throw cursor.unexpected('a document')
      const start = cursor.at
      const members = readMembers(cursor, body, rules.redaction.watch)
      const end = cursor.at
      if (cursor.peek() !== -1) throw cursor.unexpected('the end of the document')
      fields = new Fields(body, members, rules.redaction.watch)
      text = body.toString('utf8', start, end)
      if (members.some(member => member.notes !== 0))
        text = cleanMetadata(text, rules.redaction, { ...this.#o.tally, redactions: new Map() })
    } catch (error) {
      if (error instanceof JsonSyntaxError)
        return this.#refuse(
          'document_parsing_exception',
          `[1:${error.offset - from + 1}] failed to parse: ${error.message}`,
        )
      throw error
    }
    const message = (fields.take(['message']) ?? fields.take(['msg', 'log'], isText))?.text ?? text
    const severity = fields.take(['log.level', 'level'])?.text
    const service = fields.take(['service.name', 'service'], isText)?.text ?? (withoutDate(index) || keyName)
    const time = fields.take(
      ['@timestamp'],
      ({ text }) => readTime(text, this.#moment) || readTime(`${text}Z`, this.#moment),
    )
    const { members, isSuspect, deepest } = fields.rest()
    const level = levelOf(severity, members)
    if (id !== undefined) members.push(`"_id":${JSON.stringify(id)}`)
    const refused = this.#writer.add({
      message,
      service,
      level,
      time: time ? this.#moment : null,
      members,
      isSuspect: isSuspect || id?.includes('\0') === true,
      deepest,
    })
    return refused === null ? null : { type: 'document_parsing_exception', reason: refused }
  }

  #refuse(type: string, reason: string): Failure {
    this.#writer.rejectedCount++
    return { type, reason }
  }
}

/** `shop-2026.01.15`, `shop-2026-01`, `shop_20260115`, `shop-2026.01.15-000001` → `shop` */
export function withoutDate(index: string): string {
  return index.replace(/[-_.](?:\d{4}[-_.]\d{1,2}(?:[-_.]\d{1,2})?|\d{8})(?:[-_.]\d{6})?$/, '')
}

/** Nothing refers to these ids, and the same request gets the same. */
function idMaker(nowMs: number, body: Buffer): () => string {
  const start = `${nowMs.toString(36)}${crc32(body).toString(36).padStart(7, '0')}`
  let count = 0
  return () => `${start}${(count++).toString(36).padStart(4, '0')}`
}

function stringAt(body: Buffer, from: number, to: number): string {
  const raw = body.toString('utf8', from + 1, to - 1)
  return raw.includes('\\') ? unescapeToken(raw) : raw
}

/** Clients of 8 and later ask for the media type of their version and want it back. */
export function headersFor({ headers }: Target): Record<string, string> {
  const asked = [headers.accept, headers['content-type']].find(value => value?.includes('vnd.elasticsearch+'))
  const version = /compatible-with\s*=\s*(\d{1,3})/.exec(asked ?? '')?.[1]
  const type =
    version === undefined ? 'application/json' : `application/vnd.elasticsearch+json;compatible-with=${version}`
  return { 'Content-Type': type, 'X-Elastic-Product': 'Elasticsearch' }
}

function errorAnswer(status: number, error: Failure, target: Target): Answer {
  return { status, body: JSON.stringify({ error, status }), headers: headersFor(target) }
}

const types: Readonly<Record<Fault['kind'], string>> = {
  keyMissing: 'security_exception',
  keyInvalid: 'security_exception',
  rateLimited: 'es_rejected_execution_exception',
  overloaded: 'es_rejected_execution_exception',
  malformed: 'illegal_argument_exception',
  tooLarge: 'content_too_long_exception',
  encoding: 'media_type_header_exception',
  mediaType: 'media_type_header_exception',
  method: 'method_not_allowed_exception',
  conflict: 'version_conflict_engine_exception',
  internal: 'internal_error',
}

export function faultAnswer({ kind, status, detail }: Fault, target: Target): Answer {
  const answer = errorAnswer(status, { type: types[kind], reason: detail }, target)
  if (status !== 401) return answer
  return {
    ...answer,
    headers: { ...answer.headers, 'WWW-Authenticate': 'ApiKey, Basic realm="logs", charset="UTF-8"' },
  }
}
