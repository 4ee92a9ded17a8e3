// The native body, `{"log":ENTRY}` or `{"logs":[ENTRY,…]}`, straight from bytes into journal rows.
//
// The habits of the Go decoder that existing clients grew up with are kept: keys in any case, unknown keys ignored,
// the last duplicate wins, bytes after the first value ignored, null like absent. A syntax error anywhere in the value
// wins over a wrong type anywhere else, as there, because that decoder scanned the whole value first.

import { Buffer, isUtf8 } from 'node:buffer'
import {
  type IntakeRules,
  isServiceByte,
  metadataDepthMax,
  refusals,
  refuseTime,
  sanitizeService,
  serviceBytesMax,
  unknownService,
} from './intake-rules.ts'
import { Cursor, JsonSyntaxError } from './json/cursor.ts'
import { cleanMetadata, type Tally } from './json/metadata.ts'
import { keyEquals, stripControls, tokenText } from './json/text.ts'
import { nativeLevelIndex } from './level.ts'
import type { Piece, RecordBuilder } from './record.ts'
import { goZeroSeconds, type Moment, parseRfc3339 } from './rfc3339.ts'

/** How much is parsed before other work gets a turn. */
const yieldEveryBytes = 256 * 1024

/** The body cannot be read at all; `details` is for the sender. */
export class DecodeError extends Error {}

export class TooManyEntries extends Error {
  readonly entriesMax: number
  constructor(entriesMax: number) {
    super(`more than ${entriesMax} entries`)
    this.entriesMax = entriesMax
  }
}

export interface NativeOptions {
  shape: 'single' | 'batch'
  /** `whole`: an entry that cannot be decoded fails the request; `entry`: it fails alone. */
  errors: 'whole' | 'entry'
  rules: IntakeRules
  entriesMax: number
  nowMs: number
  tally: Tally
}

export interface NativeResult {
  /** Entries sent, good or bad. */
  total: number
  /** One sentence per refused entry, with its index from 0. */
  rejected: string[]
  /** Every entry named its own time: only then may an unmarked resend be recognised. */
  hasTimestamps: boolean
}

/** Parses `body` into `builder`, giving way every 256 KiB. Throws DecodeError or TooManyEntries. */
export function* decodeNative(body: Buffer, builder: RecordBuilder, o: NativeOptions): Generator<void, NativeResult> {
  const decoder = new NativeDecoder(body, builder, o)
  try {
    yield* decoder.run()
  } catch (error) {
    if (error instanceof JsonSyntaxError) throw new DecodeError(describe(error, decoder.entryIndex, o.shape))
    throw error
  }
  if (decoder.typeError !== null) throw new DecodeError(decoder.typeError)
  return decoder.result
}

function describe(error: JsonSyntaxError, entryIndex: number, shape: NativeOptions['shape']): string {
  if (error.isCut) return error.offset === -1 ? 'EOF' : 'unexpected EOF'
  const where = shape === 'batch' && entryIndex >= 0 ? ` (log entry ${entryIndex})` : ''
  return `invalid JSON at byte ${error.offset}${where}: ${error.message}`
}

class NativeDecoder {
  readonly result: NativeResult = { total: 0, rejected: [], hasTimestamps: true }
  /** The first wrong type; thrown only when the rest of the body is sound. */
  typeError: string | null = null
  entryIndex = -1
  readonly #cursor: Cursor
  readonly #body: Buffer
  readonly #builder: RecordBuilder
  readonly #o: NativeOptions
  readonly #isUtf8: boolean
  readonly #draft = new Draft()

  constructor(body: Buffer, builder: RecordBuilder, o: NativeOptions) {
    this.#body = body
    this.#builder = builder
    this.#o = o
    this.#cursor = new Cursor(body)
    this.#isUtf8 = isUtf8(body)
  }

