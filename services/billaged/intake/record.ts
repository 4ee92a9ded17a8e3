import type { UsageEvent } from '../events/cloud-event.ts'
import type { Part } from '../samples/part.ts'
import { summaryBytes } from '../samples/summary.ts'

// What one acknowledged request is in the journal: a version byte, then its facts. A fact is a kind byte, a length and
// a body; texts are UTF-8 with a length before them, integers 8 bytes big-endian. One request is one journal payload,
// so all of it is durable or none of it is.

export type Fact =
  | { kind: 'samples'; customerId: string; vmId: string; part: Part }
  | { kind: 'mark'; customerId: string | null; vmId: string; mark: MarkKind; atNs: bigint; untilNs: bigint | null }
  | { kind: 'heartbeat'; instanceId: string; atNs: bigint; vmIds: readonly string[] }
  | { kind: 'event'; event: UsageEvent; receivedNs: bigint }
  | { kind: 'aside'; aside: Aside }

export type MarkKind = 'start' | 'stop' | 'gap'

/** Valid but doubtful: kept for a person to decide about, never billed by itself. `payload` is JSON text. */
export interface Aside {
  what: (typeof asideKinds)[number]
  customerId: string | null
  vmId: string | null
  reason: AsideReason
  receivedNs: bigint
  payload: string
}

export type AsideReason = (typeof reasons)[number]

export class CorruptRecord extends Error {
  override name = 'CorruptRecord'
}

export function encodeRecord(facts: readonly Fact[]): Buffer {
  const writer: Writer = { out: Buffer.allocUnsafe(facts.length > 1 ? 256 * facts.length : 512), at: 0 }
  writer.at = reserve(writer, 1).writeUInt8(version, 0)
  for (const fact of facts) {
    const begin = writer.at + 5
    const kind = fact.kind === 'samples' && fact.part.summary !== undefined ? 'summarised' : fact.kind
    writer.at = reserve(writer, 5).writeUInt8(kinds.indexOf(kind), writer.at) + 4
    writeFact(writer, fact)
    writer.out.writeUInt32BE(writer.at - begin, begin - 4)
  }
  return Buffer.from(writer.out.subarray(0, writer.at))
}

/** Bytes before the part in a record's fact, texts apart: kind, length, two text lengths, four integers. */
const samplesHeadBytes = 5 + 2 * 4 + 4 * 8 + summaryBytes

/** `encodeRecord` of facts about one series, for the fast way in: `writeBody` puts each part's body where it belongs and
 *  returns its end, `writeSummary` its summary and returns whether it has one. `out` has room for them. Returns the record,
 *  which shares no memory with `out`. */
export function encodeSamplesRecord(
  out: Buffer,
  customerId: string,
  vmId: string,
  parts: readonly {
    hour: number
    count: number
    minNs: bigint
    maxNs: bigint
    writeSummary(at: number): boolean
    writeBody(at: number): number
  }[],
): Buffer {
  out[0] = version
  let at = 1
  for (const { hour, count, minNs, maxNs, writeSummary, writeBody } of parts) {
    const begin = at + 5
    const kindAt = at
    at = writeText(out, begin, customerId)
    at = writeText(out, at, vmId)
    at = out.writeInt32BE(0, at)
    at = out.writeInt32BE(hour, at)
    at = out.writeInt32BE(0, at)
    at = out.writeInt32BE(count, at)
    at = out.writeBigInt64BE(minNs, at)
    at = out.writeBigInt64BE(maxNs, at)
    const hasSummary = writeSummary(at)
    out[kindAt] = kinds.indexOf(hasSummary ? 'summarised' : 'samples')
    at = writeBody(hasSummary ? at + summaryBytes : at)
    out.writeUInt32BE(at - begin, begin - 4)
  }
  return Buffer.from(out.subarray(0, at))
}

/** Room that a record of so many parts takes beside their bodies. */
export function recordHeadBytesMax(parts: number, idBytes: number): number {
  return 1 + parts * (samplesHeadBytes + idBytes)
}

function writeText(out: Buffer, at: number, value: string): number {
  const length = out.write(value, at + 4)
  out.writeUInt32BE(length, at)
  return at + 4 + length
}

/** Throws CorruptRecord on bytes that `encodeRecord` did not write. */
export function decodeRecord(payload: Buffer): Fact[] {
  if (payload[0] !== version) throw new CorruptRecord(`journal record of version ${payload[0]}; this reads ${version}`)
  const facts: Fact[] = []
  for (let at = 1; at < payload.length; ) {
    const kind = kinds[payload[at] ?? kinds.length]
    const length = at + 5 <= payload.length ? payload.readUInt32BE(at + 1) : Number.POSITIVE_INFINITY
    if (kind === undefined || at + 5 + length > payload.length) throw new CorruptRecord(`no fact at byte ${at}`)
    const reader = { body: payload.subarray(at + 5, at + 5 + length), at: 0 }
    facts.push(readFact(kind, reader))
    if (reader.at !== length) throw new CorruptRecord(`the fact at byte ${at} is longer than its content`)
    at += 5 + length
  }
  return facts
}

const version = 1
/** The order is the wire: append only. */
const kinds = ['samples', 'mark', 'heartbeat', 'event', 'aside', 'summarised'] as const
const marks = ['start', 'stop', 'gap'] as const
const asideKinds = ['sample', 'event', 'mark'] as const
const reasons = ['no_timestamp', 'before_2000', 'too_far_ahead', 'too_old', 'expired'] as const

interface Writer {
  out: Buffer
  at: number
}

