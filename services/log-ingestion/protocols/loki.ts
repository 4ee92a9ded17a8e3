// Loki's push API: JSON, or protobuf in a snappy block.

import type { Buffer } from 'node:buffer'
import { protocolCredential } from '../access/credentials.ts'
import { EntryWriter } from '../entry-writer.ts'
import { levelOf } from '../fields.ts'
import { Cursor, JsonSyntaxError } from '../json/cursor.ts'
import { itemsOf, type Member, readLongMembers, readMembers } from '../json/members.ts'
import type { Redaction } from '../json/metadata.ts'
import { unescapeToken } from '../json/text.ts'
import { DecodeError } from '../native.ts'
import type { RecordBuilder } from '../record.ts'
import { type Moment, parseRfc3339 } from '../rfc3339.ts'
import { setNanos } from '../unix-time.ts'
import { WireError, WireReader } from '../wire/protobuf.ts'
import { SnappyError, snappyDecode, snappyLength } from '../wire/snappy.ts'
import { parseLabels } from './loki-labels.ts'
import { type Answer, type Decoded, type DecodeOptions, type IntakeRoute, Refusal, type Target } from './protocol.ts'

export const push = (label: string): IntakeRoute => ({
  protocol: 'loki',
  label,
  methods: ['POST'],
  credential: protocolCredential,
  ownEncoding: 'snappy',
  askedTenant({ headers }) {
    const asked = headers['x-scope-orgid']
    return typeof asked === 'string' && /^[a-z0-9][a-z0-9._-]{0,62}$/.test(asked) ? asked : undefined
  },
  *decode(target, body, builder, o) {
    const pushed = new Push(builder, o)
    try {
      if (isJson(target))
        yield* pushed.json(target.headers['content-encoding'] === 'snappy' ? yield* unsnap(body, o) : body)
      else yield* pushed.protobuf(yield* unwrap(target, body, o))
    } catch (error) {
      if (error instanceof JsonSyntaxError)
        throw new DecodeError(`invalid JSON at byte ${error.offset}: ${error.message}`)
      if (error instanceof WireError) throw new DecodeError(`invalid protobuf: ${error.message}`)
      if (error instanceof SnappyError) throw new DecodeError(`invalid snappy: ${error.message}`)
      throw error
    }
    return pushed.result()
  },
  fault: ({ kind, status, detail }) =>
    kind === 'method' ? { ...text(405, detail), headers: { Allow: 'POST', ...textType } } : text(status, detail),
})

const textType = { 'Content-Type': 'text/plain; charset=utf-8', 'X-Content-Type-Options': 'nosniff' }

function text(status: number, body: string): Answer {
  return { status, body: `${body}\n`, headers: textType }
}

function isJson({ headers }: Target): boolean {
  return /^application\/json\s*(;|$)/i.test(headers['content-type'] ?? '')
}

/** What another encoding wrapped may be the message without a block around it. */
function* unwrap({ headers }: Target, body: Buffer, o: DecodeOptions): Generator<void, Buffer> {
  try {
    return yield* unsnap(body, o)
  } catch (error) {
    const encoding = (headers['content-encoding'] ?? '').trim().toLowerCase()
    if (error instanceof SnappyError && !['', 'identity', 'snappy'].includes(encoding)) return body
    throw error
  }
}

function* unsnap(body: Buffer, o: DecodeOptions): Generator<void, Buffer> {
  if (body.length === 0) return body
  const { length } = snappyLength(body)
  if (length > o.bodyBytesMax)
    throw new Refusal({
      kind: 'tooLarge',
      status: 413,
      detail: `the snappy block says it holds ${length} bytes, more than ${o.bodyBytesMax}; send less at once`,
    })
  o.reserve(length)
  return yield* snappyDecode(body)
}

const serviceLabels = ['service_name', 'service', 'app', 'job', 'container']
const levelLabels = ['level', 'detected_level', 'severity']
const yieldEveryBytes = 256 * 1024
const reasonsMax = 5

type Place = Pick<Member, 'key' | 'valueFrom' | 'to'>

/** A label or a piece of structured metadata; `json` is its value as JSON. */
interface Pair {
  name: string
  text: string
  member: string
  isSuspect: boolean
  deepest: number
}

interface Stream {
  service: string
  pairs: Pair[]
}

class Push {
  readonly #writer: EntryWriter
  readonly #o: DecodeOptions
  readonly #reasons = new Set<string>()
  readonly #moment: Moment = { seconds: 0, nanos: 0 }
  #yieldedAt = 0

  constructor(builder: RecordBuilder, o: DecodeOptions) {
    this.#writer = new EntryWriter(builder, o)
    this.#o = o
  }

