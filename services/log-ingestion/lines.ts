// NDJSON and plain lines: each line that is a JSON object is an entry, any other line is a message by itself.

import { Buffer, isUtf8 } from 'node:buffer'
import { compareToMs, type IntakeRules, metadataDepthMax, refusals, serviceBytesMax } from './intake-rules.ts'
import { Cursor, JsonSyntaxError } from './json/cursor.ts'
import { cleanMetadata, type Tally } from './json/metadata.ts'
import { stripControls, tokenText } from './json/text.ts'
import { type Level, levelIndex, levelOfNumber, levelOfWord } from './level.ts'
import { TooManyEntries } from './native.ts'
import type { RecordBuilder } from './record.ts'
import { formatMoment, type Moment, parseRfc3339 } from './rfc3339.ts'

export interface LineOptions {
  rules: IntakeRules
  lineBytesMax: number
  entriesMax: number
  nowMs: number
  tally: Tally
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
  const result: LineResult = { total: 0, rejectedCount: 0, rejected: [], hasTimestamps: true }
  const decoder = new LineDecoder(body, builder, o, result)
  let lineNumber = 0
  let yieldedAt = 0
  for (let from = 0; from < body.length; ) {
    const feed = body.indexOf(0x0a, from)
    const end = feed < 0 ? body.length : feed
    lineNumber++
    const refused = decoder.line(from, end > from && body[end - 1] === 0x0d ? end - 1 : end)
    if (refused !== null) {
      result.rejectedCount++
      if (result.rejected.length < rejectedMax) result.rejected.push(`Line ${lineNumber}: ${refused}`)
    }
    from = end + 1
    if (from - yieldedAt >= yieldEveryBytes) {
      yieldedAt = from
      yield
    }
  }
  return result
}

/** Where a member of the line's object is. */
interface Member {
  key: string
  /** With its key, for metadata. */
  from: number
  valueFrom: number
  to: number
  notes: number
  deepest: number
}

class LineDecoder {
  readonly #body: Buffer
  readonly #builder: RecordBuilder
  readonly #o: LineOptions
  readonly #result: LineResult
  readonly #isUtf8: boolean
  readonly #moment: Moment = { seconds: 0, nanos: 0 }

  constructor(body: Buffer, builder: RecordBuilder, o: LineOptions, result: LineResult) {
    this.#body = body
    this.#builder = builder
    this.#o = o
    this.#result = result
    this.#isUtf8 = isUtf8(body)
  }