  *run(): Generator<void, void> {
    const cursor = this.#cursor
    const c = cursor.peek()
    if (c === -1) throw new JsonSyntaxError('EOF', -1, true)
    if (c === 0xef) throw new JsonSyntaxError('found a byte order mark where a value should be', cursor.at)
    if (c !== 0x7b) {
      const offset = cursor.at
      cursor.skip()
      if (c !== 0x6e) this.typeError = `the body must be an object, found ${kindOf(c)} at byte ${offset}`
      return
    }
    const wanted = this.#o.shape === 'single' ? 'log' : 'logs'
    cursor.at++
    if (cursor.peek() === 0x7d) {
      cursor.at++
      return
    }
    for (;;) {
      cursor.key()
      if (keyEquals(this.#body, cursor.from, cursor.to, cursor.hasEscape, wanted)) {
        this.#startOver()
        if (wanted === 'log') this.#single()
        else yield* this.#batch()
      } else cursor.skip()
      const next = cursor.peek()
      if (next !== 0x2c && next !== 0x7d) throw cursor.unexpected('a comma or "}"')
      cursor.at++
      if (next === 0x7d) return
    }
  }

  /** The key came again: what its earlier value held does not count. */
  #startOver(): void {
    this.#builder.reset()
    this.result.total = 0
    this.result.rejected = []
    this.result.hasTimestamps = true
    this.typeError = null
  }