  result(): Decoded {
    const { total, rejectedCount, hasTimestamps } = this.#writer
    const why = [...this.#reasons].join('; ')
    return {
      total,
      rejectedCount,
      hasTimestamps,
      answer: () =>
        rejectedCount === 0
          ? { status: 204, body: '' }
          : text(400, `${rejectedCount} of ${total} entries rejected: ${why}`),
    }
  }

  // JSON

  *json(body: Buffer): Generator<void> {
    const cursor = new Cursor(body)
    if (cursor.peek() === -1) throw new DecodeError('the body is empty')
    if (cursor.peek() !== 0x7b) throw new DecodeError('the body must be an object with "streams"')
    // Streams in it, values in those.
    const request = yield* readLongMembers(cursor, body, 3)
    const streams = request.findLast(member => member.key === 'streams')
    if (cursor.peek() !== -1) throw cursor.unexpected('the end of the body')
    if (!streams || body[streams.valueFrom] === 0x6e) return
    if (body[streams.valueFrom] !== 0x5b) throw new DecodeError('"streams" must be an array')
    const items = new Cursor(body, streams.valueFrom, streams.to)
    for (const _ of itemsOf(items)) {
      if (body[items.at] !== 0x7b) throw new DecodeError(`a stream must be an object, at byte ${items.at}`)
      yield* this.#jsonStream(body, yield* readLongMembers(items, body, 1))
    }
  }

  *#jsonStream(body: Buffer, members: readonly Place[]): Generator<void> {
    const find = (key: string) => members.findLast(member => member.key === key)
    const stream = this.#jsonLabels(body, find('stream'), find('labels'))
    // `values` is today's form, `entries` that of /api/prom/push.
    const values = find('values') ?? find('entries')
    if (!values || body[values.valueFrom] === 0x6e) return
    if (body[values.valueFrom] !== 0x5b) throw new DecodeError(`"${values.key}" must be an array`)
    const items = new Cursor(body, values.valueFrom, values.to)
    for (const _ of itemsOf(items)) {
      const from = items.at
      items.skip()
      this.#writer.count()
      this.#note(typeof stream === 'string' ? this.#reject(stream) : this.#jsonItem(body, from, items.at, stream))
      if (this.#isDue(items.at)) yield
    }
  }

  #jsonLabels(body: Buffer, stream: Place | undefined, labels: Place | undefined): Stream | string {
    if (stream && body[stream.valueFrom] === 0x7b) return streamOf(this.#jsonPairs(body, stream.valueFrom, stream.to))
    if (!labels || body[labels.valueFrom] !== 0x22) return streamOf([])
    return this.#textLabels(stringAt(body, labels.valueFrom, labels.to))
  }

  #jsonPairs(body: Buffer, from: number, to: number): Pair[] {
    const { watch } = this.#o.rules.redaction
    return readMembers(new Cursor(body, from, to), body, watch).map(({ key, from, valueFrom, to, notes, deepest }) => ({
      name: key,
      text: body[valueFrom] === 0x22 ? stringAt(body, valueFrom, to) : body.toString('utf8', valueFrom, to),
      member: body.toString('utf8', from, to),
      isSuspect: notes !== 0,
      deepest,
    }))
  }