  /** Adds the line at body[from, to), or says why not; blank lines are nothing. */
  line(from: number, to: number): string | null {
    const cursor = new Cursor(this.#body, from, to)
    const first = cursor.peek()
    if (first === -1) return null
    if (this.#result.total++ === this.#o.entriesMax) throw new TooManyEntries(this.#o.entriesMax)
    const members = first === 0x7b ? this.#members(cursor) : null
    return members === null ? this.#plain(from, to) : this.#object(members, cursor.at)
  }

  /** The members of the object, or null when the line is not one JSON object and nothing else. */
  #members(cursor: Cursor): Member[] | null {
    const members: Member[] = []
    const { watch } = this.#o.rules.redaction
    try {
      cursor.at++
      if (cursor.peek() === 0x7d) cursor.at++
      else
        for (;;) {
          cursor.peek()
          const from = cursor.at
          cursor.notes = 0
          cursor.key()
          const key = tokenText(this.#body, cursor.from, cursor.to, cursor.hasEscape)
          const isWatched = watch(this.#body, cursor.from, cursor.to, cursor.hasEscape)
          const keyNotes = cursor.notes
          cursor.peek()
          const valueFrom = cursor.at
          cursor.skip(watch)
          const notes = cursor.notes | keyNotes | (isWatched ? 1 : 0)
          members.push({ key, from, valueFrom, to: cursor.at, notes, deepest: cursor.deepest })
          const next = cursor.peek()
          if (next !== 0x2c && next !== 0x7d) return null
          cursor.at++
          if (next === 0x7d) break
        }
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
    this.#result.hasTimestamps = false
    return this.#add({ line: this.#body.toString('utf8', from, to), used: new Set(), members: [], extra: [] })
  }

  #object(members: Member[], end: number): string | null {
    const used = new Set<Member>()
    const { messageField } = this.#o
    const message = pick(members, messageField === undefined ? messageFields : [messageField, ...messageFields])
    if (!message) {
      const first = members[0]
      const line = first ? `{${this.#body.toString('utf8', first.from, end)}` : '{}'
      // The text is stored without what must not be stored.
      const text = cleanMetadata(line, this.#o.rules.redaction, { ...this.#o.tally, redactions: new Map() })
      return this.#add({ line: text, used, members, extra: [] })
    }
    used.add(message)
    return this.#add({ line: this.#textOf(message), used, members, extra: [] })
  }

  #add(entry: { line: string; used: Set<Member>; members: Member[]; extra: [string, string][] }): string | null {
    const { rules, lineBytesMax, tally } = this.#o
    const { used, members, extra } = entry
    const level = this.#level(members, used, extra)
    const service = this.#service(members, used)
    this.#time(members, used, extra)

    let message = stripControls(entry.line)
    const messageBytes = Buffer.byteLength(message)
    if (messageBytes > lineBytesMax) {
      message = cutAtCharacter(message, lineBytesMax)
      extra.push(['_truncated_from_bytes', String(messageBytes)])
    }

    const kept = members.filter(member => !used.has(member))
    if (kept.some(member => member.deepest >= metadataDepthMax)) return refusals.metadataTooDeep
    let metadata: string | null = null
    if (kept.length + extra.length > 0) {
      const parts = kept.map(member => this.#body.toString('utf8', member.from, member.to))
      metadata = `{${[...parts, ...extra.map(([key, value]) => `${JSON.stringify(key)}:${value}`)].join(',')}}`
      if (Buffer.byteLength(metadata) > rules.metadataBytesMax) return refusals.metadataTooLarge(rules.metadataBytesMax)
      if (!this.#isUtf8 || kept.some(member => member.notes !== 0))
        metadata = cleanMetadata(metadata, rules.redaction, tally)
    }
    this.#builder.row(this.#moment.seconds, this.#moment.nanos, levelIndex(level), service, message, metadata)
    return null
  }

  #service(members: Member[], used: Set<Member>): string {
    const named =
      this.#o.service === undefined || this.#o.service === ''
        ? pick(members, serviceFields, isString(this.#body))
        : undefined
    if (named) used.add(named)
    const raw = named ? this.#textOf(named) : this.#o.service || this.#o.keyName
    // biome-ignore lint/suspicious/noControlCharactersInRegex: controls are what is removed
    const clean = raw.toWellFormed().replaceAll(/[\u0000-\u001f\u007f]/g, '')
    return cutAtCharacter(clean, serviceBytesMax) || 'unknown'
  }

  #level(members: Member[], used: Set<Member>, extra: [string, string][]): Level {
    const member = pick(members, levelFields)
    const text = member ? this.#textOf(member) : this.#o.level
    if (text === undefined || text === '') return 'INFO'
    const level =
      (member && !isString(this.#body)(member) ? levelOfNumber(Number(text)) : undefined) ?? levelOfWord(text)
    if (member) used.add(member)
    if (level) return level
    extra.push(['severity_text', JSON.stringify(text.replaceAll('\0', '\u2400'))])
    return 'INFO'
  }

  /** Sets the moment: the line's own time, or the receipt when it has none, an unreadable one, or one too far ahead. */
  #time(members: Member[], used: Set<Member>, extra: [string, string][]): void {
    const { nowMs, rules, timeField } = this.#o
    const moment = this.#moment
    const member = pick(members, timeField === undefined ? timeFields : [timeField, ...timeFields])
    if (member && this.#readTime(member)) {
      used.add(member)
      if (compareToMs(moment, nowMs + rules.timestampFutureMaxMs) <= 0) return
      extra.push(['original_timestamp', JSON.stringify(formatMoment(moment.seconds, moment.nanos))])
    }
    this.#result.hasTimestamps = false
    moment.seconds = Math.floor(nowMs / 1_000)
    moment.nanos = (nowMs % 1_000) * 1_000_000
  }

  #readTime(member: Member): boolean {
    const body = this.#body
    const moment = this.#moment
    if (isString(body)(member)) {
      const [from, to] = [member.valueFrom + 1, member.to - 1]
      return (
        parseRfc3339(body, from, to, moment, body[from + 10] === 0x20 ? 0x20 : 0x54) ||
        readUnix(body.toString('latin1', from, to), moment)
      )
    }
    return readUnix(body.toString('latin1', member.valueFrom, member.to), moment)
  }

  /** The text of a string value, the JSON of any other. */
  #textOf(member: Member): string {
    const body = this.#body
    if (!isString(body)(member)) return body.toString('utf8', member.valueFrom, member.to)
    const raw = body.toString('utf8', member.valueFrom + 1, member.to - 1)
    return raw.includes('\\') ? String(JSON.parse(`"${raw}"`)).toWellFormed() : raw
  }
}

const isString = (body: Buffer) => (member: Member) => body[member.valueFrom] === 0x22

/** The member under the first of `names` that is there; of duplicates the last. */
function pick(
  members: readonly Member[],
  names: readonly string[],
  accepts: (member: Member) => boolean = () => true,
): Member | undefined {
  for (const name of names) {
    const found = members.findLast(member => member.key === name && accepts(member))
    if (found) return found
  }
  return undefined
}

/** Unix time in s, ms, µs or ns, told apart by magnitude; exact, so no double on the way. */
function readUnix(text: string, out: Moment): boolean {
  const match = /^(\d{1,19})(?:\.(\d{1,9})\d*)?$/.exec(text)
  if (!match) return false
  const [, whole = '', fraction = ''] = match
  const n = BigInt(whole)
  const perSecond =
    n < 100_000_000_000n
      ? 1n
      : n < 100_000_000_000_000n
        ? 1_000n
        : n < 100_000_000_000_000_000n
          ? 1_000_000n
          : 1_000_000_000n
  const nanosPerUnit = 1_000_000_000n / perSecond
  const nanos = n * nanosPerUnit + (BigInt(fraction.padEnd(9, '0')) * nanosPerUnit) / 1_000_000_000n
  out.seconds = Number(nanos / 1_000_000_000n)
  out.nanos = Number(nanos % 1_000_000_000n)
  return true
}

/** The longest start of `text` that has at most `bytesMax` bytes and ends between two characters. */
function cutAtCharacter(text: string, bytesMax: number): string {
  if (text.length * 3 <= bytesMax) return text
  const bytes = Buffer.from(text)
  if (bytes.length <= bytesMax) return text
  let end = bytesMax
  while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}