  #single(): void {
    this.entryIndex = 0
    this.#entry()
    this.entryIndex = -1
  }

  *#batch(): Generator<void, void> {
    const cursor = this.#cursor
    const c = cursor.peek()
    if (c !== 0x5b) {
      const offset = cursor.at
      cursor.skip()
      if (c !== 0x6e) this.typeError = `field "logs" must be an array, found ${kindOf(c)} at byte ${offset}`
      return
    }
    cursor.at++
    if (cursor.peek() === 0x5d) {
      cursor.at++
      return
    }
    let yieldedAt = cursor.at
    for (this.entryIndex = 0; ; this.entryIndex++) {
      if (this.entryIndex === this.#o.entriesMax) throw new TooManyEntries(this.#o.entriesMax)
      this.#entry()
      const next = cursor.peek()
      if (next !== 0x2c && next !== 0x5d) throw cursor.unexpected('a comma or "]"')
      cursor.at++
      if (next === 0x5d) break
      if (cursor.at - yieldedAt >= yieldEveryBytes) {
        yieldedAt = cursor.at
        yield
      }
    }
    this.entryIndex = -1
  }

  #entry(): void {
    const draft = this.#draft
    this.result.total++
    const undecodable = this.#read(draft)
    if (undecodable !== null) {
      if (this.#o.errors === 'entry' && this.#o.shape === 'batch')
        this.result.rejected.push(`Log entry ${this.entryIndex} could not be decoded: ${undecodable}`)
      else this.typeError ??= this.#o.shape === 'batch' ? `log entry ${this.entryIndex}: ${undecodable}` : undecodable
      return
    }
    const refused = this.#accept(draft)
    if (refused === null) return
    this.result.rejected.push(
      this.#o.shape === 'batch' ? `Log entry ${this.entryIndex} validation failed: ${refused}` : refused,
    )
  }

  /** Notes where each field is. Returns what makes the entry undecodable, after reading past it. */
  #read(draft: Draft): string | null {
    const cursor = this.#cursor
    const body = this.#body
    draft.clear()
    const c = cursor.peek()
    if (c !== 0x7b) {
      const offset = cursor.at
      cursor.skip()
      return c === 0x6e ? null : `an entry must be an object, found ${kindOf(c)} at byte ${offset}`
    }
    let problem: string | null = null
    cursor.at++
    if (cursor.peek() === 0x7d) {
      cursor.at++
      return null
    }
    for (;;) {
      cursor.key()
      const field = fieldOf(body, cursor.from, cursor.to, cursor.hasEscape)
      const first = cursor.peek()
      const offset = cursor.at
      if (field === null) cursor.skip()
      else if (field === 'metadata') {
        cursor.skip(this.#o.rules.redaction.watch)
        if (first === 0x7b) draft.setMetadata(offset, cursor.at, cursor.notes, cursor.deepest)
        else if (first === 0x6e) draft.metadataFrom = -1
        else problem ??= `field "metadata" must be an object or null, found ${kindOf(first)} at byte ${offset}`
      } else if (first === 0x22) {
        cursor.string()
        draft[field].set(cursor.from, cursor.to, cursor.hasEscape)
      } else {
        cursor.skip()
        if (first === 0x6e) draft[field].clear()
        else problem ??= `field "${field}" must be a string, found ${kindOf(first)} at byte ${offset}`
      }
      const next = cursor.peek()
      if (next !== 0x2c && next !== 0x7d) throw cursor.unexpected('a comma or "}"')
      cursor.at++
      if (next === 0x7d) break
    }
    const { timestamp } = draft
    if (timestamp.from >= 0 && !parseRfc3339(body, timestamp.from, timestamp.to, draft.moment))
      problem ??= `field "timestamp" must be an RFC 3339 time with its offset, such as 2026-01-02T15:04:05Z, at byte ${timestamp.from}`
    return problem
  }

  /** Checks the rules in their order and adds the row, or says which rule it breaks. */
  #accept(draft: Draft): string | null {
    const { rules, nowMs, tally } = this.#o
    const body = this.#body
    const { timestamp, service, level, message, moment } = draft

    if (timestamp.from < 0 || (moment.seconds === goZeroSeconds && moment.nanos === 0)) {
      this.result.hasTimestamps = false
      return refusals.timestampMissing
    }
    const late = refuseTime(moment, nowMs, rules)
    if (late !== null) return late

    let servicePiece: Piece = service
    let serviceOriginal: string | null = null
    if (service.from < 0 || service.from === service.to) return refusals.serviceMissing
    if (!this.#isClean(service) || !isServiceName(body, service.from, service.to)) {
      const name = this.#text(service)
      if (Buffer.byteLength(name) > serviceBytesMax) return refusals.serviceTooLong
      servicePiece = sanitizeService(name)
      if (servicePiece === '') {
        servicePiece = unknownService
        serviceOriginal = name
      }
      if (name.includes('\0')) tally.nul++
    } else if (service.to - service.from > serviceBytesMax) return refusals.serviceTooLong
    else service.bytes = body

    const levelIndex = level.from < 0 ? -1 : this.#level(level)
    if (levelIndex < 0) return refusals.level(level.from < 0 ? '' : this.#text(level))

    let messagePiece: Piece = message
    if (message.from < 0 || message.from === message.to) return refusals.messageMissing
    if (this.#isClean(message)) {
      if (message.to - message.from > rules.messageBytesMax) return refusals.messageTooLong(rules.messageBytesMax)
      message.bytes = body
    } else {
      const text = this.#text(message)
      if (Buffer.byteLength(text) > rules.messageBytesMax) return refusals.messageTooLong(rules.messageBytesMax)
      messagePiece = stripControls(text)
    }

    let metadataPiece: Piece | null = null
    if (draft.metadataFrom >= 0) {
      if (draft.metadataDepth > metadataDepthMax) return refusals.metadataTooDeep
      if (draft.metadata.to - draft.metadataFrom > rules.metadataBytesMax)
        return refusals.metadataTooLarge(rules.metadataBytesMax)
      if (draft.metadataNotes === 0 && this.#isUtf8) {
        metadataPiece = draft.metadata
        draft.metadata.bytes = body
      } else {
        const text = body.toString('utf8', draft.metadataFrom, draft.metadata.to)
        metadataPiece = cleanMetadata(text, rules.redaction, tally)
      }
    }
    if (serviceOriginal !== null) {
      const metadata = metadataPiece === null ? null : pieceText(metadataPiece, body)
      metadataPiece = withMember(metadata, 'service_original', serviceOriginal.replaceAll('\0', '\u2400'))
    }

    this.#builder.row(moment.seconds, moment.nanos, levelIndex, servicePiece, messagePiece, metadataPiece)
    return null
  }

  #isClean(token: Token): boolean {
    return !token.hasEscape && this.#isUtf8
  }

  #text(token: Token): string {
    return tokenText(this.#body, token.from, token.to, token.hasEscape)
  }

  #level(token: Token): number {
    if (!token.hasEscape) return nativeLevelIndex(this.#body, token.from, token.to)
    const decoded = Buffer.from(this.#text(token))
    return nativeLevelIndex(decoded, 0, decoded.length)
  }
}

