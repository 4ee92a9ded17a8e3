// OpenTelemetry's log intake over HTTP; rpc/otlp.ts brings the same message by gRPC.

import { Buffer } from 'node:buffer'
import { protocolCredential } from '../access/credentials.ts'
import { EntryWriter } from '../entry-writer.ts'
import { JsonSyntaxError } from '../json/cursor.ts'
import { DecodeError } from '../native.ts'
import { encodeFields, WireError, WireReader } from '../wire/protobuf.ts'
import { TooDeep } from './otlp-entry.ts'
import { decodeJson } from './otlp-json.ts'
import { decodeProtobuf } from './otlp-protobuf.ts'
import { type Answer, type Fault, type IntakeRoute, Refusal, type Target } from './protocol.ts'

const protobufType = 'application/x-protobuf'

export const exportLogs = (label: string): IntakeRoute => ({
  protocol: 'otlp',
  label,
  methods: ['POST'],
  credential: protocolCredential,
  *decode(target, body, builder, o) {
    const encoding = encodingOf(target)
    if (encoding === 'other')
      throw new Refusal({
        kind: 'mediaType',
        status: 415,
        detail: `Content-Type ${JSON.stringify(typeOf(target).slice(0, 60))} is not one of ${protobufType}, application/json`,
      })
    const writer = new EntryWriter(builder, o)
    const reasons = new Set<string>()
    const refused = (why: string) => {
      if (reasons.size < 5) reasons.add(why)
    }
    try {
      if (encoding === 'json') yield* decodeJson(body, writer, o.rules.redaction, refused)
      else yield* decodeProtobuf(new WireReader(body), writer, o.rules.redaction, refused)
    } catch (error) {
      if (error instanceof JsonSyntaxError)
        throw new DecodeError(`invalid JSON at byte ${error.offset}: ${error.message}`)
      if (error instanceof WireError) throw new DecodeError(`invalid protobuf: ${error.message}`)
      // Of a resource or a scope: there is no telling its records from it.
      if (error instanceof TooDeep) throw new DecodeError(error.message)
      throw error
    }
    const { total, rejectedCount, movedCount, hasTimestamps } = writer
    if (movedCount > 0)
      reasons.add(
        `${movedCount} records had a time too far ahead; they are stored under the time of receipt, with original_timestamp`,
      )
    return {
      total,
      rejectedCount,
      hasTimestamps,
      answer: () => success(target, rejectedCount, [...reasons].join('; ')),
    }
  },
  fault: faultAnswer,
})

function typeOf({ headers }: Target): string {
  return (headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''
}

/** Senders that say nothing send protobuf, the default of the protocol. */
function encodingOf(target: Target): 'json' | 'protobuf' | 'other' {
  const type = typeOf(target)
  if (type === 'application/json') return 'json'
  return type === '' || type === protobufType || type === 'application/protobuf' ? 'protobuf' : 'other'
}

/** Empty, unless something was refused or has to be said. */
function success(target: Target, rejectedCount: number, message: string): Answer {
  const isSilent = message === ''
  if (encodingOf(target) === 'json')
    return {
      status: 200,
      body: isSilent
        ? '{}'
        : JSON.stringify({ partialSuccess: { rejectedLogRecords: String(rejectedCount), errorMessage: message } }),
      headers: { 'Content-Type': 'application/json' },
    }
  const partial = encodeFields([...(rejectedCount === 0 ? [] : [[1, BigInt(rejectedCount)] as const]), [2, message]])
  return {
    status: 200,
    body: isSilent ? Buffer.alloc(0) : encodeFields([[1, partial]]),
    headers: { 'Content-Type': protobufType },
  }
}

/** google.rpc.Code */
const codes: Readonly<Record<Fault['kind'], number>> = {
  keyMissing: 16,
  keyInvalid: 16,
  rateLimited: 8,
  overloaded: 14,
  malformed: 3,
  tooLarge: 8,
  encoding: 3,
  mediaType: 3,
  method: 12,
  conflict: 6,
  internal: 13,
}

/** google.rpc.Status: code=1, message=2. */
function faultAnswer({ kind, status, detail }: Fault, target: Target): Answer {
  const code = codes[kind]
  const allow = kind === 'method' ? { Allow: 'POST' } : {}
  if (encodingOf(target) === 'protobuf' && typeOf(target) !== '')
    return {
      status,
      body: encodeFields([
        [1, BigInt(code)],
        [2, detail],
      ]),
      headers: { 'Content-Type': protobufType, ...allow },
    }
  return {
    status,
    body: JSON.stringify({ code, message: detail }),
    headers: { 'Content-Type': 'application/json', ...allow },
  }
}