/** The buffer, with room for so many bytes more. */
function reserve(writer: Writer, bytes: number): Buffer {
  if (writer.at + bytes > writer.out.length) {
    const larger = Buffer.allocUnsafe(Math.max(2 * writer.out.length, writer.at + bytes))
    writer.out.copy(larger, 0, 0, writer.at)
    writer.out = larger
  }
  return writer.out
}

function writeFact(writer: Writer, fact: Fact) {
  switch (fact.kind) {
    case 'samples': {
      const { part } = fact
      text(writer, fact.customerId)
      text(writer, fact.vmId)
      for (const value of [BigInt(part.hour), BigInt(part.count), part.minNs, part.maxNs]) integer(writer, value)
      if (part.summary !== undefined) bytes(writer, part.summary)
      return bytes(writer, part.body)
    }
    case 'mark':
      optional(writer, fact.customerId)
      text(writer, fact.vmId)
      byte(writer, marks.indexOf(fact.mark))
      integer(writer, fact.atNs)
      byte(writer, fact.untilNs === null ? 0 : 1)
      return fact.untilNs === null ? undefined : integer(writer, fact.untilNs)
    case 'heartbeat':
      text(writer, fact.instanceId)
      integer(writer, fact.atNs)
      integer(writer, BigInt(fact.vmIds.length))
      for (const vmId of fact.vmIds) text(writer, vmId)
      return
    case 'event': {
      const { event } = fact
      for (const value of [event.source, event.id, event.type]) text(writer, value)
      optional(writer, event.subject)
      integer(writer, event.atNs)
      byte(writer, event.hasTime ? 1 : 0)
      integer(writer, fact.receivedNs)
      return text(writer, JSON.stringify(event.data))
    }
    case 'aside': {
      const { aside } = fact
      byte(writer, asideKinds.indexOf(aside.what))
      byte(writer, reasons.indexOf(aside.reason))
      optional(writer, aside.customerId)
      optional(writer, aside.vmId)
      integer(writer, aside.receivedNs)
      return text(writer, aside.payload)
    }
    default:
      return fact satisfies never
  }
}

function text(writer: Writer, value: string) {
  // No UTF-16 unit takes more than three bytes.
  const out = reserve(writer, 4 + 3 * value.length)
  const length = out.write(value, writer.at + 4)
  writer.at = out.writeUInt32BE(length, writer.at) + length
}

function optional(writer: Writer, value: string | null) {
  byte(writer, value === null ? 0 : 1)
  if (value !== null) text(writer, value)
}

function byte(writer: Writer, value: number) {
  writer.at = reserve(writer, 1).writeUInt8(value, writer.at)
}

function integer(writer: Writer, value: bigint) {
  writer.at = reserve(writer, 8).writeBigInt64BE(value, writer.at)
}

function bytes(writer: Writer, value: Buffer) {
  reserve(writer, value.length).set(value, writer.at)
  writer.at += value.length
}

interface Reader {
  readonly body: Buffer
  at: number
}

function readFact(kind: (typeof kinds)[number], reader: Reader): Fact {
  switch (kind) {
    case 'samples':
    case 'summarised': {
      const [customerId, vmId] = [readText(reader), readText(reader)]
      const [hour, count] = [Number(readInteger(reader)), Number(readInteger(reader))]
      const [minNs, maxNs] = [readInteger(reader), readInteger(reader)]
      const summary = kind === 'summarised' ? { summary: take(reader, summaryBytes) } : {}
      const body = take(reader, reader.body.length - reader.at)
      return { kind: 'samples', customerId, vmId, part: { hour, count, minNs, maxNs, body, ...summary } }
    }
    case 'mark': {
      const [customerId, vmId] = [readOptional(reader), readText(reader)]
      const mark = readOne(reader, marks)
      const atNs = readInteger(reader)
      return { kind, customerId, vmId, mark, atNs, untilNs: take(reader, 1)[0] === 1 ? readInteger(reader) : null }
    }
    case 'heartbeat': {
      const [instanceId, atNs] = [readText(reader), readInteger(reader)]
      const count = Number(readInteger(reader))
      if (count > reader.body.length) throw new CorruptRecord(`a heartbeat claims ${count} VMs`)
      return { kind, instanceId, atNs, vmIds: Array.from({ length: count }, () => readText(reader)) }
    }
    case 'event': {
      const [source, id, type] = [readText(reader), readText(reader), readText(reader)]
      const subject = readOptional(reader)
      const atNs = readInteger(reader)
      const hasTime = take(reader, 1)[0] === 1
      const receivedNs = readInteger(reader)
      const data = JSON.parse(readText(reader))
      return { kind, event: { source, id, type, subject, atNs, hasTime, data }, receivedNs }
    }
    case 'aside': {
      const what = readOne(reader, asideKinds)
      const reason = readOne(reader, reasons)
      const [customerId, vmId] = [readOptional(reader), readOptional(reader)]
      const receivedNs = readInteger(reader)
      return { kind, aside: { what, customerId, vmId, reason, receivedNs, payload: readText(reader) } }
    }
    default:
      return kind satisfies never
  }
}

function take(reader: Reader, length: number): Buffer {
  if (reader.at + length > reader.body.length) throw new CorruptRecord('a fact ends inside a field')
  reader.at += length
  return reader.body.subarray(reader.at - length, reader.at)
}

function readText(reader: Reader): string {
  return take(reader, take(reader, 4).readUInt32BE()).toString()
}

function readOptional(reader: Reader): string | null {
  return take(reader, 1)[0] === 1 ? readText(reader) : null
}

function readInteger(reader: Reader): bigint {
  return take(reader, 8).readBigInt64BE()
}

function readOne<const T extends string>(reader: Reader, words: readonly T[]): T {
  const word = words[take(reader, 1)[0] ?? words.length]
  if (word === undefined) throw new CorruptRecord('a fact holds an unknown word')
  return word
}
