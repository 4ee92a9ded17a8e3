// Where every protocol but the native one ends: an entry as it was understood becomes a row, by rules they all share.
//
// Nothing is refused that can be kept. Messages are cut and marked, times far ahead are replaced by the receipt and kept
// beside it, names lose control characters. Refused are only metadata that no database takes, and times that have
// outlived the tenant's retention.

import { Buffer } from 'node:buffer'
import {
  compareToMs,
  type IntakeRules,
  metadataDepthMax,
  refusals,
  serviceBytesMax,
  unknownService,
} from './intake-rules.ts'
import { cleanMetadata, type Tally } from './json/metadata.ts'
import { stripControls } from './json/text.ts'
import { type Level, levelIndex } from './level.ts'
import { TooManyEntries } from './native.ts'
import type { RecordBuilder } from './record.ts'
import { formatMoment, goZeroSeconds, type Moment } from './rfc3339.ts'

export interface EntryOptions {
  rules: IntakeRules
  lineBytesMax: number
  entriesMax: number
  nowMs: number
  tally: Tally
  /** Undefined: kept for ever. */
  oldestAllowedMs: number | undefined
}

export interface Entry {
  message: string
  service: string
  level: Level
  /** The entry's own time, or null: then it is the receipt. */
  time: Moment | null
  /** Texts `"key":value`, to become one object; `metadata` adds to them. */
  members: string[]
  /** Whether a key, an escape or a number among the members may have to be changed. */
  isSuspect: boolean
  /** Nesting of the deepest member. */
  deepest: number
  /** Of the message's end, gone before it got here. */
  lostBytes?: number
}

/** The years 1 to 9999: what RFC 3339 can write. */
const secondsMin = goZeroSeconds
const secondsMax = 253_402_300_799

export class EntryWriter {
  /** Entries sent, good or bad. */
  total = 0
  rejectedCount = 0
  /** Times that were too far ahead. */
  movedCount = 0
  hasTimestamps = true
  readonly #builder: RecordBuilder
  readonly #o: EntryOptions
  readonly #receipt: Moment

  constructor(builder: RecordBuilder, o: EntryOptions) {
    this.#builder = builder
    this.#o = o
    const seconds = Math.floor(o.nowMs / 1_000)
    this.#receipt = { seconds, nanos: Math.floor((o.nowMs - seconds * 1_000) * 1_000_000) }
  }

  /** Before an entry is looked at. */
  count(): void {
    if (this.total++ === this.#o.entriesMax) throw new TooManyEntries(this.#o.entriesMax)
  }

  /** Adds the row, or says why not. */
  add(entry: Entry): string | null {
    const refused = this.#add(entry)
    if (refused !== null) this.rejectedCount++
    return refused
  }

  #add({ message, service, level, time, members, isSuspect, deepest, lostBytes = 0 }: Entry): string | null {
    const { rules, lineBytesMax, tally } = this.#o
    const extra: string[] = []
    const moment = this.#moment(time, extra)
    if (typeof moment === 'string') return moment

    let text = stripControls(message)
    const messageBytes = Buffer.byteLength(text) + lostBytes
    if (messageBytes > lineBytesMax) {
      text = cutAtCharacter(text, lineBytesMax)
      extra.push(`"_truncated_from_bytes":${messageBytes}`)
    }

    if (deepest >= metadataDepthMax) return refusals.metadataTooDeep
    let metadata: string | null = null
    if (members.length + extra.length > 0) {
      metadata = `{${[...members, ...extra].join(',')}}`
      if (Buffer.byteLength(metadata) > rules.metadataBytesMax) return refusals.metadataTooLarge(rules.metadataBytesMax)
      if (isSuspect) metadata = cleanMetadata(metadata, rules.redaction, tally)
    }
    this.#builder.row(moment.seconds, moment.nanos, levelIndex(level), serviceName(service), text, metadata)
    return null
  }

  #moment(time: Moment | null, extra: string[]): Moment | string {
    const { nowMs, rules, oldestAllowedMs } = this.#o
    if (time === null) {
      this.hasTimestamps = false
      return this.#receipt
    }
    if (time.seconds < secondsMin || time.seconds > secondsMax) {
      extra.push(`"original_timestamp":"${time.seconds}"`)
      return this.#moved()
    }
    if (oldestAllowedMs !== undefined && compareToMs(time, oldestAllowedMs) < 0)
      return refusals.outlived(formatMoment(time.seconds, time.nanos), oldestAllowedMs)
    if (compareToMs(time, nowMs + rules.timestampFutureMaxMs) <= 0) return time
    extra.push(`"original_timestamp":${JSON.stringify(formatMoment(time.seconds, time.nanos))}`)
    return this.#moved()
  }

  #moved(): Moment {
    this.movedCount++
    this.hasTimestamps = false
    return this.#receipt
  }
}

/** Names keep their characters here; only controls go, and what is beyond 255 bytes. */
export function serviceName(raw: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: controls are what is removed
  const clean = raw.toWellFormed().replaceAll(/[\u0000-\u001f\u007f]/g, '')
  return cutAtCharacter(clean, serviceBytesMax) || unknownService
}

/** The longest start of `text` that has at most `bytesMax` bytes and ends between two characters. */
export function cutAtCharacter(text: string, bytesMax: number): string {
  if (text.length * 3 <= bytesMax) return text
  const bytes = Buffer.from(text)
  if (bytes.length <= bytesMax) return text
  let end = bytesMax
  while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}