/** Where a string is in the body; also the piece that the journal copies it from. */
class Token {
  bytes: Buffer = nothing
  from = -1
  to = -1
  hasEscape = false

  set(from: number, to: number, hasEscape: boolean): void {
    this.from = from
    this.to = to
    this.hasEscape = hasEscape
  }

  clear(): void {
    this.from = -1
  }
}

const nothing = Buffer.alloc(0)

/** One entry as found in the body; reused for all entries of a request. */
class Draft {
  readonly timestamp = new Token()
  readonly service = new Token()
  readonly level = new Token()
  readonly message = new Token()
  readonly metadata = new Token()
  readonly moment: Moment = { seconds: 0, nanos: 0 }
  metadataFrom = -1
  metadataNotes = 0
  metadataDepth = 0

  clear(): void {
    this.timestamp.clear()
    this.service.clear()
    this.level.clear()
    this.message.clear()
    this.metadataFrom = -1
  }

  setMetadata(from: number, to: number, notes: number, depth: number): void {
    this.metadataFrom = from
    this.metadata.set(from, to, false)
    this.metadataNotes = notes
    this.metadataDepth = depth
  }
}

const fields = ['timestamp', 'service', 'level', 'message', 'metadata'] as const
type Field = (typeof fields)[number]

/** By length: most keys are written as they are meant, and no other field is as long. */
const fieldsOfLength: readonly (readonly Field[])[] = Array.from({ length: 10 }, (_, length) =>
  fields.filter(field => field.length === length),
)

function fieldOf(body: Buffer, from: number, to: number, hasEscape: boolean): Field | null {
  const likely = fieldsOfLength[to - from]
  if (likely !== undefined)
    for (let i = 0; i < likely.length; i++) if (isWritten(body, from, likely[i] as Field)) return likely[i] as Field
  for (const field of fields) if (keyEquals(body, from, to, hasEscape, field)) return field
  return null
}

function isWritten(body: Buffer, from: number, word: string): boolean {
  for (let i = 0; i < word.length; i++) if (body[from + i] !== word.charCodeAt(i)) return false
  return true
}

function isServiceName(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (!isServiceByte(bytes[i] as number)) return false
  return true
}

function pieceText(piece: Piece, body: Buffer): string {
  return typeof piece === 'string' ? piece : body.toString('utf8', piece.from, piece.to)
}

/** The object text with one more member at its end, where the last duplicate wins. */
export function withMember(object: string | null, key: string, value: string): string {
  const member = `${JSON.stringify(key)}:${JSON.stringify(value)}`
  if (object === null) return `{${member}}`
  const open = object.slice(0, object.lastIndexOf('}')).trimEnd()
  return open.endsWith('{') && open.length === 1 ? `{${member}}` : `${open},${member}}`
}

function kindOf(first: number): string {
  switch (first) {
    case 0x7b:
      return 'an object'
    case 0x5b:
      return 'an array'
    case 0x22:
      return 'a string'
    case 0x74:
    case 0x66:
      return 'a boolean'
    case 0x6e:
      return 'null'
    default:
      return 'a number'
  }
}