  #jsonItem(body: Buffer, from: number, to: number, stream: Stream): string | null {
    if (body[from] === 0x5b) return this.#jsonValue(body, from, to, stream)
    if (body[from] === 0x7b) return this.#jsonEntry(body, from, to, stream)
    return this.#reject('an entry must be an array of time, line and metadata')
  }

  /** `["<ns>","line",{metadata}]` */
  #jsonValue(body: Buffer, from: number, to: number, stream: Stream): string | null {
    const items: [number, number][] = []
    const cursor = new Cursor(body, from + 1, to)
    while (cursor.peek() !== 0x5d && items.length < 4) {
      const start = cursor.at
      cursor.skip()
      items.push([start, cursor.at])
      if (cursor.peek() === 0x2c) cursor.at++
    }
    const [time, line, metadata] = items
    if (!time || !line || items.length > 3) return this.#reject('an entry must be an array of time, line and metadata')
    if (body[line[0]] !== 0x22) return this.#reject('a line must be a string')
    if (metadata && body[metadata[0]] !== 0x7b && body[metadata[0]] !== 0x6e)
      return this.#reject('structured metadata must be an object')
    const nanos = body[time[0]] === 0x22 ? stringAt(body, ...time) : body.toString('latin1', ...time)
    if (!/^-?\d{1,19}$/.test(nanos))
      return this.#reject(`timestamp ${JSON.stringify(nanos.slice(0, 40))} is not Unix time in nanoseconds`)
    setNanos(BigInt(nanos), this.#moment)
    const pairs = metadata && body[metadata[0]] === 0x7b ? this.#jsonPairs(body, ...metadata) : []
    return this.#add(stream, /^-?0+$/.test(nanos) ? null : this.#moment, stringAt(body, ...line), pairs)
  }

  /** `{"ts":"<RFC 3339>","line":"…"}`, as /api/prom/push had it. */
  #jsonEntry(body: Buffer, from: number, to: number, stream: Stream): string | null {
    const members = readMembers(new Cursor(body, from, to), body, null)
    const line = members.findLast(member => member.key === 'line')
    const time = members.findLast(member => member.key === 'ts' || member.key === 'timestamp')
    if (!line || body[line.valueFrom] !== 0x22) return this.#reject('a line must be a string')
    const isTime = time && parseRfc3339(body, time.valueFrom + 1, time.to - 1, this.#moment)
    if (time && !isTime) return this.#reject('"ts" must be an RFC 3339 time')
    return this.#add(stream, isTime ? this.#moment : null, stringAt(body, line.valueFrom, line.to), [])
  }

  // Protobuf

  *protobuf(body: Buffer): Generator<void> {
    const request = new WireReader(body)
    while (request.next()) {
      if (request.field !== 1) continue
      const stream = this.#labelsOf(request.message())
      const fields = request.message()
      while (fields.next()) {
        if (fields.field !== 2) continue
        this.#writer.count()
        const entry = fields.message()
        this.#note(typeof stream === 'string' ? this.#reject(stream) : this.#entry(entry, stream))
        if (this.#isDue(fields.at)) yield
      }
    }
  }

  /** Labels may come after the entries they belong to. */
  #labelsOf(fields: WireReader): Stream | string {
    let labels = '{}'
    while (fields.next()) if (fields.field === 1) labels = fields.text()
    return this.#textLabels(labels)
  }

  #textLabels(labels: string): Stream | string {
    const parsed = parseLabels(labels)
    if (parsed === null) return `labels ${JSON.stringify(labels.slice(0, 80))} cannot be read`
    return streamOf(parsed.map(([name, value]) => pairOf(name, value, this.#o.rules.redaction)))
  }

  #entry(fields: WireReader, stream: Stream): string | null {
    let line = ''
    let hasTime = false
    const pairs: Pair[] = []
    while (fields.next()) {
      if (fields.field === 1) hasTime = readTimestamp(fields.message(), this.#moment)
      else if (fields.field === 2) line = fields.text()
      else if (fields.field === 3) {
        const pair = fields.message()
        const texts = ['', '']
        while (pair.next()) if (pair.field === 1 || pair.field === 2) texts[pair.field - 1] = pair.text()
        pairs.push(pairOf(texts[0] ?? '', texts[1] ?? '', this.#o.rules.redaction))
      }
    }
    return this.#add(stream, hasTime ? this.#moment : null, line, pairs)
  }

  // Both

  #add(stream: Stream, time: Moment | null, message: string, metadata: readonly Pair[]): string | null {
    const names = new Set(metadata.map(({ name }) => name))
    const all =
      metadata.length === 0 ? stream.pairs : [...stream.pairs.filter(({ name }) => !names.has(name)), ...metadata]
    let service = stream.service
    const used = new Set<Pair>()
    if (service === '') {
      const named = first(metadata, serviceLabels)
      if (named) used.add(named)
      service = named?.text ?? this.#o.keyName
    }
    const severity = first(all, levelLabels)
    if (severity) used.add(severity)
    const kept = used.size === 0 ? all : all.filter(pair => !used.has(pair))
    const members = kept.map(({ member }) => member)
    const level = levelOf(severity?.text, members)
    return this.#writer.add({
      message,
      service,
      level,
      time,
      members,
      isSuspect: kept.some(({ isSuspect }) => isSuspect),
      deepest: kept.reduce((deepest, pair) => Math.max(deepest, pair.deepest), 0),
    })
  }

  #reject(reason: string): string {
    this.#writer.rejectedCount++
    return reason
  }

  #note(refused: string | null): void {
    if (refused !== null && this.#reasons.size < reasonsMax) this.#reasons.add(refused)
  }

  #isDue(at: number): boolean {
    if (at - this.#yieldedAt < yieldEveryBytes) return false
    this.#yieldedAt = at
    return true
  }
}

function streamOf(labels: readonly Pair[]): Stream {
  const named = first(labels, serviceLabels)
  return { service: named?.text ?? '', pairs: labels.filter(label => label !== named) }
}

function first(pairs: readonly Pair[], names: readonly string[]): Pair | undefined {
  for (const name of names) {
    const found = pairs.findLast(pair => pair.name === name && pair.text !== '')
    if (found) return found
  }
  return undefined
}

function pairOf(name: string, value: string, redaction: Redaction): Pair {
  const member = `${JSON.stringify(name)}:${JSON.stringify(value)}`
  return { name, text: value, member, isSuspect: member.includes('\\u') || redaction.redacts(name), deepest: 0 }
}

/** google.protobuf.Timestamp; false when it is zero. */
function readTimestamp(fields: WireReader, out: Moment): boolean {
  let seconds = 0n
  let nanos = 0n
  while (fields.next())
    if (fields.field === 1 && fields.type === 0) seconds = BigInt.asIntN(64, fields.value)
    else if (fields.field === 2 && fields.type === 0) nanos = BigInt.asIntN(32, fields.value)
  setNanos(seconds * 1_000_000_000n + nanos, out)
  return seconds !== 0n || nanos !== 0n
}

/** Content of the JSON string at body[from, to). */
function stringAt(body: Buffer, from: number, to: number): string {
  const raw = body.toString('utf8', from + 1, to - 1)
  return raw.includes('\\') ? unescapeToken(raw) : raw
}
